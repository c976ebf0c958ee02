"""From logits to what a client reads."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray


def softmax(logits: NDArray[np.floating[Any]]) -> NDArray[np.float64]:
    """Probabilities (N, K) of logits (N, K), computed in float64; each row adds up to 1."""
    shifted = logits.astype(np.float64) - logits.max(axis=1, keepdims=True)
    powers = np.exp(shifted)
    return powers / powers.sum(axis=1, keepdims=True)


def predictions(logits: NDArray[np.floating[Any]], classes: list[str]) -> list[dict[str, Any]]:
    """One answer a row: the class of the largest logit (the first of equals), its number, and every probability."""
    return [
        {"class": classes[label], "label": label, "probabilities": dict(zip(classes, row, strict=True))}
        for label, row in zip(logits.argmax(axis=1).tolist(), softmax(logits).tolist(), strict=True)
    ]
