"""Accuracies as fractions of images with their counts, their differences, and exact or score intervals of both.

A fraction is written with its count and its interval, as every list of the attestation has it. Two models, or two
recipes, are compared on the same images: the difference, its interval, and the images of disagreement.
"""
# pyright: reportMissingTypeStubs=false, reportUnknownMemberType=false

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import lru_cache
from math import perm
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray
from scipy.special import betaincinv, ndtri, stdtrit  # scipy.stats takes a second and 60 MiB for the same functions

CONFIDENCE = 0.95
#: The largest acceptable chance that a challenge misses every false row.
RISK = (1, 20)


@lru_cache(maxsize=4096)  # an attestation asks for hundreds, and few are different
def clopper_pearson(successes: int, trials: int, confidence: float = CONFIDENCE) -> tuple[float, float]:
    """The two-sided Clopper-Pearson interval of a fraction.

    Parameters: `successes` out of `trials` (0 ≤ successes ≤ trials, trials ≥ 1), `confidence` in (0, 1).
    Returns (lower, upper), each in [0, 1]. Raises ValueError for counts that cannot be.
    """
    if trials < 1 or not 0 <= successes <= trials:
        raise ValueError(f"successes must be 0 to trials, and trials at least 1, got {successes} of {trials}")
    tail = (1 - confidence) / 2
    lower = 0.0 if successes == 0 else float(betaincinv(successes, trials - successes + 1, tail))
    upper = 1.0 if successes == trials else float(betaincinv(successes + 1, trials - successes, 1 - tail))
    return lower, upper


def lower_bound(successes: int, trials: int, alpha: float) -> float:
    """The one-sided Clopper-Pearson lower bound at confidence 1 − alpha; the fraction is below it with chance ≤ alpha."""
    if trials < 1 or not 0 <= successes <= trials:
        raise ValueError(f"successes must be 0 to trials, and trials at least 1, got {successes} of {trials}")
    return 0.0 if successes == 0 else float(betaincinv(successes, trials - successes + 1, alpha))


def most_false(size: int, opened: int) -> int:
    """The largest number of false rows among `size` that `opened` true ones, drawn without replacement, leave open.

    That is the largest d for which drawing none of d false rows has a chance of more than 5 %: hypergeometric,
    C(size - d, opened) / C(size, opened) > 1/20, in whole numbers. With 95 % confidence no more rows are false.
    """
    fewest, most = 0, 1  # doubled before it is halved: the numbers of large d have as many digits as the table rows
    while most <= size - opened and _missed(size, opened, most):
        fewest, most = most, 2 * most
    most = min(most, size - opened + 1)
    while most - fewest > 1:
        middle = (fewest + most) // 2
        fewest, most = (middle, most) if _missed(size, opened, middle) else (fewest, middle)
    return fewest


def _missed(size: int, opened: int, false: int) -> bool:
    """Whether none of the false rows is opened with a chance of more than RISK."""
    small, large = sorted((opened, false))  # the chance is the same with the two exchanged
    numerator, denominator = RISK
    return perm(size - large, small) * denominator > perm(size, small) * numerator


def accuracy(right: NDArray[np.bool_], confidence: float = CONFIDENCE) -> dict[str, Any]:
    """How many of the images (N,) are right: `value`, `correct`, `sampleSize`, Clopper-Pearson `interval`, `confidence`."""
    correct, size = int(right.sum()), len(right)
    interval = list(clopper_pearson(correct, size, confidence))
    return {
        "value": correct / size,
        "correct": correct,
        "sampleSize": size,
        "interval": interval,
        "confidence": confidence,
    }


# pyright: reportMissingTypeStubs=false, reportUnknownMemberType=false


Verdict = Literal["better", "worse", "not distinguishable"]


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

    The interval is exact given the number of discordant images: Clopper-Pearson on the fraction of them that B wins (the
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


def score_interval(pair: PairedDifference, confidence: float = CONFIDENCE) -> tuple[float, float]:
    """The score interval of a paired difference (Tango 1998, Statistics in Medicine 17:891, eq. 10), for non-inferiority.

    Unlike the interval of `pair` it does not take the number of discordant images as given: where two models agree on
    every one of a few images, it is as wide as so few images leave it. Returns (lower, upper) in [−1, 1].
    """
    images, gained, lost = pair.images, pair.only_b, pair.only_a
    wanted = float(ndtri((1 + confidence) / 2))

    def score(delta: float) -> float:
        # The most likely fraction of lost images, given that the difference is delta.
        linear = -gained - lost + (2 * images - gained + lost) * delta
        root = math.sqrt(max(linear**2 + 8 * images * lost * delta * (1 - delta), 0.0))
        variance = images * (2 * (root - linear) / (4 * images) + delta * (1 - delta))
        gap = gained - lost - images * delta
        return 0.0 if gap == 0 else gap / math.sqrt(max(variance, 1e-12))

    return _root(score, wanted, -1.0, pair.difference), _root(score, -wanted, pair.difference, 1.0)


def _root(score: Callable[[float], float], wanted: float, low: float, high: float) -> float:
    """Where the falling `score` has the value `wanted`; the end where it does not get there."""
    from scipy.optimize import brentq  # slow to import, and comparisons alone need it

    low, high = low + 1e-9 * (low == -1), high - 1e-9 * (high == 1)
    if (score(low) - wanted) * (score(high) - wanted) >= 0:
        return low if wanted > 0 else high
    root: Any = brentq(lambda delta: score(delta) - wanted, low, high)
    return float(root)


def unpaired_interval(
    value_a: float, interval_a: Sequence[float], value_b: float, interval_b: Sequence[float]
) -> tuple[float, float]:
    """The interval of B minus A for two fractions of different images, from the interval of each fraction.

    Square and add (Newcombe 1998, Statistics in Medicine 17:873, method 10, here on the intervals that are given).
    """
    difference = value_b - value_a
    lower = difference - math.hypot(value_b - interval_b[0], interval_a[1] - value_a)
    upper = difference + math.hypot(interval_b[1] - value_b, value_a - interval_a[0])
    return lower, upper


def seeds_interval(differences: Sequence[float]) -> tuple[float, float]:
    """Student's 95 % interval of the mean of k ≥ 2 differences, one per seed, with k − 1 degrees of freedom."""
    mean, count = float(np.mean(differences)), len(differences)
    error = float(np.std(differences, ddof=1)) / math.sqrt(count)
    half = float(stdtrit(count - 1, (1 + CONFIDENCE) / 2)) * error
    return mean - half, mean + half


def welch_interval(values_a: Sequence[float], values_b: Sequence[float]) -> tuple[float, float]:
    """Welch's 95 % interval of the mean of B minus the mean of A, each of at least two seeds that do not pair."""
    parts = [float(np.var(values, ddof=1)) / len(values) for values in (values_a, values_b)]
    difference = float(np.mean(values_b)) - float(np.mean(values_a))
    if not sum(parts):
        return difference, difference
    sizes = (len(values_a), len(values_b))
    freedom = sum(parts) ** 2 / sum(part**2 / (size - 1) for part, size in zip(parts, sizes, strict=True))
    half = float(stdtrit(freedom, (1 + CONFIDENCE) / 2)) * math.sqrt(sum(parts))
    return difference - half, difference + half


def verdict(interval: tuple[float, float]) -> Verdict:
    """What an interval of B minus A says of B."""
    lower, upper = interval
    return "better" if lower > 0 else "worse" if upper < 0 else "not distinguishable"
