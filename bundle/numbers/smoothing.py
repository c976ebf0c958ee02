"""Randomized smoothing over any scores: counts of noisy votes, and the l2 radii that they prove.

Cohen, Rosenfeld, Kolter, "Certified Adversarial Robustness via Randomized Smoothing", ICML 2019 (arXiv 1902.02918),
algorithm CERTIFY. The certificate is about the smoothed classifier g(x) = the class that f(x + noise) answers most
often, and about no other.
"""
# pyright: reportMissingTypeStubs=false, reportUnknownMemberType=false

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray
from scipy.stats import binom, norm

from bundle.numbers.intervals import lower_bound

Scores = Callable[[NDArray[np.float32]], NDArray[np.float32]]

#: Stands for "no answer" in the prediction column.
ABSTAIN = -1
#: A hopeless image ends after this share of the estimation sample, and after no more copies than this.
FIRST_PART, FIRST_COPIES = 0.1, 1000
#: The chance, an image, that ending early costs a radius that the whole sample would have proved.
COST = 1e-4


@dataclass(frozen=True)
class Vote:
    """What the noisy copies of one image said: the class that the first sample selected, and its count in the second."""

    selected: int
    successes: int


@dataclass(frozen=True)
class EarlyEnd:
    """An image whose selected class has at most `successes` of the first `after` estimation copies ends there.

    Its count stays the one of that first part, so that the ended images are exactly those with a count of at most
    `successes`. They have radius 0. Whatever the rule, the radii keep their confidence: each is the one that the whole
    sample proves, or 0, so that it is too large in no case in which the whole sample's is not.
    """

    after: int
    successes: int


def votes(
    scores: Scores,
    images: NDArray[np.float32],
    *,
    index: Sequence[int],
    sigma: float,
    selection: int,
    estimation: int,
    seed: int,
    batch_size: int = 1000,
    early_end: EarlyEnd | None = None,
) -> list[Vote]:
    """For each image, selects a class with `selection` noisy copies and counts it in `estimation` others.

    Parameters
    ----------
    scores : maps float32 images (B, H, W, C) to scores (B, K); pixels may leave [0, 1], noise is not clamped.
    images : float32 (N, H, W, C) in [0, 1], N ≥ 1.
    index : each image's row in its split. The noise is drawn from (seed, index), copy after copy, so that it depends
        neither on the other images nor on the batches; another sigma scales the same noise.
    sigma : standard deviation of the Gaussian noise, in units of the pixel range.
    batch_size : noisy copies in one call of `scores`, those of several images together.
    early_end : where images end whose class is no majority; None counts the whole sample.
    """
    draws = [np.random.default_rng([seed, int(row)]) for row in index]

    def counts(rows: NDArray[np.intp], copies: int) -> NDArray[np.int64]:
        return _counts(scores, images, rows, draws, copies, sigma, batch_size)

    everyone = np.arange(len(images))
    selected = counts(everyone, selection).argmax(axis=1)
    first = early_end.after if early_end else estimation
    successes = counts(everyone, first)[everyone, selected]
    going_on = everyone[successes > early_end.successes] if early_end else everyone[:0]
    if len(going_on) and first < estimation:
        successes[going_on] += counts(going_on, estimation - first)[np.arange(len(going_on)), selected[going_on]]
    return [Vote(int(chosen), int(count)) for chosen, count in zip(selected, successes, strict=True)]


def _counts(
    scores: Scores,
    images: NDArray[np.float32],
    rows: NDArray[np.intp],
    draws: Sequence[np.random.Generator],
    copies: int,
    sigma: float,
    batch_size: int,
) -> NDArray[np.int64]:
    """The answers to the next `copies` noisy copies of each of `rows`: (len(rows), K) counts by class."""
    owners = np.repeat(np.arange(len(rows)), copies)
    total: NDArray[np.int64] | None = None
    for start in range(0, len(owners), batch_size):
        owner = owners[start : start + batch_size]
        noisy = images[rows[owner]]
        for place in np.unique(owner):
            mine = slice(*np.searchsorted(owner, [place, place + 1]))
            shape = (mine.stop - mine.start, *images.shape[1:])
            noisy[mine] += np.float32(sigma) * draws[int(rows[place])].standard_normal(shape, dtype=np.float32)
        answers = scores(noisy)
        if total is None:
            total = np.zeros((len(rows), answers.shape[1]), dtype=np.int64)
        np.add.at(total, (owner, answers.argmax(axis=1)), 1)
    assert total is not None  # copies ≥ 1
    return total


def certified_radii(successes: NDArray[np.integer], samples: int, sigma: float, alpha: float) -> NDArray[np.float64]:
    """The l2 radius that each count proves: sigma · Φ⁻¹(p), p the lower bound of the selected class's probability.

    Parameters: `successes` (N,) out of `samples`; alpha is the chance, an image, that the radius is too large.
    Returns radii (N,) in units of the pixel range; 0 where p ≤ 1/2, that is where the smoothed classifier abstains.
    """
    known: dict[int, float] = {}
    for count in {int(count) for count in successes}:
        probability = lower_bound(count, samples, alpha)
        known[count] = sigma * float(norm.ppf(probability)) if probability > 0.5 else 0.0
    return np.array([known[int(count)] for count in successes], dtype=np.float64)


@lru_cache(maxsize=64)
def early_end_rule(samples: int, alpha: float) -> EarlyEnd | None:
    """Where hopeless images end, of `samples` estimation copies at `alpha`; None where no count is hopeless so soon.

    The count k after the first m copies is the largest with P(K_m ≤ k and K_n ≥ c) ≤ COST for every probability of the
    selected class, c the smallest count that proves a majority: ending costs a radius with that chance at most.
    """
    needed = next((count for count in range(samples // 2, samples + 1) if lower_bound(count, samples, alpha) > 0.5), 0)
    after = min(int(FIRST_PART * samples), FIRST_COPIES)
    if not needed or not after:
        return None
    share = np.linspace(0.0, 1.0, 1001)
    cost, reached = np.zeros_like(share), -1
    for count in range(after):
        cost += binom.pmf(count, after, share) * binom.sf(needed - count - 1, samples - after, share)
        if cost.max() > COST:
            break
        reached = count
    return EarlyEnd(after, reached) if reached >= 0 else None
