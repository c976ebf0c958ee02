"""The paired difference of two models, against counts worked out by hand."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.stats import binomtest

from bundle.comparisons import paired_difference


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
