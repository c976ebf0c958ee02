"""Figures of how near another answer is: margins, confidences, and the loss around one image.

How far images are from another answer, clean and under attack; whether the confidence can be believed; the loss in one
adversarial and one random direction.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import groupby
from typing import Any

import numpy as np
from numpy.typing import NDArray

from bundle.numbers.breakdowns import BINS
from bundle.pages.svg import (
    SERVED,
    WIDTH,
    Scale,
    bar,
    cell,
    drawing,
    frame,
    level_grid,
    line,
    marker,
    path,
    percent_levels,
    round_step,
    text,
    value_ticks,
)
from bundle.pages.wording import number, percent


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
    """Images whose confidence falls into one bin: their mean confidence, the fraction that is right, how many (≥ 1)."""

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

    A mark's area grows with its fraction of the images, so that bins of a few images do not shout.
    """
    x, y = Scale(0, 1, 54, WIDTH - 14), Scale(0, 1, 234, 34)
    parts = [percent_levels(y, 54, WIDTH - 14), path([(x(0), y(0)), (x(1), y(1))], "zero")]
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


#: Where one shade of the loss ends and the next begins (cross-entropy in nats): the same for every model.
BANDS = (0.01, 0.03, 0.1, 0.2, 0.3, 0.5, 0.7, 1.0, 1.5, 2.0, 3.0, 5.0, 10.0, 30.0)
#: Height of a shade in the legend.
ROW = 17


def band_of(loss: float) -> int:
    """The shade of a loss, 0 (below the first band) to the number of bands (the last one and above)."""
    return bisect_right(BANDS, loss)


def surface(losses: Sequence[Sequence[float]], span: float, title: str) -> str:
    """A heat map of the loss, `losses` (steps, steps).

    Row i lies at −span to span times ε along the adversarial direction, column j likewise along the random one; the
    image itself is the middle. Adversarial runs upwards. `title` says what ε is.
    """
    steps, left, right, top = len(losses), 70, WIDTH - 130, 10
    side = (right - left) / steps
    bottom = top + side * steps
    x, y = Scale(-span, span, left + side / 2, right - side / 2), Scale(-span, span, bottom - side / 2, top + side / 2)
    parts: list[str] = []
    for row, values in enumerate(losses):
        column = 0
        # Neighbours of one shade are one rectangle: a grid of 41 × 41 would be a heavy page.
        for shade, run in groupby(map(band_of, values)):
            length = len(list(run))
            across, above = left + side * column, bottom - side * (row + 1)
            parts.append(cell(across, above, side * length, side, "heat plain", shade / len(BANDS)))
            column += length
    parts += [frame(left, top, right - left, bottom - top), *_cross(x(0), y(0)), *_axes(x, y, span, (left, bottom))]
    parts += _shades(right + 20, top)
    middle = losses[steps // 2][steps // 2]
    words = (
        f"{title}. Loss {number(middle)} at the image, {number(max(map(max, losses)))} at most and "
        f"{number(min(map(min, losses)))} at least in the square, {number(losses[-1][steps // 2])} at {span:g} ε along "
        f"the adversarial direction, {number(losses[steps // 2][-1])} at {span:g} ε along the random one."
    )
    return drawing("surface", "Loss around one image", words, bottom + 44, parts)


def _cross(x: float, y: float) -> list[str]:
    return [line(x - 6, y, x + 6, y, "clean"), line(x, y - 6, x, y + 6, "clean")]


def _axes(x: Scale, y: Scale, span: float, corner: tuple[float, float]) -> list[str]:
    """Ticks at the ends, at the image, and at ±1 ε where that lies inside; `corner` is the square's, left and bottom."""
    left, bottom = corner
    ticks = sorted({-span, 0.0, span, *((-1.0, 1.0) if span > 1 else ())})
    parts = [text(x(tick), bottom + 17, _tick(tick), anchor="middle", kind="tick") for tick in ticks]
    parts += [text(left - 7, y(tick) + 4, _tick(tick), anchor="end", kind="tick") for tick in ticks]
    parts.append(text(x(0), bottom + 36, "random direction (ε)", anchor="middle", kind="axis"))
    parts.append(text(14, y(0), "adversarial direction (ε)", anchor="middle", kind="axis", turn=True))
    return parts


def _tick(value: float) -> str:
    return f"{value:g}".replace("-", "−")


def _shades(left: float, top: float) -> list[str]:
    """The shades with their bounds, the largest loss on top."""
    parts = [text(left, top + 10, "loss", kind="axis")]
    for shade in range(len(BANDS) + 1):
        place = top + 20 + ROW * (len(BANDS) - shade)
        parts += [
            cell(left, place, 22, ROW, "heat plain", shade / len(BANDS)),
            text(left + 30, place + 13, _bounds(shade)),
        ]
    return [*parts, frame(left, top + 20, 22, ROW * (len(BANDS) + 1))]


def _bounds(shade: int) -> str:
    if shade == 0:
        return f"< {BANDS[0]:g}"
    return f"≥ {BANDS[-1]:g}" if shade == len(BANDS) else f"{BANDS[shade - 1]:g} to {BANDS[shade]:g}"
