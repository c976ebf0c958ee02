"""How far the nearest adversarial image is: what minimum-norm attacks found, as quantiles over the images."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from bundle.outcomes import Outcomes, distance_column

PERCENTS = (10, 25, 50, 75, 90)


def minimum_distances(outcomes: Outcomes, settings: Mapping[str, Any]) -> list[dict[str, Any]]:
    """By attack of `settings["distances"]`: on how many images it found anything, and quantiles of the distance.

    Each distance is an upper bound of the true one. A quantile is that of all images, found or not; None where it lies
    among those on which nothing was found.
    """
    found: list[dict[str, Any]] = []
    for item in settings["distances"]:
        distances = outcomes[distance_column(item["name"])]
        found.append(
            {
                "name": item["name"],
                "norm": item["norm"],
                "found": int(np.isfinite(distances).sum()),
                "sampleSize": len(distances),
                "quantiles": {str(percent): quantile(distances, percent) for percent in PERCENTS},
            }
        )
    return found


def quantile(distances: NDArray[np.floating[Any]], percent: int) -> float | None:
    """The smallest of the distances that `percent` % of them do not exceed (no interpolation); None where it is +inf."""
    place = -(-percent * len(distances) // 100) - 1
    value = float(np.sort(distances)[place])
    return value if math.isfinite(value) else None
