"""Accuracy by attack."""

from __future__ import annotations

from collections.abc import Sequence

from bundle.figures.shares import SETTING_LEGEND, Claim, say, whisker
from bundle.svg import REFERENCE, SERVED, WIDTH, Scale, drawing, legend, share_grid, shortened, text
from bundle.wording import percent

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
