"""The loss around one image, in one adversarial and one random direction."""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Sequence
from itertools import groupby

from bundle.pages.svg import WIDTH, Scale, cell, drawing, frame, line, text
from bundle.pages.wording import number

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
    parts += _legend(right + 20, top)
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


def _legend(left: float, top: float) -> list[str]:
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
