"""Quantiles of the distances that minimum-norm attacks found."""

from __future__ import annotations

import numpy as np
import pytest

from bundle.numbers.breakdowns import minimum_distances, quantile
from bundle.table.outcomes import Outcomes, distance_column


def test_quantiles_are_distances_that_were_measured_and_none_where_nothing_was_found() -> None:
    distances = np.array([0.4, 0.1, np.inf, 0.2, 0.3, np.inf, 0.5, 0.0, 0.6, 0.7])
    table = Outcomes({distance_column("cw"): distances})
    (found,) = minimum_distances(table, {"distances": [{"name": "cw", "norm": "l2"}]})
    assert (found["name"], found["norm"], found["found"], found["sampleSize"]) == ("cw", "l2", 8, 10)
    # The 1st, 3rd (2.5 rounded up), 5th, 8th (7.5 rounded up) and 9th of the ten in order.
    assert found["quantiles"] == {"10": 0.0, "25": 0.2, "50": 0.4, "75": 0.7, "90": None}


@pytest.mark.parametrize("size", [1, 3, 7, 100])
@pytest.mark.parametrize("percent", [10, 25, 50, 75, 90])
def test_a_quantile_is_not_exceeded_by_its_share_and_no_smaller_one_is(size: int, percent: int) -> None:
    distances = np.random.default_rng(size).random(size)
    value = quantile(distances, percent)
    assert value is not None
    assert 100 * (distances <= value).sum() >= percent * size
    assert 100 * (distances < value).sum() < percent * size
