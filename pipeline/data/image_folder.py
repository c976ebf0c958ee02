"""Any folder of images: `train/CLASS/…` with `test/CLASS/…`, or one tree `CLASS/…`."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from pipeline.data.decoding import SUFFIXES, describe_decoding, read_images, resize_rule
from pipeline.data.image_set import ImageSet, hold_out_test
from pipeline.data.split import DataError, Split
from pipeline.params import DataSettings


def read_image_folder(settings: DataSettings) -> ImageSet:
    """Reads data.path; folders below a class count for it, classes and files are in the order of their names.

    PNG, JPEG, PPM, WebP and BMP files are read, others and hidden ones left out. Raises DataError for a layout that
    cannot be understood, fewer than two classes, a class without images, and files that cannot be read.
    """
    if settings.image_size is None or settings.channels is None:
        raise DataError("data: name folder needs image_size and channels")
    root = Path(settings.path).expanduser()
    if not root.is_dir():
        raise DataError(f"{root}: is not a folder; data.path must name the folder that holds the images")
    if (root / "train").is_dir() and (root / "test").is_dir():
        return _two_trees(root, settings.image_size, settings.channels)
    if (root / "test").is_dir():
        return _test_alone(root, settings.image_size, settings.channels)
    return _one_tree(root, settings.image_size, settings.channels, settings)


def _two_trees(root: Path, size: int, channels: int) -> ImageSet:
    classes, test_classes = _classes(root / "train"), _classes(root / "test")
    if different := sorted(set(classes) ^ set(test_classes)):
        raise DataError(f"{root}: train and test must have the same classes; only one has {', '.join(different)}")
    unread = [name for name in _folders(root) if name not in ("train", "test")]
    return ImageSet(
        train=_tree(root / "train", classes, size, channels),
        test=_tree(root / "test", classes, size, channels),
        classes=classes,
        source="image folder with train and test" + (f"; not read: {', '.join(unread)}" if unread else ""),
        licence="unknown",
        preprocessing=describe_decoding(size, channels),
        resize=resize_rule(size),
        train_origin="the folder train",
        test_origin="the folder test",
    )


def _test_alone(root: Path, size: int, channels: int) -> ImageSet:
    """No training images: enough where nothing is trained, and refused by prepare_data elsewhere."""
    classes = _classes(root / "test")
    test = _tree(root / "test", classes, size, channels)
    unread = [name for name in _folders(root) if name != "test"]
    return ImageSet(
        train=test.take(np.arange(0)),
        test=test,
        classes=classes,
        source="image folder with test" + (f"; not read: {', '.join(unread)}" if unread else ""),
        licence="unknown",
        preprocessing=describe_decoding(size, channels),
        resize=resize_rule(size),
        train_origin="none",
        test_origin="the folder test",
    )


def _one_tree(root: Path, size: int, channels: int, settings: DataSettings) -> ImageSet:
    if (root / "train").is_dir():
        raise DataError(f"{root}: has train and no test; give both, or one folder a class (and none called train)")
    classes = _classes(root)
    train, test, train_origin, test_origin = hold_out_test(_tree(root, classes, size, channels), settings)
    return ImageSet(
        train=train,
        test=test,
        classes=classes,
        source="image folder",
        licence="unknown",
        preprocessing=describe_decoding(size, channels),
        resize=resize_rule(size),
        train_origin=train_origin,
        test_origin=test_origin,
    )


def _tree(root: Path, classes: list[str], size: int, channels: int) -> Split:
    files = {name: _image_files(root, name) for name in classes}
    if empty := [name for name in classes if not files[name]]:
        raise DataError(f"{root}: no PNG, JPEG, PPM, WebP or BMP file for class {', '.join(empty)}")
    names = [name for of_class in files.values() for name in of_class]
    labels = np.repeat(np.arange(len(classes)), [len(files[name]) for name in classes])
    return Split(read_images(root, names, size, channels), labels.astype(np.int64))


def _classes(root: Path) -> list[str]:
    classes = _folders(root)
    if len(classes) < 2:
        raise DataError(
            f"{root}: must hold a folder for each of two or more classes, got {', '.join(classes) or 'none'}"
        )
    return classes


def _folders(root: Path) -> list[str]:
    return sorted(entry.name for entry in root.iterdir() if entry.is_dir() and not entry.name.startswith("."))


def _image_files(root: Path, class_name: str) -> list[str]:
    """The images of a class, by names relative to `root`; hidden files and folders are editors' and systems'."""
    paths = [path for path in (root / class_name).rglob("*") if path.suffix.lower() in SUFFIXES and path.is_file()]
    names = [path.relative_to(root) for path in paths]
    return sorted(name.as_posix() for name in names if not any(part.startswith(".") for part in name.parts))
