"""Differences of models and recipes, against counts worked out by hand, likelihoods and scipy."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.stats import binomtest, ttest_1samp, ttest_ind

from bundle.numbers.intervals import (
    PairedDifference,
    paired_difference,
    score_interval,
    seeds_interval,
    unpaired_interval,
    verdict,
    welch_interval,
)


def test_counts_and_difference_by_hand() -> None:
    right_a = np.array([True, True, True, False, False, False, False, True])
    right_b = np.array([True, True, False, True, True, True, False, True])
    found = paired_difference(right_a, right_b)
    assert (found.images, found.only_a, found.only_b) == (8, 1, 3)
    assert found.difference == pytest.approx(2 / 8)


def test_interval_is_that_of_the_exact_test_on_the_discordant_images() -> None:
    """It leaves zero out exactly where McNemar's exact test rejects at 5 %."""
    for only_a, only_b in [(0, 5), (0, 6), (3, 12), (4, 12), (30, 20), (20, 40)]:
        agree = np.ones(50, dtype=bool)
        right_a = np.concatenate([agree, np.ones(only_a, bool), np.zeros(only_b, bool)])
        right_b = np.concatenate([agree, np.zeros(only_a, bool), np.ones(only_b, bool)])
        lower, upper = paired_difference(right_a, right_b).interval
        rejected = binomtest(only_b, only_a + only_b).pvalue < 0.05
        assert (lower > 0 or upper < 0) == rejected, (only_a, only_b)


def test_equal_models_do_not_differ_and_swapping_turns_the_sign() -> None:
    generator = np.random.default_rng(0)
    right_a, right_b = generator.random(100) < 0.7, generator.random(100) < 0.8
    assert paired_difference(right_a, right_a).interval == (0.0, 0.0)
    one, other = paired_difference(right_a, right_b), paired_difference(right_b, right_a)
    assert one.difference == -other.difference
    assert one.interval == pytest.approx((-other.interval[1], -other.interval[0]))


def test_arrays_that_do_not_pair_are_refused() -> None:
    with pytest.raises(ValueError, match="two arrays of the same images"):
        paired_difference(np.ones(3, bool), np.ones(4, bool))


def _most_likely_score(gained: int, lost: int, images: int, delta: float) -> float:
    """The score statistic at delta, with the nuisance share found by maximising the likelihood on a fine grid."""
    least, most = max(0.0, -delta), (1 - delta) / 2
    share = np.linspace(least, most, 400_001)[1:-1]  # of the images that B loses
    likelihood = gained * np.log(share + delta) + lost * np.log(share)
    rest = images - gained - lost
    likelihood = likelihood + (rest * np.log(1 - 2 * share - delta) if rest else 0.0)
    best = share[likelihood.argmax()]
    return (gained - lost - images * delta) / np.sqrt(images * (2 * best + delta * (1 - delta)))


@pytest.mark.parametrize(("only_a", "only_b", "images"), [(9, 2, 60), (3, 12, 50), (1, 1, 30), (5, 20, 400)])
def test_score_interval_ends_where_the_score_is_the_normal_quantile(only_a: int, only_b: int, images: int) -> None:
    """Tango's closed form against a maximisation of the likelihood that knows nothing of it."""
    lower, upper = score_interval(_pair(only_a, only_b, images))
    assert lower < (only_b - only_a) / images < upper
    assert _most_likely_score(only_b, only_a, images, lower) == pytest.approx(1.959964, abs=1e-3)
    assert _most_likely_score(only_b, only_a, images, upper) == pytest.approx(-1.959964, abs=1e-3)


def test_score_interval_of_models_that_agree_is_as_wide_as_few_images_leave_it() -> None:
    """No discordant image of 60 does not show that the models are equal: z² / (n + z²) is still open, on both sides."""
    open_ = 1.959964**2 / (60 + 1.959964**2)
    assert score_interval(_pair(0, 0, 60)) == pytest.approx((-open_, open_), abs=1e-6)
    assert score_interval(_pair(60, 0, 60))[0] == pytest.approx(-1, abs=1e-6)


def test_unpaired_interval_by_hand_and_swapped() -> None:
    """0.5 [0.4, 0.6] and 0.7 [0.66, 0.73]: the lower arm is √(0.04² + 0.1²), the upper one √(0.03² + 0.1²)."""
    found = unpaired_interval(0.5, (0.4, 0.6), 0.7, (0.66, 0.73))
    assert found == pytest.approx((0.2 - 0.0116**0.5, 0.2 + 0.0109**0.5))
    swapped = unpaired_interval(0.7, (0.66, 0.73), 0.5, (0.4, 0.6))
    assert swapped == pytest.approx((-found[1], -found[0]))


def test_intervals_over_seeds_are_scipys() -> None:
    a, b = [0.41, 0.44, 0.40, 0.47], [0.50, 0.43, 0.52]
    expected = ttest_1samp(a, 0).confidence_interval(0.95)
    assert seeds_interval(a) == pytest.approx((expected.low, expected.high))
    expected = ttest_ind(b, a, equal_var=False).confidence_interval(0.95)
    assert welch_interval(a, b) == pytest.approx((expected.low, expected.high))
    assert welch_interval(b, a) == pytest.approx((-expected.high, -expected.low))
    assert welch_interval([0.5, 0.5], [0.75, 0.75]) == (0.25, 0.25)


def test_a_verdict_needs_an_interval_that_leaves_zero_out() -> None:
    found = [verdict(interval) for interval in ((0.01, 0.1), (-0.1, -0.01), (-0.1, 0.1), (0.0, 0.0), (0.0, 0.1))]
    assert found == ["better", "worse", *["not distinguishable"] * 3]


def _pair(only_a: int, only_b: int, images: int) -> PairedDifference:
    return PairedDifference(images, only_a, only_b, (only_b - only_a) / images, (0.0, 0.0))
