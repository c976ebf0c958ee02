"""Randomized smoothing: radii against the paper's formula, and certificates against a true radius that is known."""

import math
from statistics import NormalDist

import numpy as np
import pytest
from numpy.typing import NDArray

from bundle.smoothing import certified_radii, vote

WEIGHT = np.array([3.0, -4.0], dtype=np.float32)


def linear_scores(images: NDArray[np.float32]) -> NDArray[np.float32]:
    """Class 1 on the positive side of WEIGHT · x = 0; the distance to that line is the smoothed classifier's radius."""
    signed = images.reshape(len(images), -1) @ WEIGHT
    return np.stack([-signed, signed], axis=1)


def image_at(distance: float) -> NDArray[np.float32]:
    """A (1, 1, 2) image on the positive side, this far from the boundary."""
    return (distance * WEIGHT / np.linalg.norm(WEIGHT)).reshape(1, 1, 2).astype(np.float32)


def binomial_upper_tail(successes: int, trials: int, share: float) -> float:
    """P(at least `successes` of `trials`), term by term."""
    terms = (math.comb(trials, k) * share**k * (1 - share) ** (trials - k) for k in range(successes, trials + 1))
    return math.fsum(terms)


def radius_from_the_paper(successes: int, trials: int, sigma: float, alpha: float) -> float:
    """Cohen et al. 2019, CERTIFY: sigma · Φ⁻¹(p), p the share at which such a count has probability alpha; bisected."""
    low, high = 0.0, 1.0
    for _ in range(80):
        middle = (low + high) / 2
        low, high = (middle, high) if binomial_upper_tail(successes, trials, middle) < alpha else (low, middle)
    return sigma * NormalDist().inv_cdf(low) if low > 0.5 else 0.0


def test_radii_equal_the_papers_formula() -> None:
    counts = np.arange(0, 101)
    expected = [radius_from_the_paper(int(count), 100, 0.25, 0.001) for count in counts]
    assert certified_radii(counts, 100, 0.25, 0.001) == pytest.approx(expected, abs=1e-9)
    assert np.count_nonzero(expected) == 35  # the reference itself abstains up to 65 of 100


def test_a_count_that_does_not_prove_a_majority_has_radius_zero() -> None:
    assert certified_radii(np.array([0, 50, 60]), 100, 0.25, 0.001).tolist() == [0, 0, 0]


def test_radius_grows_with_count_sigma_and_alpha() -> None:
    counts = np.array([80, 90, 100])
    radii = certified_radii(counts, 100, 0.25, 0.001)
    assert (np.diff(radii) > 0).all()
    assert certified_radii(counts, 100, 0.5, 0.001) == pytest.approx(2 * radii)
    assert (certified_radii(counts, 100, 0.25, 0.01) > radii).all()


@pytest.mark.parametrize(("alpha", "distance"), [(0.05, 0.2), (0.2, 0.2), (0.2, 0.35)])
def test_certificates_exceed_the_true_radius_in_no_more_than_alpha_of_trials(alpha: float, distance: float) -> None:
    """For a linear classifier the true radius is the distance itself; each trial draws its own noise."""
    trials, samples, sigma = 2000, 200, 0.25
    votes = [
        vote(linear_scores, image_at(distance), sigma=sigma, selection=50, estimation=samples, seed=7, index=index)
        for index in range(trials)
    ]
    assert all(item.selected == 1 for item in votes)
    radii = certified_radii(np.array([item.successes for item in votes]), samples, sigma, alpha)
    exceeding = float(np.mean(radii > distance))
    assert exceeding <= alpha
    # The bound is nearly tight, so it would not hold by being far too small either.
    assert exceeding >= alpha / 4
    assert np.mean(radii) > 0.7 * distance


def test_certificates_of_one_sample_count_would_not_hold_without_the_bound() -> None:
    """The share itself in place of its lower bound exceeds the true radius in about half of the trials."""
    votes = [
        vote(linear_scores, image_at(0.2), sigma=0.25, selection=50, estimation=200, seed=7, index=index)
        for index in range(400)
    ]
    naive = [0.25 * NormalDist().inv_cdf(min(item.successes / 200, 0.9999)) for item in votes]
    assert np.mean(np.array(naive) > 0.2) > 0.3


def test_vote_does_not_depend_on_the_batch_size() -> None:
    settings = {"sigma": 0.5, "selection": 30, "estimation": 101, "seed": 3, "index": 11}
    votes = {vote(linear_scores, image_at(0.1), batch_size=size, **settings) for size in (1000, 101, 7)}
    assert len(votes) == 1


def test_vote_draws_noise_by_seed_and_index() -> None:
    def successes(seed: int, index: int) -> int:
        settings = {"sigma": 0.5, "selection": 30, "estimation": 1000, "seed": seed, "index": index}
        return vote(linear_scores, image_at(0.1), **settings).successes

    assert successes(3, 11) == successes(3, 11)
    assert len({successes(3, 11), successes(3, 12), successes(4, 11)}) == 3


def test_selection_and_estimation_are_different_samples() -> None:
    """All noisy copies are recorded: the first `selection` of them are not counted, and none is clamped to [0, 1]."""
    seen: list[NDArray[np.float32]] = []

    def recording(images: NDArray[np.float32]) -> NDArray[np.float32]:
        seen.append(images)
        return linear_scores(images)

    found = vote(recording, image_at(0.1), sigma=0.5, selection=40, estimation=60, seed=0, index=0)
    first, second = seen
    assert (len(first), len(second)) == (40, 60)
    assert found.successes == int((linear_scores(second).argmax(1) == found.selected).sum())
    assert not np.isin(first.ravel(), second.ravel()).any()
    assert second.min() < 0
    assert first.dtype == np.float32


def test_the_selected_class_is_counted_even_where_it_loses() -> None:
    """One noisy copy often selects the rarer class; the larger count in its place would certify another class."""
    votes = [
        vote(linear_scores, image_at(0.1), sigma=0.25, selection=1, estimation=200, seed=0, index=index)
        for index in range(50)
    ]
    rarer = [item for item in votes if item.selected == 0]
    assert 5 < len(rarer) < 30  # Φ(−0.4) = 0.34 of 50
    assert all(item.successes < 100 for item in rarer)
    assert not certified_radii(np.array([item.successes for item in rarer]), 200, 0.25, 0.05).any()
