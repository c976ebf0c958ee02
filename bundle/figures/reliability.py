"""Whether the confidence can be believed: accuracy against confidence."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from bundle.calibration import BINS
from bundle.svg import SERVED, WIDTH, Scale, drawing, line, marker, path, share_levels, text
from bundle.wording import percent


@dataclass(frozen=True)
class Bin:
    """Images whose confidence falls into one bin: their mean confidence, the share that is right, how many (≥ 1)."""

    confidence: float
    accuracy: float
    count: int


def bins_of(confidence: NDArray[np.floating[Any]], right: NDArray[np.bool_]) -> list[Bin]:
    """The bins of the calibration error, of confidences in [0, 1] (N,) with verdicts (N,); empty ones are left out."""
    places = np.clip(np.ceil(confidence * BINS).astype(int) - 1, 0, BINS - 1)
    return [
        Bin(float(confidence[rows].mean()), float(right[rows].mean()), int(rows.sum()))
        for rows in (places == place for place in range(BINS))
        if rows.any()
    ]


def reliability(series: Mapping[str, Sequence[Bin]]) -> str:
    """Accuracy against mean confidence by bin; `series` has `clean` and `under attack`, in this order.

    A mark's area grows with its share of the images, so that bins of a few images do not shout.
    """
    x, y = Scale(0, 1, 54, WIDTH - 14), Scale(0, 1, 234, 34)
    parts = [share_levels(y, 54, WIDTH - 14), path([(x(0), y(0)), (x(1), y(1))], "zero")]
    for place, (name, kind) in enumerate(zip(series, ("clean", SERVED), strict=True)):
        left = 58 + 90 * place
        parts += [marker(left + 6, 10.5, kind), text(left + 16, 15, name)]
    parts += [line(276, 10.5, 298, 10.5, "zero"), text(305, 15, "well calibrated")]
    for (name, bins), kind in zip(series.items(), ("clean", SERVED), strict=True):
        total = sum(item.count for item in bins)
        parts.append(path([(x(item.confidence), y(item.accuracy)) for item in bins], f"curve thin {kind}"))
        parts += [
            marker(
                x(item.confidence),
                y(item.accuracy),
                kind,
                _said(name, item),
                size=2.5 + 6 * (item.count / total) ** 0.5,
            )
            for item in bins
        ]
    for tick in range(0, 101, 20):
        parts.append(text(x(tick / 100), 251, str(tick), anchor="middle", kind="tick"))
    parts.append(text(x(0.5), 270, "confidence of the answer (%)", anchor="middle", kind="axis"))
    parts.append(text(14, y(0.5), "answers that are right (%)", anchor="middle", kind="axis", turn=True))
    words = "; ".join(_said(name, item) for name, bins in series.items() for item in bins)
    return drawing("reliability", "Accuracy against confidence, clean and under attack", words, 278, parts)


def _said(name: str, item: Bin) -> str:
    return f"{name}, mean confidence {percent(item.confidence)}: {percent(item.accuracy)} of {item.count} right"
