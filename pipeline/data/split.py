"""A split: images with their labels, how it is stored, and how parts of it are drawn.

What a source gives: both splits, the class names, and what is to be said about them.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from bundle.digests import write_whole
from bundle.errors import HallmarkError
from bundle.formats.archives import ArchiveError, open_arrays
from pipeline.params import DataSettings


class DataError(HallmarkError):
    """Images, labels or a split that cannot be used; the message says what, where, and what would be right."""


@dataclass(frozen=True, eq=False)
class Split:
    """Images uint8 (N, H, W, C) with C 1 or 3, and labels int64 (N,) from 0; raises DataError for anything else."""

    images: NDArray[np.uint8]
    labels: NDArray[np.int64]

    def __post_init__(self) -> None:
        images, labels = self.images, self.labels
        if images.dtype != np.uint8 or images.ndim != 4 or images.shape[3] not in (1, 3):
            raise DataError(f"images: must be uint8 (N, H, W, 1 or 3), got {images.dtype} {images.shape}")
        if labels.dtype != np.int64 or labels.shape != images.shape[:1]:
            raise DataError(f"labels: must be int64 ({len(images)},), got {labels.dtype} {labels.shape}")
        if len(labels) and labels.min() < 0:
            raise DataError(f"labels: must be 0 or more, got {labels.min()}")

    def __len__(self) -> int:
        return len(self.labels)

    @property
    def shape(self) -> tuple[int, int, int]:
        """Of an image as networks see it: (C, H, W)."""
        height, width, channels = self.images.shape[1:]
        return channels, height, width

    def take(self, indices: NDArray[np.int64]) -> Split:
        """The images at these indices, in their order."""
        return Split(self.images[indices], self.labels[indices])

    def leave(self, indices: NDArray[np.int64]) -> Split:
        """The images at all other indices, in the order of the split."""
        return self.take(np.setdiff1d(np.arange(len(self)), indices))


def save_split(path: str | Path, split: Split) -> None:
    """Writes an uncompressed .npz with `images` and `labels`; equal splits give equal bytes."""
    write_whole(path, lambda temporary: np.savez(temporary, images=split.images, labels=split.labels))


def load_split(path: str | Path) -> Split:
    """Reads what save_split wrote; raises DataError where the file is missing, damaged or something else."""
    path = Path(path)
    if not path.is_file():
        raise DataError(f"{path}: there is no such file; the stage prepare makes it (`dvc repro prepare`)")
    try:
        with open_arrays(path) as archive:
            return Split(archive.read("images"), archive.read("labels"))
    except (ArchiveError, DataError) as error:
        raise DataError(
            f"{path}: is not a split ({error}); remove it and let the stage prepare make it (`dvc repro prepare`)"
        ) from None


def stratified(labels: NDArray[np.int64], count_or_share: float, seed: int) -> NDArray[np.int64]:
    """Draws indices so that every class keeps its share of the labels.

    `count_or_share` is a whole number of images (all, where there are no more) or, as a float, a share > 0 and < 1.
    Classes get their proportional number by largest remainders; where the count allows it, each gets one at least.
    Returns sorted int64 indices. The draw depends on the labels, the count and the seed alone. Raises DataError.
    """
    count = _count(len(labels), count_or_share)
    # The raw bits of PCG64 are the stream that NumPy promises to keep; the methods of a Generator may change.
    keys = np.random.PCG64(seed).random_raw(len(labels))
    classes, sizes = np.unique(labels, return_counts=True)
    drawn = []
    for label, quota in zip(classes, _quotas(sizes, count), strict=True):
        members = np.flatnonzero(labels == label)
        drawn.append(members[np.argsort(keys[members], kind="stable")[:quota]])
    return np.sort(np.concatenate(drawn)).astype(np.int64)


def _count(images: int, count_or_share: float) -> int:
    if images == 0:
        raise DataError("a sample cannot be drawn from a split that has no images")
    if isinstance(count_or_share, (int, np.integer)):
        if count_or_share < 1:
            raise DataError(f"a sample must have 1 image or more, got {count_or_share}")
        return min(int(count_or_share), images)
    if not 0 < count_or_share < 1:
        raise DataError(f"a share must be > 0 and < 1, got {count_or_share}")
    return max(1, round(count_or_share * images))


def _quotas(sizes: NDArray[np.int64], count: int) -> NDArray[np.int64]:
    """Shares `count` among classes of these sizes by largest remainders, in whole numbers; ties go to the first."""
    quotas, remainders = np.divmod(count * sizes, sizes.sum())
    quotas[np.argsort(-remainders, kind="stable")[: count - quotas.sum()]] += 1
    while count >= len(sizes) and quotas.min() == 0:
        quotas[quotas.argmax()] -= 1
        quotas[quotas.argmin()] += 1
    return quotas


@dataclass(frozen=True, eq=False)
class ImageSet:
    """A data set before limits and validation; the sentences go into the manifest and name no path.

    train, test: the splits, their labels index `classes`. source: where the images come from. licence: "unknown" where
    nobody says. preprocessing: what was done to the pixels, None for nothing. *_origin: how each split came about.
    resize: the rule by which images of any size were brought to that of the data (pipeline.data.image_files), None where
    all of them have it. decoding: the rule by which files became pixels (served.decoding), None where they came as arrays.
    validation: None where the data has no such split of its own. not_read: how many files were left out, by reason; None
    where the source is no folder of images.
    """

    train: Split
    test: Split
    classes: list[str]
    source: str
    licence: str
    preprocessing: str | None
    train_origin: str = "official training split"
    test_origin: str = "official test split"
    resize: Mapping[str, Any] | None = None
    decoding: Mapping[str, Any] | None = None
    validation: Split | None = None
    validation_origin: str = "official validation split"
    not_read: Mapping[str, int] | None = None


def hold_out_test(images: Split, settings: DataSettings) -> tuple[Split, Split, str, str]:
    """Splits images that have no test split of their own: train, test, and how each came about."""
    share = f"share {settings.test_share}, stratified, seed {settings.seed}"
    test = stratified(images.labels, settings.test_share, settings.seed)
    return (
        images.leave(test),
        images.take(test),
        f"all but the test split ({share})",
        f"held out of all images: {share}",
    )
