"""Randomized smoothing: radii against the paper's formula, and certificates against a true radius that is known."""

import math
from collections.abc import Sequence
from statistics import NormalDist
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from scipy.stats import beta, binom, hypergeom

from bundle.numbers.claims import smoothing_bounds
from bundle.numbers.proofs import certified_radii
from bundle.table.outcomes import Outcomes
from pipeline.certification.smoothed import COST, EarlyEnd, Vote, early_end_rule, votes

WEIGHT = np.array([3.0, -4.0], dtype=np.float32)


def linear_scores(images: NDArray[np.float32]) -> NDArray[np.float32]:
    """Class 1 on the positive side of WEIGHT · x = 0; the distance to that line is the smoothed classifier's radius."""
    signed = images.reshape(len(images), -1) @ WEIGHT
    return np.stack([-signed, signed], axis=1)


def third_scores(images: NDArray[np.float32]) -> NDArray[np.float32]:
    """Three sectors of the plane: around the origin each class has a third, and none is a majority."""
    angles = 2 * np.pi / 3 * np.arange(3)
    return images.reshape(len(images), -1) @ np.stack([np.cos(angles), np.sin(angles)]).astype(np.float32)


def image_at(distance: float) -> NDArray[np.float32]:
    """A (1, 1, 2) image on the positive side, this far from the boundary."""
    return (distance * WEIGHT / np.linalg.norm(WEIGHT)).reshape(1, 1, 2).astype(np.float32)


def votes_at(distance: float, index: Sequence[int], **settings: Any) -> list[Vote]:
    """Votes on the same image under each index's noise."""
    given = {"sigma": 0.25, "selection": 50, "estimation": 200, "seed": 7, **settings}
    return votes(linear_scores, np.stack([image_at(distance)] * len(index)), index=index, **given)


def successes(found: list[Vote]) -> NDArray[np.int64]:
    return np.array([item.successes for item in found])


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


def certify_from_the_paper(selected: int, count: int, n: int, sigma: float, alpha: float) -> tuple[int, float] | None:
    """CERTIFY after its sampling: class and radius, or None to abstain."""
    if count == 0:
        return None
    p = float(beta.isf(1 - alpha, count, n + 1 - count))
    return (selected, sigma * NormalDist().inv_cdf(p)) if p > 0.5 else None


def test_radii_equal_the_papers_formula() -> None:
    counts = np.arange(0, 101)
    expected = [radius_from_the_paper(int(count), 100, 0.25, 0.001) for count in counts]
    assert certified_radii(counts, 100, 0.25, 0.001) == pytest.approx(expected, abs=1e-9)
    assert np.count_nonzero(expected) == 35  # the reference itself abstains up to 65 of 100


@pytest.mark.parametrize(("n", "sigma", "alpha"), [(1000, 0.25, 0.001), (200, 0.5, 0.05)])
def test_certified_accuracy_equals_the_papers_algorithm_on_the_same_counts(n: int, sigma: float, alpha: float) -> None:
    """Image by image from the paper: an abstention is an error, and so is a radius about another class."""
    draw = np.random.default_rng(0)
    label, selected = draw.integers(0, 4, (2, 500))
    selected = np.where(draw.random(500) < 0.7, label, selected)
    counts = draw.integers(n // 3, n + 1, 500)
    counts[:20], counts[20:40] = n, 0
    radii = [0.0, 0.1, 0.25, 0.5, 0.75, 1.0]
    name = "smoothed"
    columns = {"selected": selected, "successes": counts, "radius": certified_radii(counts, n, sigma, alpha)}
    outcomes = Outcomes(
        {"index": np.arange(500), "label": label, **{f"{name}/{part}": of for part, of in columns.items()}}
    )
    *curve, average = smoothing_bounds(
        outcomes, {"name": name, "estimation": n, "sigma": sigma, "alpha": alpha, "radii": radii}
    )
    answers = [
        certify_from_the_paper(chosen, count, n, sigma, alpha)
        for chosen, count in zip(selected.tolist(), counts.tolist(), strict=True)
    ]
    proved = [found[1] if found and found[0] == true else None for found, true in zip(answers, label, strict=True)]
    for radius, bound in zip(radii, curve, strict=True):
        assert bound["correct"] == sum(item is not None and item >= radius for item in proved)
    assert average["value"] == pytest.approx(sum(item or 0.0 for item in proved) / 500, abs=1e-12)
    assert 0 < sum(found is None for found in answers) < 500 and curve[0]["correct"] > curve[3]["correct"] > 0


def test_a_count_that_does_not_prove_a_majority_has_radius_zero() -> None:
    assert certified_radii(np.array([0, 50, 60]), 100, 0.25, 0.001).tolist() == [0, 0, 0]


def test_radius_grows_with_count_sigma_and_alpha() -> None:
    counts = np.array([80, 90, 100])
    radii = certified_radii(counts, 100, 0.25, 0.001)
    assert (np.diff(radii) > 0).all()
    assert certified_radii(counts, 100, 0.5, 0.001) == pytest.approx(2 * radii)
    assert (certified_radii(counts, 100, 0.25, 0.01) > radii).all()


def most_often(trials: int, alpha: float) -> int:
    """Chance alone exceeds this in one of a million runs, where each trial fails with probability alpha."""
    return int(binom.isf(1e-6, trials, alpha))


@pytest.mark.parametrize("alpha", [0.001, 0.01, 0.05])
@pytest.mark.parametrize("distance", [0.02, 0.2, 0.6])
def test_certified_radii_exceed_the_true_one_in_no_more_than_alpha_of_10000_trials(
    alpha: float, distance: float
) -> None:
    """A linear classifier's noisy votes are binomial with Φ(distance / sigma), so the counts are drawn as such.

    Where the first sample selects the other class, any radius at all is too large.
    """
    trials, samples, sigma, draw = 10_000, 1000, 0.25, np.random.default_rng(1)
    share = NormalDist().cdf(distance / sigma)
    right = draw.binomial(20, share, trials) > 10
    counts = draw.binomial(samples, np.where(right, share, 1 - share))
    radii = certified_radii(counts, samples, sigma, alpha)
    exceeding = int((radii > np.where(right, distance, 0)).sum())
    assert exceeding <= most_often(trials, alpha)
    if distance == 0.2:  # the bound is nearly tight: it does not hold by being far too small
        assert exceeding >= alpha * trials / 4


@pytest.mark.parametrize(("alpha", "distance"), [(0.05, 0.2), (0.2, 0.2), (0.2, 0.35)])
def test_certificates_from_noise_exceed_the_true_radius_in_no_more_than_alpha_of_trials(
    alpha: float, distance: float
) -> None:
    """For a linear classifier the true radius is the distance itself; each trial draws its own noise."""
    trials, samples, sigma = 2000, 200, 0.25
    found = votes_at(distance, range(trials), sigma=sigma, estimation=samples)
    assert all(item.selected == 1 for item in found)
    radii = certified_radii(successes(found), samples, sigma, alpha)
    exceeding = int((radii > distance).sum())
    assert exceeding <= most_often(trials, alpha)
    assert exceeding >= alpha * trials / 4
    assert np.mean(radii) > 0.7 * distance


def test_counts_from_noise_are_binomial_with_the_closed_form_share() -> None:
    """What the 10,000 trials take for granted: their mean and spread, within five standard errors."""
    trials, samples, share = 2000, 200, NormalDist().cdf(0.2 / 0.25)
    counts = successes(votes_at(0.2, range(trials)))
    variance = samples * share * (1 - share)
    assert abs(counts.mean() - samples * share) < 5 * math.sqrt(variance / trials)
    assert abs(counts.var() / variance - 1) < 5 * math.sqrt(2 / trials)


def test_certificates_of_one_sample_count_would_not_hold_without_the_bound() -> None:
    """The share itself in place of its lower bound exceeds the true radius in about half of the trials."""
    naive = [0.25 * NormalDist().inv_cdf(min(count / 200, 0.9999)) for count in successes(votes_at(0.2, range(400)))]
    assert np.mean(np.array(naive) > 0.2) > 0.3


@pytest.mark.parametrize("early_end", [None, EarlyEnd(after=40, successes=25)])
def test_votes_depend_neither_on_the_batch_size_nor_on_the_other_images(early_end: EarlyEnd | None) -> None:
    images = np.stack([image_at(distance) for distance in (0.1, 0.0, 0.4, 0.02, 0.05)])
    settings: dict[str, Any] = {"sigma": 0.5, "selection": 30, "estimation": 101, "seed": 3, "early_end": early_end}
    index = [11, 4, 90, 7, 8]
    alone = [votes(linear_scores, images[row : row + 1], index=index[row : row + 1], **settings)[0] for row in range(5)]
    assert len({item.successes for item in alone}) >= 4
    for size in (1, 7, 30, 101, 150, 1000):
        assert votes(linear_scores, images, index=index, batch_size=size, **settings) == alone
    backwards = votes(linear_scores, images[::-1], index=index[::-1], batch_size=64, **settings)
    assert backwards == alone[::-1]


def test_votes_draw_noise_by_seed_and_index() -> None:
    def count(seed: int, index: int) -> int:
        return votes_at(0.1, [index], sigma=0.5, estimation=1000, seed=seed)[0].successes

    assert count(3, 11) == count(3, 11)
    assert len({count(3, 11), count(3, 12), count(4, 11)}) == 3


@pytest.mark.parametrize("batch_size", [1000, 60, 13])
def test_the_noise_is_one_stream_an_image_whatever_the_batches(batch_size: int) -> None:
    """Published counts are drawn from default_rng([seed, index]), copy after copy: another order gives others."""
    seen: list[NDArray[np.float32]] = []

    def recording(images: NDArray[np.float32]) -> NDArray[np.float32]:
        seen.append(images.copy())
        return linear_scores(images)

    images = np.stack([image_at(0.1), image_at(0.3)])
    given = {"sigma": 0.5, "selection": 40, "estimation": 60, "seed": 5}
    found = votes(recording, images, index=[3, 8], batch_size=batch_size, **given)
    copies = np.concatenate(seen)
    assert copies.dtype == np.float32 and copies.min() < 0  # not clamped to the pixel range
    for place, row in enumerate((3, 8)):
        stream = np.random.default_rng([5, row]).standard_normal((100, 1, 1, 2), dtype=np.float32)
        expected = images[place] + np.float32(0.5) * stream
        first, second = copies[place * 40 : (place + 1) * 40], copies[80 + place * 60 : 80 + (place + 1) * 60]
        assert np.array_equal(np.concatenate([first, second]), expected)
        # The first sample selects, the second counts; no copy does both.
        selected = int(np.bincount(linear_scores(expected[:40]).argmax(1), minlength=2).argmax())
        counted = int((linear_scores(expected[40:]).argmax(1) == selected).sum())
        assert found[place] == Vote(selected, counted)


def test_the_selected_class_is_counted_even_where_it_loses() -> None:
    """One noisy copy often selects the rarer class; the larger count in its place would certify another class."""
    rarer = [item for item in votes_at(0.1, range(50), selection=1, seed=0) if item.selected == 0]
    assert 5 < len(rarer) < 30  # Φ(−0.4) = 0.34 of 50
    assert all(item.successes < 100 for item in rarer)
    assert not certified_radii(successes(rarer), 200, 0.25, 0.05).any()


def test_a_hopeless_image_ends_after_the_first_part_and_the_others_do_not() -> None:
    """Without a majority the rest is not drawn; the counts of the others are those of the whole sample."""
    drawn = 0

    def counting(images: NDArray[np.float32]) -> NDArray[np.float32]:
        nonlocal drawn
        drawn += len(images)
        return third_scores(images)

    rule = early_end_rule(1000, 0.001)
    assert rule is not None
    images = np.zeros((40, 1, 1, 2), dtype=np.float32)
    images[::2, 0, 0, 0] = np.linspace(0, 1, 20)
    given = {"index": range(40), "sigma": 0.25, "selection": 20, "estimation": 1000, "seed": 0}
    whole = votes(third_scores, images, **given)
    ending = votes(counting, images, early_end=rule, **given)
    ended = [item.successes <= rule.successes for item in ending]
    assert 15 <= sum(ended) <= 30
    assert drawn == 40 * (20 + rule.after) + (40 - sum(ended)) * (1000 - rule.after)
    for early, full, stopped in zip(ending, whole, ended, strict=True):
        assert early.selected == full.selected and (early == full) != stopped
    radii, full_radii = (certified_radii(successes(found), 1000, 0.25, 0.001) for found in (ending, whole))
    assert np.array_equal(radii, full_radii) and (radii > 0).any()


def joint(after: int, most: int, samples: int, needed: int, share: float) -> float:
    """P(at most `most` of the first `after`, and at least `needed` of all `samples`).

    From the end: given the whole count, the successes among the first copies are hypergeometric.
    """
    totals = np.arange(needed, samples + 1)
    return float(np.sum(binom.pmf(totals, samples, share) * hypergeom.cdf(most, samples, totals, after)))


@pytest.mark.parametrize("alpha", [0.05, 0.001])
@pytest.mark.parametrize("samples", [100, 120, 150, 200, 250])
def test_ending_early_costs_a_radius_with_the_stated_chance_at_most(samples: int, alpha: float) -> None:
    """And one count more would cost one oftener: the rule is the largest that keeps to it."""
    rule = early_end_rule(samples, alpha)
    assert rule is not None and rule.after == samples // 10
    needed = int(np.flatnonzero(certified_radii(np.arange(samples + 1), samples, 1.0, alpha))[0])
    shares = np.linspace(0.4, 0.9, 201)
    assert max(joint(rule.after, rule.successes, samples, needed, share) for share in shares) <= COST
    assert max(joint(rule.after, rule.successes + 1, samples, needed, share) for share in shares) > COST


def test_the_rule_at_the_smallest_and_at_large_samples() -> None:
    """Nine copies prove nothing at 0.001; of ten all must agree, so that one that does not is the end."""
    assert early_end_rule(9, 0.001) is None
    assert early_end_rule(10, 0.001) == EarlyEnd(after=1, successes=0)
    rule = early_end_rule(100_000, 0.001)
    assert rule is not None and rule.after == 1000 and 400 < rule.successes < 500
