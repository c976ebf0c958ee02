"""Any folder of images: `train/CLASS/…` with `test/CLASS/…`, or one tree `CLASS/…`."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping
from pathlib import Path, PurePath
from typing import Any

import numpy as np

from bundle.images.container import FORMATS
from bundle.images.decoding import describe_rule
from pipeline.data.decoding import describe_decoding, listed, read_images, resize_rule
from pipeline.data.image_files import Layout, all_files, linked_folders, read_layout, reason_left_out
from pipeline.data.split import DataError, ImageSet, Split, hold_out_test
from pipeline.params import DataSettings

#: Names of image files by split ("" without splits) and class.
Names = dict[tuple[str, str], list[str]]


def read_image_folder(settings: DataSettings) -> ImageSet:
    """Reads data.path; folders below a class count for it, classes and files are in the order of their names.

    What is read, and which links are followed, image_files.py says; which folders are splits, folder_layout.py. Raises
    DataError for a layout that cannot be understood, a class without images, and files that cannot be read.
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
        split: _read(layout, folder, names, settings.image_size, settings.channels) for split, folder in folders.items()
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


def _read(layout: Layout, split: str, names: Names, size: int, channels: int) -> Split:
    files = [sorted(names.get((split, each), [])) for each in layout.classes]
    if empty := [each for each, found in zip(layout.classes, files, strict=True) if not found]:
        raise DataError(f"{layout.root / split}: no {FORMATS} file for class {', '.join(empty)}")
    labels = np.repeat(np.arange(len(files)), [len(found) for found in files]).astype(np.int64)
    return Split(read_images(layout.root, [name for found in files for name in found], size, channels), labels)
