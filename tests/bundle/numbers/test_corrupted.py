"""Accuracy on the fifteen common corruptions."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from bundle.corruptions import NAMES as CORRUPTIONS
from bundle.corruptions import SEVERITIES
from bundle.numbers.breakdowns import corruption_accuracy
from bundle.table.columns import corruption_column
from bundle.table.outcomes import Outcomes


def test_accuracy_on_corruptions_is_by_name_and_severity_and_the_mean_is_of_all() -> None:
    """Of two images the first is right up to severity 4, the second under brightness alone."""
    columns: dict[str, Any] = {"label": np.array([0, 1])}
    for name in CORRUPTIONS:
        for severity in SEVERITIES:
            first, second = int(severity == 5), int(name == "brightness")
            columns[corruption_column(name, severity)] = np.array([first, second])
    found = corruption_accuracy(Outcomes(columns), {"corruptions": {"names": CORRUPTIONS}})
    assert len(found) == 76
    by_key = {(item["corruption"], item.get("severity")): item for item in found}
    assert by_key["fog", 4]["correct"] == 1
    assert by_key["fog", 5]["correct"] == 0
    assert by_key["brightness", 4]["value"] == 1
    assert found[-1] == {"corruption": "all", "value": pytest.approx((60 + 5) / 150), "sampleSize": 2}


def test_without_corruptions_there_is_no_accuracy_on_them() -> None:
    assert corruption_accuracy(Outcomes({"label": [0]}), {"corruptions": None}) == []
