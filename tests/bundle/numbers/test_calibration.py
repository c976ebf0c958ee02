"""The calibration error by hand, and against one that is written as the definition reads."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from bundle.numbers.breakdowns import calibration, calibration_error
from bundle.table.outcomes import Outcomes
from tests.bundle.tables import attack_columns, clean_columns

SETTINGS: dict[str, Any] = {
    "threats": [{"name": "linf-8", "norm": "linf", "eps_255": 8}],
    "attacks": [{"threat": "linf-8", "name": "pgd-10"}, {"threat": "linf-8", "name": "margin"}],
}


def test_an_error_by_hand() -> None:
    """Bins of a fifteenth: 0.9 and 0.92 share one (1 of 2 right: |0.5 − 0.91| = 0.41), 0.5 is alone (right: 0.5).

    Weighted by images: (2 · 0.41 + 1 · 0.5) / 3.
    """
    found = calibration_error(np.array([0.9, 0.92, 0.5]), np.array([True, False, True]))
    assert found == pytest.approx((2 * 0.41 + 0.5) / 3)


def test_a_model_that_is_right_as_often_as_it_says_has_no_error() -> None:
    assert calibration_error(np.full(10, 0.7), np.arange(10) < 7) == pytest.approx(0)
    assert calibration_error(np.array([1.0, 1.0]), np.array([True, True])) == 0
    assert calibration_error(np.array([0.0, 1.0]), np.array([True, True])) == 0.5


@pytest.mark.parametrize("seed", range(5))
def test_the_error_is_the_weighted_mean_of_the_bins_gaps(seed: int) -> None:
    generator = np.random.default_rng(seed)
    confidence, right = generator.random(200), generator.random(200) < 0.6
    expected = 0.0
    for number in range(15):
        rows = (confidence > number / 15) & (confidence <= (number + 1) / 15)
        if rows.any():
            expected += rows.mean() * abs(right[rows].mean() - confidence[rows].mean())
    assert calibration_error(confidence, right) == pytest.approx(expected)


def table() -> Outcomes:
    """Image 0: pgd-10 comes nearer without breaking; image 1: margin breaks it; image 2: both alike."""
    labels = np.array([0, 1, 0])
    columns: dict[str, Any] = {"label": labels}
    for setting in ("reference", "served"):
        columns |= clean_columns(setting, labels, confidence=[1.0, 0.9, 0.8])
        prefix = f"{setting}/linf-8"
        columns |= attack_columns(f"{prefix}/pgd-10", labels, [0, 0, 0], margin=[1, 2, 3], confidence=[0.6, 0.7, 0.8])
        columns |= attack_columns(f"{prefix}/margin", labels, [0, 1, 0], margin=[2, 1, 3], confidence=[0.9, 0.5, 0.3])
    return Outcomes(columns)


def test_under_attack_the_answer_to_the_smallest_margin_counts() -> None:
    """Image 0 is answered at 0.6 (right), image 1 at 0.5 (wrong), image 2 at 0.8 (right, the first of two)."""
    clean, attacked = (item for item in calibration(table(), SETTINGS) if item["setting"] == "served")
    assert "threat" not in clean
    assert (clean["accuracy"], clean["meanConfidence"]) == pytest.approx((1.0, 0.9))
    assert (attacked["threat"], attacked["bins"], attacked["sampleSize"]) == ("linf-8", 15, 3)
    assert attacked["meanConfidence"] == pytest.approx((0.6 + 0.5 + 0.8) / 3)
    assert attacked["accuracy"] == pytest.approx(2 / 3)
    assert attacked["value"] == pytest.approx((0.4 + 0.5 + 0.2) / 3)


def test_an_answer_without_a_number_is_the_worst() -> None:
    """A NaN margin belongs to a wrong answer; it must not hide behind a right one."""
    broken = attack_columns("served/linf-8/margin", table()["label"], [1, 1, 0], margin=[np.nan, 1, 3], confidence=0.0)
    attacked = calibration(table().with_columns(broken), SETTINGS)[-1]
    assert attacked["accuracy"] == pytest.approx(1 / 3)
