"""Robust accuracy by class, on a table of eight images whose numbers are worked out by hand."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from bundle.numbers.breakdowns import per_class, worst_class
from bundle.numbers.intervals import clopper_pearson
from bundle.table.outcomes import Outcomes
from tests.bundle.tables import attack_columns, clean_columns

SETTINGS: dict[str, Any] = {
    "data": {"classes": ["cat", "dog", "eel", "fox"]},
    "threats": [{"name": "linf-8", "norm": "linf", "eps_255": 8}],
    "attacks": [{"threat": "linf-8", "name": "pgd-10"}, {"threat": "linf-8", "name": "margin"}],
}


def table() -> Outcomes:
    """Cats 0 to 3, dogs 4 and 5, foxes 6 and 7, no eel; fox 7 is wrong when clean."""
    labels = np.array([0, 0, 0, 0, 1, 1, 3, 3])
    columns: dict[str, Any] = {"label": labels}
    for setting in ("reference", "served"):
        columns |= clean_columns(setting, np.array([0, 0, 0, 0, 1, 1, 3, 0]))
        columns |= attack_columns(f"{setting}/linf-8/pgd-10", labels, [1, 0, 0, 0, 1, 0, 0, 0], classes=4)
        columns |= attack_columns(f"{setting}/linf-8/margin", labels, [1, 1, 0, 0, 0, 0, 0, 0], classes=4)
    return Outcomes(columns)


def test_every_class_is_counted_under_all_attacks_and_clean() -> None:
    """Cats: 0 and 1 are broken, so 2 of 4 are left; dogs 1 of 2; foxes 1 of 2, as 7 is wrong already. No eels."""
    found = [item for item in per_class(table(), SETTINGS) if item["setting"] == "served"]
    counts = [(item["class"], item["sampleSize"], item["cleanCorrect"], item["correct"]) for item in found]
    assert counts == [("cat", 4, 4, 2), ("dog", 2, 2, 1), ("fox", 2, 1, 1)]
    assert found[0]["interval"] == pytest.approx([0.06759, 0.93241], abs=1e-5)  # tables of Clopper-Pearson, 2 of 4
    assert {item["confidence"] for item in found} == {0.95}


def test_the_classes_add_up_to_the_robust_accuracy() -> None:
    robust = table().robust("reference", "linf-8", ["pgd-10", "margin"])
    found = [item for item in per_class(table(), SETTINGS) if item["setting"] == "reference"]
    assert sum(item["correct"] for item in found) == robust.sum()
    assert sum(item["sampleSize"] for item in found) == len(robust)


def test_of_equally_bad_classes_the_first_is_the_worst_and_its_interval_is_for_all_classes_at_once() -> None:
    """All three are at one half; three classes have images, so the confidence is 1 − 0.05/3."""
    worst = worst_class(table(), SETTINGS)
    assert [(item["setting"], item["class"]) for item in worst] == [("reference", "cat"), ("served", "cat")]
    assert worst[0]["confidence"] == pytest.approx(1 - 0.05 / 3)
    assert worst[0]["interval"] == list(clopper_pearson(2, 4, worst[0]["confidence"]))
    assert worst[0]["interval"][0] < clopper_pearson(2, 4)[0]
    assert "cleanCorrect" not in worst[0]


def test_the_worst_class_is_the_one_with_the_lowest_share_and_not_the_lowest_count() -> None:
    """Under one more broken dog no dog of 2 is left, and of the cats 2 of 4."""
    broken = attack_columns("served/linf-8/margin", table()["label"], [1, 1, 0, 0, 0, 1, 0, 0], classes=4)
    found = worst_class(table().with_columns(broken), SETTINGS)
    assert [item["class"] for item in found] == ["cat", "dog"]
    assert (found[1]["correct"], found[1]["sampleSize"]) == (0, 2)
