"""Two models on the same images: the paired difference, its interval, and the images on which they disagree."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from bundle.intervals import CONFIDENCE, clopper_pearson


@dataclass(frozen=True)
class PairedDifference:
    """Accuracy of B minus accuracy of A on the same `images`, with its 95 % interval.

    `only_a` and `only_b` count the discordant images: those that one model alone has right.
    """

    images: int
    only_a: int
    only_b: int
    difference: float
    interval: tuple[float, float]


def paired_difference(right_a: NDArray[np.bool_], right_b: NDArray[np.bool_]) -> PairedDifference:
    """Compares two models image by image; `right_a` and `right_b` (N,) say which images each has right.

    The interval is exact given the number of discordant images: Clopper-Pearson on the share of them that B wins (the
    interval that belongs to McNemar's exact test), scaled to accuracy. Raises ValueError for arrays that do not pair.
    """
    if right_a.shape != right_b.shape or right_a.ndim != 1 or not len(right_a):
        raise ValueError(f"two arrays of the same images are needed, got shapes {right_a.shape} and {right_b.shape}")
    images = len(right_a)
    only_a, only_b = int((right_a & ~right_b).sum()), int((right_b & ~right_a).sum())
    discordant = only_a + only_b
    if discordant == 0:
        return PairedDifference(images, 0, 0, 0.0, (0.0, 0.0))
    lower, upper = ((2 * bound - 1) * discordant / images for bound in clopper_pearson(only_b, discordant, CONFIDENCE))
    return PairedDifference(images, only_a, only_b, (only_b - only_a) / images, (lower, upper))
