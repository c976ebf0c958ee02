"""Additional or generated training images: one npz file below data.path."""

from __future__ import annotations

import math
import os
import sys
from collections.abc import Mapping
from pathlib import Path, PurePath
from typing import Any

import numpy as np
from numpy.typing import NDArray

from bundle.digests import sha256_file
from bundle.formats.archives import ArchiveError, open_arrays
from bundle.table.outcomes import image_digests
from pipeline.data.split import DataError, Split
from pipeline.params import DataSettings

#: What an archive's table says of an array: the kind of its values, and its shape.
Layout = tuple[np.dtype[Any], tuple[int, ...]]


def add_extra(
    train: Split, settings: DataSettings, classes: int, held_out: Mapping[str, Split]
) -> tuple[Split, dict[str, Any]]:
    """The training split with the images of data.extra after its own, and what the manifest says about them.

    That is `images` (their number), `per_class`, `share` (of every batch) and `file_sha256`. `held_out` holds the
    splits, by name, that no extra image may be in. Raises DataError where the file is missing or not usable.
    """
    path = _path(settings)
    images, labels = _arrays(path, train.images.shape[1:])
    _check_labels(path, labels, classes)
    _refuse_copies(path, images, held_out)
    declared = {
        "images": len(images),
        "per_class": np.bincount(labels.astype(np.int64), minlength=classes).tolist(),
        "share": settings.extra_share,
        "file_sha256": sha256_file(path),
    }
    return _joined(train, images, labels), declared


def _path(settings: DataSettings) -> Path:
    name = PurePath(settings.extra or "")
    if name.is_absolute() or ".." in name.parts:
        raise DataError(
            f"data.extra: must be the path of a file below data.path, without .., got {settings.extra!r}; DVC watches "
            "data.path alone, and would not see another file change"
        )
    return Path(settings.path).expanduser() / name


def _arrays(path: Path, shape: tuple[int, ...]) -> tuple[NDArray[np.uint8], NDArray[Any]]:
    """Both arrays as they are, of images of this shape; nothing is unpickled."""
    if not path.is_file():
        raise DataError(f"{path}: there is no such file; data.extra must name an npz file below data.path")
    try:
        with open_arrays(path) as archive:
            if not {"images", "labels"} <= set(archive.names):
                raise DataError(
                    f"{path}: must hold the arrays images and labels, as numpy.savez(file, images=…, labels=…) writes them, "
                    f"holds {', '.join(archive.names[:10]) or 'nothing'}"
                )
            _check_layout(path, archive.layout("images"), archive.layout("labels"), shape)
            return archive.read("images"), archive.read("labels")
    except ArchiveError as error:
        raise DataError(
            f"{path}: cannot be read ({error}); data.extra must be a file of numpy.savez with the plain arrays images "
            "and labels"
        ) from None


def _check_layout(path: Path, images: Layout, labels: Layout, shape: tuple[int, ...]) -> None:
    """Kinds and shapes, before an array is unpacked: the file may be a stranger's."""
    (kind, size), (label_kind, label_size) = images, labels
    if kind != np.uint8 or size[1:] != shape or size[:1] in ((), (0,)):
        raise DataError(
            f"{path}: images must be uint8 (N, {', '.join(map(str, shape))}) with N ≥ 1, like the other training images, "
            f"got {kind} {size}"
        )
    if label_kind.kind not in "iu" or label_size != size[:1]:
        raise DataError(
            f"{path}: labels must be whole numbers ({size[0]},), one per image, got {label_kind} {label_size}"
        )
    if math.prod(size) > _memory():
        raise DataError(f"{path}: its images take {math.prod(size)} bytes, more than this machine's memory")


def _memory() -> int:
    """Bytes of this machine's memory, where the system tells."""
    return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") if hasattr(os, "sysconf") else sys.maxsize


def _check_labels(path: Path, labels: NDArray[Any], classes: int) -> None:
    if labels.min() < 0 or labels.max() >= classes:
        raise DataError(
            f"{path}: labels must be 0 to {classes - 1}, the data set's classes, got {labels.min()} to {labels.max()}"
        )


def _refuse_copies(path: Path, images: NDArray[np.uint8], held_out: Mapping[str, Split]) -> None:
    """What is trained on must not be measured on."""
    known = {name: set(image_digests(split.images)) for name, split in held_out.items()}
    digests = image_digests(images)
    found = {name: sum(digest in copies for digest in digests) for name, copies in known.items()}
    if any(found.values()):
        said = " and ".join(f"{count} of its images are in the {name} split" for name, count in found.items() if count)
        raise DataError(f"{path}: {said}, byte for byte; remove them, because nothing held out may be trained on")


def _joined(train: Split, images: NDArray[np.uint8], labels: NDArray[Any]) -> Split:
    return Split(np.concatenate([train.images, images]), np.concatenate([train.labels, labels.astype(np.int64)]))
