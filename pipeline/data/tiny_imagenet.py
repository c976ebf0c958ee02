"""Tiny ImageNet in its official layout: 200 classes, 64 x 64 pixels."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import numpy as np

from bundle.decoding import describe_rule
from pipeline.data.decoding import describe_decoding, read_images
from pipeline.data.image_set import ImageSet
from pipeline.data.split import DataError, Split
from pipeline.params import DataSettings

FOLDER = "tiny-imagenet-200"
SIDE = 64


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
