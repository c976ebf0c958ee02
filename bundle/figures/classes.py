"""Accuracy by class."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from bundle.figures.shares import say, share_of
from bundle.svg import SERVED, WIDTH, Scale, bar, drawing, line, share_grid, shortened, text

#: Classes that the figure shows at most: the worst ones.
CLASSES_SHOWN = 20


@dataclass(frozen=True)
class ClassShare:
    """How one class fares: images right under all attacks, right when clean, and in all; size ≥ 1."""

    name: str
    robust: int
    clean: int
    size: int


def by_class(shares: Sequence[ClassShare]) -> str:
    """Accuracy under all attacks by class, worst first, at most CLASSES_SHOWN; a tick marks the clean accuracy."""
    shown = sorted(shares, key=lambda share: share.robust / share.size)[:CLASSES_SHOWN]
    left = min(140.0, 24 + 7.6 * max(len(share.name) for share in shown))
    x, top, step = Scale(0, 1, left, WIDTH - 66), 34, 22
    bottom = top + step * len(shown)
    parts = [bar(left, 6, 14, 9, SERVED), text(left + 20, 15, "under all attacks")]
    parts += [line(left + 150, 4, left + 150, 17, "clean"), text(left + 158, 15, "clean")]
    parts += [share_grid(x, top, bottom), text(WIDTH - 4, 15, "right/all", anchor="end", kind="tick")]
    for index, share in enumerate(shown):
        parts.append(_row(x, top + step * (index + 0.5), share))
    parts.append(text(x(0.5), bottom + 36, "images of the class still right (%)", anchor="middle", kind="axis"))
    words = "; ".join(f"{share.name}: {say(share_of(share.robust, share.size))}" for share in shown)
    return drawing("by-class", "Accuracy under all attacks by class", words, bottom + 44, parts)


def _row(x: Scale, middle: float, share: ClassShare) -> str:
    robust, clean = share_of(share.robust, share.size), share_of(share.clean, share.size)
    lower, upper = robust["interval"]
    note = f"{share.name}: {say(robust)}; clean {say(clean)}"
    return "".join(
        [
            text(x.start - 8, middle + 4, shortened(share.name, 16), anchor="end"),
            bar(x(0), middle - 7, x(robust["value"]) - x(0), 14, SERVED, note),
            line(x(lower), middle, x(upper), middle, "whisker"),
            line(x(clean["value"]), middle - 9, x(clean["value"]), middle + 9, "clean"),
            text(WIDTH - 4, middle + 4, f"{share.robust}/{share.size}", anchor="end", kind="value"),
        ]
    )
