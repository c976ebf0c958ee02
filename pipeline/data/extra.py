"""Additional or generated training images: one npz file below data.path."""

from __future__ import annotations

import zipfile
import zlib
from collections.abc import Mapping
from pathlib import Path, PurePath
from typing import Any

import numpy as np
from numpy.typing import NDArray

from bundle.digests import sha256_file
from bundle.table.outcomes import image_digests
from pipeline.data.split import DataError, Split, read_member
from pipeline.params import DataSettings


def add_extra(
    train: Split, settings: DataSettings, classes: int, held_out: Mapping[str, Split]
) -> tuple[Split, dict[str, Any]]:
    """The training split with the images of data.extra after its own, and what the manifest says about them.

    That is `images` (their number), `per_class`, `share` (of every batch) and `file_sha256`. `held_out` holds the
    splits, by name, that no extra image may be in. Raises DataError where the file is missing or not usable.
    """
    path = _path(settings)
    images, labels = _arrays(path)
    _check(path, images, labels, train.images.shape[1:], classes)
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


def _arrays(path: Path) -> tuple[NDArray[Any], NDArray[Any]]:
    """Both arrays as they are; nothing is unpickled."""
    if not path.is_file():
        raise DataError(f"{path}: there is no such file; data.extra must name an npz file below data.path")
    try:
        with zipfile.ZipFile(path) as archive:
            there = archive.namelist()
            if not {"images.npy", "labels.npy"} <= set(there):
                raise DataError(
                    f"{path}: must hold the arrays images and labels, as numpy.savez(file, images=…, labels=…) writes them, "
                    f"holds {', '.join(there[:10]) or 'nothing'}"
                )
            return read_member(archive, "images.npy"), read_member(archive, "labels.npy")
    except (ValueError, OSError, EOFError, MemoryError, RuntimeError, zipfile.BadZipFile, zlib.error) as error:
        reason = " ".join(str(error).split()) or type(error).__name__
        raise DataError(
            f"{path}: cannot be read ({reason}); data.extra must be a file of numpy.savez with the plain arrays images "
            "and labels"
        ) from None


def _check(path: Path, images: NDArray[Any], labels: NDArray[Any], shape: tuple[int, ...], classes: int) -> None:
    if images.dtype != np.uint8 or images.shape[1:] != shape or len(images) == 0:
        raise DataError(
            f"{path}: images must be uint8 (N, {', '.join(map(str, shape))}) with N ≥ 1, like the other training images, "
            f"got {images.dtype} {images.shape}"
        )
    if labels.dtype.kind not in "iu" or labels.shape != images.shape[:1]:
        raise DataError(
            f"{path}: labels must be whole numbers ({len(images)},), one an image, got {labels.dtype} {labels.shape}"
        )
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
