"""The sources by name: digits, the CIFAR sets, Tiny ImageNet in its official layout, any folder of images.

A folder has `train/CLASS/…` with `test/CLASS/…`, or one tree `CLASS/…`. Tiny ImageNet: 200 classes, 64 x 64 pixels.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path, PurePath
from typing import TYPE_CHECKING, Any

import numpy as np

from bundle.images.container import FORMATS
from bundle.images.decoding import describe_rule
from pipeline.data.image_files import (
    Layout,
    all_files,
    describe_decoding,
    linked_folders,
    listed,
    read_images,
    read_layout,
    reason_left_out,
    resize_rule,
)
from pipeline.data.split import DataError, ImageSet, Split, hold_out_test
from pipeline.params import DataSettings

if TYPE_CHECKING:
    from torchvision.datasets import CIFAR10

FOLDER = "tiny-imagenet-200"
SIDE = 64
#: Names of image files by split ("" without splits) and class.
Names = dict[tuple[str, str], list[str]]


def read_tiny_imagenet(settings: DataSettings) -> ImageSet:
    """Reads data.path, which is tiny-imagenet-200 or holds it; nothing is downloaded.

    The labels of the official test images were never published, so that the official validation images are the test
    split, as in the literature. Raises DataError for files that are missing or cannot be read.
    """
    root = _root(Path(settings.path).expanduser())
    wnids = (root / "wnids.txt").read_text(encoding="utf-8").split()
    return ImageSet(
        train=_train(root, wnids),
        test=_validation(root, wnids),
        classes=_class_names(root, wnids),
        source="Tiny ImageNet (Stanford CS231N), 200 classes of ImageNet at 64 x 64 pixels",
        licence="ImageNet terms of access: research and education, not commercial",
        preprocessing=describe_decoding(SIDE, 3),
        decoding=describe_rule(),
        test_origin="official validation split (the labels of the official test split are not public)",
    )


def _root(path: Path) -> Path:
    for root in (path, path / FOLDER):
        needed = (root / "wnids.txt", root / "train", root / "val" / "val_annotations.txt")
        if all(entry.exists() for entry in needed):
            return root
    raise DataError(
        f"{path}: holds no Tiny ImageNet; unpack tiny-imagenet-200.zip there, so that {path / FOLDER} has wnids.txt, "
        "train and val/val_annotations.txt, or set data.path to the folder that holds it"
    )


def _train(root: Path, wnids: list[str]) -> Split:
    names, labels = [], []
    for label, wnid in enumerate(wnids):
        files = sorted((root / "train" / wnid / "images").glob("*.JPEG"))
        if not files:
            raise DataError(f"{root}: train/{wnid}/images has no JPEG file; unpack tiny-imagenet-200.zip again")
        names += [file.relative_to(root).as_posix() for file in files]
        labels += [label] * len(files)
    return _read(root, names, labels)


def _validation(root: Path, wnids: list[str]) -> Split:
    """The images in the order of val_annotations.txt: file name, wnid and box, separated by tabs."""
    label_of = {wnid: label for label, wnid in enumerate(wnids)}
    names, labels = [], []
    for number, line in enumerate((root / "val" / "val_annotations.txt").read_text(encoding="utf-8").splitlines(), 1):
        name, _, rest = line.partition("\t")
        wnid = rest.partition("\t")[0]
        if wnid not in label_of:
            raise DataError(
                f"{root / 'val' / 'val_annotations.txt'}: line {number} has no class of wnids.txt: {line!r}"
            )
        names.append(f"val/images/{name}")
        labels.append(label_of[wnid])
    return _read(root, names, labels)


def _read(root: Path, names: list[str], labels: list[int]) -> Split:
    return Split(read_images(root, names, SIDE, 3), np.array(labels, dtype=np.int64))


def _class_names(root: Path, wnids: list[str]) -> list[str]:
    """The words of words.txt, with the wnid where two classes share them; the wnid where there are none."""
    words = root / "words.txt"
    lines = words.read_text(encoding="utf-8").splitlines() if words.is_file() else []
    known = dict(line.split("\t", 1) for line in lines if "\t" in line)
    names = [known.get(wnid, wnid) for wnid in wnids]
    times = Counter(names)
    return [name if times[name] == 1 else f"{name} ({wnid})" for name, wnid in zip(names, wnids, strict=True)]


def read_source(settings: DataSettings) -> ImageSet:
    """Reads the data set that `settings.name` says, whole; raises DataError where it is not there or not usable."""
    return SOURCES[settings.name](settings)


def read_digits(settings: DataSettings) -> ImageSet:
    """The 1,797 handwritten digits that scikit-learn carries, 8 x 8 pixels, one channel.

    Their values 0 to 16 become round(v * 255 / 16), which is exact to invert: v = round(u * 16 / 255).
    """
    from sklearn.datasets import load_digits  # half a second that other sources need not take

    values, labels = load_digits(return_X_y=True)
    images = np.rint(np.reshape(values, (-1, 8, 8, 1)) * 255 / 16).astype(np.uint8)
    whole = Split(images, np.asarray(labels, dtype=np.int64))
    train, test, train_origin, test_origin = hold_out_test(whole, settings)
    return ImageSet(
        train=train,
        test=test,
        classes=[str(digit) for digit in range(10)],
        source="Optical Recognition of Handwritten Digits (UCI), the copy in scikit-learn",
        licence="CC BY 4.0",
        preprocessing="values 0 to 16 times 255 / 16, rounded",
        train_origin=train_origin,
        test_origin=test_origin,
    )


def read_cifar10(settings: DataSettings) -> ImageSet:
    """CIFAR-10 (Krizhevsky 2009): 50,000 and 10,000 images, 32 x 32 pixels, RGB."""
    from torchvision.datasets import CIFAR10  # more than a second, torch's compiler with it

    return _read_cifar(CIFAR10, settings, "CIFAR-10 (Krizhevsky 2009), the Python version")


def read_cifar100(settings: DataSettings) -> ImageSet:
    """CIFAR-100 (Krizhevsky 2009) with its fine labels: 50,000 and 10,000 images, 32 x 32 pixels, RGB."""
    from torchvision.datasets import CIFAR100

    return _read_cifar(CIFAR100, settings, "CIFAR-100 (Krizhevsky 2009), the Python version, fine labels")


def _read_cifar(dataset: type[CIFAR10], settings: DataSettings, source: str) -> ImageSet:
    folder = Path(settings.path).expanduser()
    folder = folder.parent if folder.name == dataset.base_folder else folder
    train, test = _open_cifar(dataset, folder, train=True), _open_cifar(dataset, folder, train=False)
    return ImageSet(
        train=_cifar_split(train),
        test=_cifar_split(test),
        classes=list(train.classes),
        source=source,
        licence="not stated by the authors",
        preprocessing=None,
    )


def _open_cifar(dataset: type[CIFAR10], folder: Path, *, train: bool) -> CIFAR10:
    """Uses the files that are there, or downloads them; torchvision checks every file's MD5 before it unpickles it."""
    there = folder / dataset.base_folder
    download = not there.exists()
    try:
        return dataset(folder, train=train, download=download)
    except (RuntimeError, OSError) as error:
        if not download:
            raise DataError(
                f"{there}: files are missing or differ from the published ones (MD5); remove the folder and it is "
                f"downloaded again, or unpack {dataset.filename} once more"
            ) from None
        raise DataError(
            f"{there}: is not there and cannot be downloaded ({' '.join(str(error).split())}); unpack {dataset.url} so "
            f"that {folder} holds the folder {dataset.base_folder}, or set data.path to the folder that holds it"
        ) from None


def _cifar_split(dataset: CIFAR10) -> Split:
    return Split(np.ascontiguousarray(dataset.data), np.array(dataset.targets, dtype=np.int64))


def read_image_folder(settings: DataSettings) -> ImageSet:
    """Reads data.path; folders below a class count for it, classes and files are in the order of their names.

    image_files.py says what is read, which links are followed and which folders are splits. Raises DataError for a layout
    that cannot be understood, a class without images, and files that cannot be read.
    """
    if settings.image_size is None or settings.channels is None:
        raise DataError("data: name folder needs image_size and channels")
    path = Path(settings.path).expanduser()
    if not path.is_dir():
        raise DataError(f"{path}: is not a folder; data.path must name the folder that holds the images")
    files = all_files(path)
    layout = read_layout(path, settings.test_folder)
    names, not_read = _sorted_out(layout, path, [file for file in files if file != PurePath(settings.extra or "")])
    if links := linked_folders(path, files):
        # `dvc repro` hashes files behind links to files, but does not look into folders behind links.
        print(f"{path}: {listed(links, 'folder')}: links, behind which DVC sees no change: dvc repro --force prepare")
    folders = layout.splits or {"whole": ""}
    splits = {
        split: _read_split(layout, folder, names, settings.image_size, settings.channels)
        for split, folder in folders.items()
    }
    return ImageSet(
        classes=layout.classes,
        licence="unknown",
        preprocessing=describe_decoding(settings.image_size, settings.channels),
        resize=resize_rule(settings.image_size),
        decoding=describe_rule(),
        not_read=dict(sorted(not_read.items())),
        **_described(layout, splits, settings),
    )


def _described(layout: Layout, splits: Mapping[str, Split], settings: DataSettings) -> dict[str, Any]:
    """The fields of an ImageSet that depend on whether there are folders of splits."""
    if not layout.splits:
        train, test, train_origin, test_origin = hold_out_test(splits["whole"], settings)
        return {
            "train": train,
            "test": test,
            "source": "image folder",
            "train_origin": train_origin,
            "test_origin": test_origin,
        }
    origins = {f"{split}_origin": f"the folder {name}" for split, name in layout.splits.items()}
    if "train" not in splits:  # enough where nothing is trained; prepare_data refuses it elsewhere
        splits, origins = {**splits, "train": splits["test"].take(np.arange(0))}, {**origins, "train_origin": "none"}
    return {**splits, "source": f"image folder with {', '.join(layout.splits.values())}", **origins}


def _sorted_out(layout: Layout, path: Path, files: Iterable[PurePath]) -> tuple[Names, Counter[str]]:
    """The image files among those below `path`, relative to the layout's root, and how many others are not read, by reason."""
    names: Names = {}
    not_read: Counter[str] = Counter()
    inner = PurePath(layout.root.relative_to(path))
    for file in files:
        reason = reason_left_out(path, file)
        place = _place(layout, file.relative_to(inner)) if file.is_relative_to(inner) else None
        if reason is None and place is not None:
            names.setdefault(place, []).append(file.relative_to(inner).as_posix())
        else:
            not_read[reason or "outside the folders that are read"] += 1
    return names, not_read


def _place(layout: Layout, name: PurePath) -> tuple[str, str] | None:
    """The split's folder and the class that a file counts for."""
    *folders, _ = name.parts
    split = folders.pop(0) if layout.splits and folders else ""
    if not folders or folders[0] not in layout.classes or (layout.splits and split not in layout.splits.values()):
        return None
    return split, folders[0]


def _read_split(layout: Layout, split: str, names: Names, size: int, channels: int) -> Split:
    files = [sorted(names.get((split, each), [])) for each in layout.classes]
    if empty := [each for each, found in zip(layout.classes, files, strict=True) if not found]:
        raise DataError(f"{layout.root / split}: no {FORMATS} file for class {', '.join(empty)}")
    labels = np.repeat(np.arange(len(files)), [len(found) for found in files]).astype(np.int64)
    return Split(read_images(layout.root, [name for found in files for name in found], size, channels), labels)


SOURCES: dict[str, Callable[[DataSettings], ImageSet]] = {
    "digits": read_digits,
    "cifar10": read_cifar10,
    "cifar100": read_cifar100,
    "tiny_imagenet": read_tiny_imagenet,
    "folder": read_image_folder,
}
