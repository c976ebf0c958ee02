"""The parts that figures are drawn with: an axis in pixels, text, lines, markers. Strings in, strings out.

Colours come from classes of the page's style sheet, so that a figure follows light, dark and print by itself.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from html import escape

WIDTH = 440
#: Classes of the two settings and of the smoothed classifier, in the style sheet.
REFERENCE, SERVED, CERTIFIED = "reference", "served", "certified"
DIAMOND = ((0, -1), (1, 0), (0, 1), (-1, 0))
SQUARE = ((-1, -1), (1, -1), (1, 1), (-1, 1))


@dataclass(frozen=True)
class Scale:
    """Maps [low, high] to pixels [start, end]; on a vertical axis `end` is above, so it is the smaller number."""

    low: float
    high: float
    start: float
    end: float

    def __call__(self, value: float) -> float:
        return self.start + (value - self.low) / (self.high - self.low) * (self.end - self.start)


def drawing(key: str, title: str, description: str, height: float, parts: Iterable[str]) -> str:
    """A whole figure; `key` makes its ids unique in a page, title and description are for screen readers."""
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" class="figure" viewBox="0 0 {WIDTH} {height:g}" role="img" '
        f'aria-labelledby="{key}-title {key}-desc"><title id="{key}-title">{escape(title)}</title>'
        f'<desc id="{key}-desc">{escape(description)}</desc>{"".join(parts)}</svg>'
    )


def text(x: float, y: float, content: str, *, anchor: str = "start", kind: str = "label", turn: bool = False) -> str:
    """A line of text; `turn` writes it upwards, for the title of a vertical axis."""
    rotation = f' transform="rotate(-90 {x:.1f} {y:.1f})"' if turn else ""
    return f'<text class="{kind}" x="{x:.1f}" y="{y:.1f}" text-anchor="{anchor}"{rotation}>{escape(content)}</text>'


def line(x1: float, y1: float, x2: float, y2: float, kind: str) -> str:
    """A straight line."""
    return f'<line class="{kind}" x1="{x1:.1f}" y1="{y1:.1f}" x2="{x2:.1f}" y2="{y2:.1f}"/>'


def bar(x: float, y: float, width: float, height: float, kind: str, note: str = "") -> str:
    """A filled rectangle; `note` is shown when the pointer rests on it."""
    return (
        f'<rect class="fill {kind}" x="{x:.1f}" y="{y:.1f}" width="{max(width, 0):.1f}" height="{max(height, 0):.1f}">'
        f"{_note(note)}</rect>"
    )


def path(points: Sequence[tuple[float, float]], kind: str, *, closed: bool = False) -> str:
    """A line through points, or the area inside them."""
    steps = " ".join(f"{'L' if index else 'M'}{x:.1f} {y:.1f}" for index, (x, y) in enumerate(points))
    return f'<path class="{kind}" d="{steps}{" Z" if closed else ""}"/>'


def marker(x: float, y: float, kind: str, note: str = "", *, size: float = 4.5) -> str:
    """A circle for the reference setting, a diamond for the served one, a square for others: never colour alone."""
    if kind == REFERENCE:
        return f'<circle class="fill mark {kind}" cx="{x:.1f}" cy="{y:.1f}" r="{size:g}">{_note(note)}</circle>'
    half = size * (1.25 if kind == SERVED else 0.9)
    corners = DIAMOND if kind == SERVED else SQUARE
    points = " ".join(f"{x + half * right:.1f},{y + half * down:.1f}" for right, down in corners)
    return f'<polygon class="fill mark {kind}" points="{points}">{_note(note)}</polygon>'


def legend(entries: Sequence[tuple[str, str]], x: float, y: float) -> str:
    """Markers with their names, side by side; an entry is (class, name)."""
    parts: list[str] = []
    for kind, name in entries:
        parts += [marker(x + 6, y - 4.5, kind), text(x + 16, y, name)]
        x += 34 + 7.2 * len(name)
    return "".join(parts)


def share_grid(x: Scale, top: float, bottom: float) -> str:
    """A horizontal axis of shares, 0 to 100 %, with grid lines."""
    parts: list[str] = []
    for tick in range(0, 101, 20):
        place = x(tick / 100)
        parts.append(line(place, top, place, bottom, "grid"))
        parts.append(text(place, bottom + 17, str(tick), anchor="middle", kind="tick"))
    return "".join(parts)


def share_levels(y: Scale, left: float, right: float) -> str:
    """A vertical axis of shares, 0 to 100 %, with grid lines."""
    parts: list[str] = []
    for tick in range(0, 101, 20):
        place = y(tick / 100)
        parts.append(line(left, place, right, place, "grid"))
        parts.append(text(left - 7, place + 4, str(tick), anchor="end", kind="tick"))
    return "".join(parts)


def round_step(span: float, parts: int) -> float:
    """The smallest of 1, 2, 2.5 and 5 times a power of ten that cuts `span` > 0 into at most `parts` pieces."""
    power = 10.0 ** math.floor(math.log10(span / parts))
    return next(factor * power for factor in (1, 2, 2.5, 5, 10) if span / (factor * power) <= parts + 1e-9)


def shortened(name: str, characters: int) -> str:
    """A name that fits, cut in the middle since names often begin alike; the figure's description has it in full."""
    ending = characters // 2
    return name if len(name) <= characters else f"{name[: characters - ending - 1]}…{name[-ending:]}"


def _note(note: str) -> str:
    return f"<title>{escape(note)}</title>" if note else ""
