"""The matrix of disagreements between the two settings."""

from __future__ import annotations

import numpy as np

from bundle.numbers.breakdowns import agreement
from bundle.table.outcomes import Outcomes
from tests.bundle.tables import attack_columns, clean_columns


def test_the_four_counts_are_image_by_image() -> None:
    """Attacked, reference 1 1 1 0 0 and served 1 0 0 0 1: both broken 1, the grid lost 2, gained 1, both right 1."""
    labels = np.zeros(5, dtype=np.int64)
    table = Outcomes(
        {
            "label": labels,
            **clean_columns("reference", np.array([0, 0, 0, 0, 1])),
            **clean_columns("served", np.array([0, 0, 0, 0, 0])),
            **attack_columns("reference/linf-8/margin", labels, [1, 1, 1, 0, 0]),
            **attack_columns("served/linf-8/margin", labels, [1, 0, 0, 0, 1]),
        }
    )
    clean, attacked = agreement(table, {"attacks": [{"threat": "linf-8", "name": "margin"}]})
    assert clean == {"bothRight": 4, "onlyReferenceBroken": 1, "onlyServedBroken": 0, "bothBroken": 0}
    counts = {"bothRight": 1, "onlyReferenceBroken": 2, "onlyServedBroken": 1, "bothBroken": 1}
    assert attacked == {"threat": "linf-8", "attack": "margin", **counts}
