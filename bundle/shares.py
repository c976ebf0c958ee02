"""A share of images with its count and its interval, as every list of the attestation writes it."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from bundle.intervals import CONFIDENCE, clopper_pearson


def share(right: NDArray[np.bool_], confidence: float = CONFIDENCE) -> dict[str, Any]:
    """How many of the images (N,) are right: `value`, `correct`, `sampleSize`, Clopper-Pearson `interval`, `confidence`."""
    correct, size = int(right.sum()), len(right)
    interval = list(clopper_pearson(correct, size, confidence))
    return {
        "value": correct / size,
        "correct": correct,
        "sampleSize": size,
        "interval": interval,
        "confidence": confidence,
    }
