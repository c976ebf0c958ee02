"""Figures of shares, and the parts that others draw them with.

What the figures of shares have in common: a share with its interval, as words, as a whisker and as a band.

Accuracy by attack.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from bundle.numbers.intervals import clopper_pearson
from bundle.pages.svg import (
    REFERENCE,
    SERVED,
    WIDTH,
    Scale,
    drawing,
    legend,
    line,
    marker,
    path,
    share_grid,
    shortened,
    text,
)
from bundle.pages.wording import interval, percent

Claim = Mapping[str, Any]
SETTING_LEGEND = ((REFERENCE, "reference"), (SERVED, "served"))


def share_of(correct: int, size: int) -> dict[str, Any]:
    """A share with its interval, in the form of a claim, for numbers that are drawn but not claimed."""
    return {"value": correct / size, "correct": correct, "sampleSize": size, "interval": clopper_pearson(correct, size)}


def say(claim: Claim) -> str:
    """A share in words: `87.0 % (174 of 200; 81.5 to 91.3 %)`."""
    return f"{percent(claim['value'])} ({claim['correct']} of {claim['sampleSize']}; {interval(claim)})"


def strip(claim: Claim, kind: str) -> str:
    """A share on a line from 0 to 100 % with its interval: the small picture under a headline number."""
    x = Scale(0, 1, 4, 196)
    lower, upper = claim["interval"]
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" class="strip" viewBox="0 0 200 12" aria-hidden="true">'
        f"{line(4, 6, 196, 6, 'grid')}{line(x(lower), 6, x(upper), 6, f'whisker wide {kind}')}"
        f"{marker(x(claim['value']), 6, kind, size=3.5)}</svg>"
    )


def whisker(x: Scale, y: float, claim: Claim, kind: str, note: str) -> str:
    """A share on a horizontal axis."""
    lower, upper = claim["interval"]
    return line(x(lower), y, x(upper), y, f"whisker {kind}") + marker(x(claim["value"]), y, kind, note)


def upright(x: float, y: Scale, claim: Claim, kind: str, note: str, *, hollow: bool = False) -> str:
    """A share on a vertical axis."""
    lower, upper = claim["interval"]
    return line(x, y(lower), x, y(upper), f"whisker {kind}") + marker(x, y(claim["value"]), kind, note, hollow=hollow)


def band(places: Sequence[tuple[float, Claim]], y: Scale, kind: str) -> str:
    """Shares along a horizontal axis in pixels: their line, and their intervals as an area."""
    upper = [(x, y(claim["interval"][1])) for x, claim in places]
    lower = [(x, y(claim["interval"][0])) for x, claim in reversed(places)]
    middle = [(x, y(claim["value"])) for x, claim in places]
    return path([*upper, *lower], f"band {kind}", closed=True) + path(middle, f"curve {kind}")


#: Characters of an attack's name that fit beside the axis.
NAME_WIDTH = 19


def by_attack(rows: Sequence[tuple[str, Claim, Claim]], threat: str) -> str:
    """Accuracy by attack with intervals; a row is (name, claim in reference, claim in served)."""
    names = [shortened(name, NAME_WIDTH) for name, _, _ in rows]
    left = 16 + 7.2 * max(12, *map(len, names))
    x, top, step = Scale(0, 1, left, WIDTH - 66), 34, 30
    bottom = top + step * len(rows)
    parts = [
        legend(SETTING_LEGEND, left - 8, 15),
        text(WIDTH - 4, 15, "served", anchor="end", kind="tick"),
        share_grid(x, top, bottom),
    ]
    for index, (name, reference, served) in enumerate(rows):
        middle = top + step * (index + 0.5)
        parts.append(text(left - 10, middle + 4, names[index], anchor="end"))
        parts.append(whisker(x, middle - 6, reference, REFERENCE, f"{name}, reference: {say(reference)}"))
        parts.append(whisker(x, middle + 6, served, SERVED, f"{name}, served: {say(served)}"))
        parts.append(text(WIDTH - 4, middle + 4, percent(served["value"]), anchor="end", kind="value"))
    parts.append(text(x(0.5), bottom + 36, f"images still right, {threat} (%)", anchor="middle", kind="axis"))
    words = "; ".join(f"{name}: reference {say(reference)}, served {say(served)}" for name, reference, served in rows)
    return drawing("by-attack", f"Accuracy by attack at {threat}", words, bottom + 44, parts)
