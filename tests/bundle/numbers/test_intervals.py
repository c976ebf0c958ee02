"""Exact binomial intervals against hand values and another implementation."""

from math import comb

import pytest
from scipy.stats import binomtest

from bundle.numbers.intervals import clopper_pearson, lower_bound, most_false

COUNTS = [(0, 1), (1, 1), (0, 20), (20, 20), (5, 10), (199, 200), (87, 200), (1, 10_000)]


@pytest.mark.parametrize(("successes", "trials"), COUNTS)
def test_interval_equals_scipys_exact_one(successes: int, trials: int) -> None:
    expected = binomtest(successes, trials).proportion_ci(0.95, method="exact")
    assert clopper_pearson(successes, trials) == pytest.approx((expected.low, expected.high), abs=1e-12)


@pytest.mark.parametrize(("successes", "trials"), COUNTS)
def test_lower_bound_equals_scipys_exact_one(successes: int, trials: int) -> None:
    expected = binomtest(successes, trials, alternative="greater").proportion_ci(0.999, method="exact")
    assert lower_bound(successes, trials, 0.001) == pytest.approx(expected.low, abs=1e-12)


def test_values_worked_out_by_hand() -> None:
    """At the ends the binomial tail is a power: (1 − p)^n = 0.025, and p^n = alpha."""
    assert clopper_pearson(0, 20) == pytest.approx((0.0, 1 - 0.025 ** (1 / 20)))
    assert clopper_pearson(20, 20) == pytest.approx((0.025 ** (1 / 20), 1.0))
    assert clopper_pearson(1, 1) == pytest.approx((0.025, 1.0))
    assert clopper_pearson(5, 10) == pytest.approx((0.1871, 0.8129), abs=1e-4)  # the textbooks' example
    assert lower_bound(100, 100, 0.001) == pytest.approx(0.001 ** (1 / 100))
    assert lower_bound(0, 100, 0.001) == 0.0


def test_more_confidence_is_a_wider_interval() -> None:
    narrow, wide = clopper_pearson(87, 200, 0.9), clopper_pearson(87, 200, 0.99)
    assert wide[0] < narrow[0] < 87 / 200 < narrow[1] < wide[1]


@pytest.mark.parametrize(("successes", "trials"), [(-1, 10), (11, 10), (0, 0)])
def test_counts_that_cannot_be_are_refused(successes: int, trials: int) -> None:
    with pytest.raises(ValueError, match="successes must be 0 to trials"):
        clopper_pearson(successes, trials)
    with pytest.raises(ValueError, match="successes must be 0 to trials"):
        lower_bound(successes, trials, 0.05)


@pytest.mark.parametrize("size", range(1, 22))
def test_most_false_rows_are_those_of_the_definition(size: int) -> None:
    """Each number of false rows tried, by binomial coefficients."""
    for opened in range(1, size + 1):
        missed = [20 * comb(size - false, opened) > comb(size, opened) for false in range(size + 1)]
        assert most_false(size, opened) == max(false for false, likely in enumerate(missed) if likely)
