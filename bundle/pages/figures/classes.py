"""Figures of single classes.

Accuracy by class.

What the model answers under attack: labels against answers.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from bundle.pages.figures.shares import say, share_of
from bundle.pages.svg import SERVED, WIDTH, Scale, bar, cell, drawing, line, share_grid, shortened, text

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


#: A heat map of more classes than this cannot be read.
HEAT_MAP_CLASSES = 10
#: Confusions that the list shows at most: the most frequent ones.
PAIRS_SHOWN = 15


def confusion(counts: NDArray[np.integer[Any]], names: Sequence[str]) -> str:
    """Images by label (rows) and answer (columns), `counts` (K, K): a heat map, or for many classes a list."""
    return _heat_map(counts, names) if len(names) <= HEAT_MAP_CLASSES else _list(counts, names)


def most_confused(counts: NDArray[np.integer[Any]], shown: int = PAIRS_SHOWN) -> list[tuple[int, int, int]]:
    """The most frequent wrong answers, (label, answer, images), most images first, then by label and answer."""
    wrong = counts.copy()
    np.fill_diagonal(wrong, 0)
    labels, answers = np.nonzero(wrong)
    pairs = [
        (int(label), int(answer), int(wrong[label, answer])) for label, answer in zip(labels, answers, strict=True)
    ]
    return sorted(pairs, key=lambda pair: -pair[2])[:shown]


def _heat_map(counts: NDArray[np.integer[Any]], names: Sequence[str]) -> str:
    """A cell is as strong as its share of the label's images; right answers have the served setting's colour."""
    labels = [shortened(name, 12) for name in names]
    widest = max(len(name) for name in labels)
    left, top, height = 40 + 7.4 * widest, 22, 27
    width = (WIDTH - 8 - left) / len(names)
    bottom, turned = top + height * len(names), 7.4 * widest > width
    parts = [text((left + WIDTH - 8) / 2, 13, "answer under attack", anchor="middle", kind="axis")]
    parts.append(text(12, (top + bottom) / 2, "label", anchor="middle", kind="axis", turn=True))
    for row, name in enumerate(labels):
        parts.append(text(left - 8, top + height * (row + 0.5) + 4.5, name, anchor="end"))
        middle = left + width * (row + 0.5)
        place = (middle + 4, bottom + 8, "end") if turned else (middle, bottom + 17, "middle")
        parts.append(text(place[0], place[1], name, anchor=place[2], turn=turned))
        for column, count in enumerate(counts[row]):
            x, y = left + width * column, top + height * row
            note = f"{names[row]}, answered {names[column]}: {count} of {counts[row].sum()}"
            kind = SERVED if row == column else "heat"
            parts.append(cell(x + 1, y + 1, width - 2, height - 2, kind, int(count) / max(1, counts[row].sum()), note))
            if count:
                parts.append(text(x + width / 2, y + height / 2 + 4.5, str(count), anchor="middle", kind="value"))
    return drawing(*_words(counts, names), bottom + (16 + 7.4 * widest if turned else 26), parts)


def _list(counts: NDArray[np.integer[Any]], names: Sequence[str]) -> str:
    pairs = most_confused(counts)
    left, top, step = 258, 22, 22
    longest = max((count for _, _, count in pairs), default=1)
    parts = [text(left, 13, "images", kind="tick")]
    if not pairs:
        parts.append(text(16, top + 15, "no wrong answer"))
    for index, (label, answer, count) in enumerate(pairs):
        middle = top + step * (index + 0.5)
        name = f"{shortened(names[label], 15)} → {shortened(names[answer], 15)}"
        note = f"{names[label]}, answered {names[answer]}: {count} of {counts[label].sum()}"
        length = (WIDTH - 44 - left) * count / longest
        parts.append(text(left - 8, middle + 4, name, anchor="end"))
        parts.append(bar(left, middle - 7, length, 14, "heat", note))
        parts.append(text(left + length + 6, middle + 4, str(count), kind="value"))
    return drawing(*_words(counts, names), top + step * max(1, len(pairs)) + 6, parts)


def _words(counts: NDArray[np.integer[Any]], names: Sequence[str]) -> tuple[str, str, str]:
    """Key, title and description."""
    said = [f"{names[label]} answered {names[answer]}: {count}" for label, answer, count in most_confused(counts)]
    right = f"{int(np.trace(counts))} of {int(counts.sum())} answers are right"
    return "confusion", "Confusion under attack", "; ".join([right, *said])
