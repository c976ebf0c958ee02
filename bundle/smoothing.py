"""Randomized smoothing over any scores: counts of noisy votes, and the l2 radii that they prove.

Cohen, Rosenfeld, Kolter, "Certified Adversarial Robustness via Randomized Smoothing", ICML 2019, algorithm CERTIFY.
The certificate is about the smoothed classifier g(x) = the class that f(x + noise) answers most often, and about no
other.
"""
# pyright: reportMissingTypeStubs=false, reportUnknownMemberType=false

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.stats import norm

from bundle.intervals import lower_bound

Scores = Callable[[NDArray[np.float32]], NDArray[np.float32]]

#: Stands for "no answer" in the prediction column.
ABSTAIN = -1


@dataclass(frozen=True)
class Vote:
    """What the noisy copies of one image said: the class that the first sample selected, and its count in the second."""

    selected: int
    successes: int


def vote(
    scores: Scores,
    image: NDArray[np.float32],
    *,
    sigma: float,
    selection: int,
    estimation: int,
    seed: int,
    index: int,
    batch_size: int = 1000,
) -> Vote:
    """Selects a class with `selection` noisy copies and counts it in `estimation` others.

    Parameters
    ----------
    scores : maps float32 images (B, H, W, C) to scores (B, K); pixels may leave [0, 1], noise is not clamped.
    image : float32 (H, W, C) in [0, 1].
    sigma : standard deviation of the Gaussian noise, in units of the pixel range.
    seed, index : the noise is drawn from (seed, index), so that it does not depend on the other images.
    """
    generator = np.random.default_rng([seed, index])

    def counts(samples: int) -> NDArray[np.int64]:
        total: NDArray[np.int64] | None = None
        for start in range(0, samples, batch_size):
            shape = (min(batch_size, samples - start), *image.shape)
            noisy = image + np.float32(sigma) * generator.standard_normal(shape, dtype=np.float32)
            answers = scores(noisy.astype(np.float32, copy=False))
            counted = np.bincount(answers.argmax(axis=1), minlength=answers.shape[1])
            total = counted if total is None else total + counted
        assert total is not None  # samples ≥ 1
        return total

    selected = int(counts(selection).argmax())
    return Vote(selected, int(counts(estimation)[selected]))


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
