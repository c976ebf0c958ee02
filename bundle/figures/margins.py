"""How far images are from another answer, clean and under attack."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import numpy as np
from numpy.typing import NDArray

from bundle.svg import SERVED, WIDTH, Scale, bar, drawing, level_grid, line, path, round_step, text, value_ticks


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
