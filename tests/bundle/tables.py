"""Columns of outcome tables for tests, from verdicts that are written down."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray


def attack_columns(
    prefix: str,
    labels: NDArray[np.int64],
    broken: Any,
    *,
    classes: int = 2,
    margin: Any = 1.0,
    confidence: Any = 0.9,
) -> dict[str, NDArray[Any]]:
    """The four columns of an attack (`SETTING/THREAT/ATTACK`); a broken image is answered with the next class.

    `margin` is its size: the sign is the verdict's.
    """
    broken = np.asarray(broken, dtype=bool)
    return {
        f"{prefix}/broken": broken,
        f"{prefix}/prediction": np.where(broken, (labels + 1) % classes, labels),
        f"{prefix}/margin": np.where(broken, -1.0, 1.0) * margin * np.ones(len(labels)),
        f"{prefix}/confidence": np.ones(len(labels)) * confidence,
    }


def clean_columns(setting: str, predictions: NDArray[np.int64], confidence: Any = 0.9) -> dict[str, NDArray[Any]]:
    """The columns of clean images that claims() reads."""
    return {
        f"{setting}/clean/prediction": predictions,
        f"{setting}/clean/confidence": np.ones(len(predictions)) * confidence,
    }
