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


def cell(x: float, y: float, width: float, height: float, kind: str, strength: float, note: str = "") -> str:
    """A rectangle of a heat map; `strength` in [0, 1] is how much of the colour covers the ground.

    Text on a cell stays readable, since the colour covers 55 % at most; a `plain` cell carries none and goes to 95 %.
    """
    opacity = strength * (0.95 if "plain" in kind.split() else 0.55)
    return (
        f'<rect class="cell {kind}" x="{x:.1f}" y="{y:.1f}" width="{width:.1f}" height="{height:.1f}" '
        f'fill-opacity="{opacity:.2f}">{_note(note)}</rect>'
    )


def frame(x: float, y: float, width: float, height: float) -> str:
    """An empty rectangle."""
    return f'<rect class="frame" x="{x:.1f}" y="{y:.1f}" width="{width:.1f}" height="{height:.1f}"/>'


def path(points: Sequence[tuple[float, float]], kind: str, *, closed: bool = False) -> str:
    """A line through points, or the area inside them."""
    steps = " ".join(f"{'L' if index else 'M'}{x:.1f} {y:.1f}" for index, (x, y) in enumerate(points))
    return f'<path class="{kind}" d="{steps}{" Z" if closed else ""}"/>'


def marker(x: float, y: float, kind: str, note: str = "", *, size: float = 4.5, hollow: bool = False) -> str:
    """A circle for the reference setting, a diamond for the served one, a square for others: never colour alone."""
    look = f"fill mark {kind}{' hollow' if hollow else ''}"
    if kind == REFERENCE:
        return f'<circle class="{look}" cx="{x:.1f}" cy="{y:.1f}" r="{size:.3g}">{_note(note)}</circle>'
    half = size * (1.25 if kind == SERVED else 0.9)
    corners = DIAMOND if kind == SERVED else SQUARE
    points = " ".join(f"{x + half * right:.1f},{y + half * down:.1f}" for right, down in corners)
    return f'<polygon class="{look}" points="{points}">{_note(note)}</polygon>'


def legend(entries: Sequence[tuple[str, str]], x: float, y: float) -> str:
    """Markers with their names, side by side; an entry is (class, name)."""
    parts: list[str] = []
    for kind, name in entries:
        parts += [marker(x + 6, y - 4.5, kind), text(x + 16, y, name)]
        x += 34 + 7.2 * len(name)
    return "".join(parts)


def percent_grid(x: Scale, top: float, bottom: float) -> str:
    """A horizontal axis of fractions, 0 to 100 %, with grid lines."""
    parts: list[str] = []
    for tick in range(0, 101, 20):
        place = x(tick / 100)
        parts.append(line(place, top, place, bottom, "grid"))
        parts.append(text(place, bottom + 17, str(tick), anchor="middle", kind="tick"))
    return "".join(parts)


def percent_levels(y: Scale, left: float, right: float) -> str:
    """A vertical axis of fractions, 0 to 100 %, with grid lines."""
    return "".join(level_grid(y, [(tick / 100, str(tick)) for tick in range(0, 101, 20)], left, right))


def level_grid(y: Scale, levels: Iterable[tuple[float, str]], left: float, right: float) -> list[str]:
    """Grid lines of a vertical axis with their labels; a level is (value, label)."""
    parts: list[str] = []
    for value, label in levels:
        parts.append(line(left, y(value), right, y(value), "grid"))
        parts.append(text(left - 7, y(value) + 4, label, anchor="end", kind="tick"))
    return parts


def value_ticks(x: Scale, baseline: float) -> list[str]:
    """Labels at round values of a horizontal axis."""
    step = round_step(x.high - x.low, 7)
    first, last = math.ceil(x.low / step - 1e-9), math.floor(x.high / step + 1e-9)
    values = [tick * step for tick in range(first, last + 1)]
    return [text(x(value), baseline, f"{value:g}".replace("-", "−"), anchor="middle", kind="tick") for value in values]


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
