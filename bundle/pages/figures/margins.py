"""Figures of margins and confidences.

How far images are from another answer, clean and under attack.

Whether the confidence can be believed: accuracy against confidence.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from bundle.numbers.breakdowns import BINS
from bundle.pages.svg import (
    SERVED,
    WIDTH,
    Scale,
    bar,
    drawing,
    level_grid,
    line,
    marker,
    path,
    round_step,
    share_levels,
    text,
    value_ticks,
)
from bundle.pages.wording import percent


def margin_histogram(
    margins: NDArray[np.floating[Any]], right: NDArray[np.bool_], clean: NDArray[np.floating[Any]]
) -> str:
    """Two distributions of margins in logits: filled under attack, a line for the same images when clean.

    Parameters: `margins`, the lowest under attack (N,), with the verdicts `right` (N,); `clean`, those without an
    attack (N,).
    """
    edges = _edges(np.concatenate([margins, clean]))
    held, broken = (np.histogram(margins[rows], edges)[0] for rows in (right, ~right))
    before = np.histogram(clean, edges)[0]
    most = int(max((held + broken).max(), before.max()))
    x, y = Scale(edges[0], edges[-1], 54, WIDTH - 14), Scale(0, most * 1.06, 234, 34)
    parts = [*_legend(int((~right).sum()), int(right.sum())), *_levels(y, most)]
    for left, end, low, high in zip(edges[:-1], edges[1:], broken, held, strict=True):
        note, width = f"margin {left:g} to {end:g}: {low} wrong, {high} right", x(end) - x(left) - 1
        for count, base, kind in ((low, 0, "broken"), (high, low, SERVED)):
            if count:
                parts.append(bar(x(left) + 0.5, y(base + count), width, y(base) - y(base + count), kind, note))
    parts += [path(_outline(x, y, edges, before), "curve outline"), line(x(0), 26, x(0), 234, "zero")]
    parts += value_ticks(x, 251)
    middle = (54 + WIDTH - 14) / 2
    parts.append(text(middle, 270, "margin (difference of logits)", anchor="middle", kind="axis"))
    parts.append(text(14, 134, "images", anchor="middle", kind="axis", turn=True))
    words = (
        f"Under attack {int((~right).sum())} of {len(margins)} images are wrong and the median margin is "
        f"{np.median(margins):.2f}; without an attack it is {np.median(clean):.2f}."
    )
    return drawing("margins", "Margins, clean and under attack", words, 278, parts)


def _legend(wrong: int, right: int) -> list[str]:
    return [
        bar(58, 6, 14, 9, "broken"),
        text(78, 15, f"wrong ({wrong})"),
        bar(188, 6, 14, 9, SERVED),
        text(208, 15, f"still right ({right})"),
        line(356, 10.5, 378, 10.5, "curve outline"),
        text(384, 15, "clean"),
    ]


def _outline(x: Scale, y: Scale, edges: NDArray[np.float64], counts: Iterable[int]) -> list[tuple[float, float]]:
    """The upper edge of a histogram, from the axis to the axis."""
    points = [(x(edges[0]), y(0))]
    for left, end, count in zip(edges[:-1], edges[1:], counts, strict=True):
        points += [(x(left), y(count)), (x(end), y(count))]
    return [*points, (x(edges[-1]), y(0))]


def _edges(margins: NDArray[np.floating[Any]]) -> NDArray[np.float64]:
    """Bin edges of a round width, zero among them: no bin holds both signs."""
    low, high = min(float(margins.min()), 0.0), max(float(margins.max()), 0.0)
    width = round_step(max(high - low, 1e-3), 24)
    first, last = int(np.floor(low / width)), int(np.floor(high / width)) + 1
    return np.arange(first, last + 1, dtype=np.float64) * width


def _levels(y: Scale, most: int) -> list[str]:
    step = max(1, round(round_step(max(most, 1), 5)))
    return level_grid(y, [(tick, str(tick)) for tick in range(0, most + 1, step)], 54, WIDTH - 14)


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
