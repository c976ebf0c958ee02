"""Figures of accuracy, by attack and by class, and the parts that others draw theirs with.

An accuracy is drawn with its interval, as words, as a whisker and as a band. Of single classes: accuracy, and what the
model answers under attack, labels against answers.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from bundle.numbers.intervals import clopper_pearson
from bundle.pages.svg import (
    REFERENCE,
    SERVED,
    WIDTH,
    Scale,
    bar,
    cell,
    drawing,
    legend,
    line,
    marker,
    path,
    percent_grid,
    shortened,
    text,
)
from bundle.pages.wording import interval, percent

Claim = Mapping[str, Any]
SETTING_LEGEND = ((SERVED, "served"), (REFERENCE, "reference"))


def accuracy_of(correct: int, size: int) -> dict[str, Any]:
    """An accuracy with its interval, in the form of a claim, for numbers that are drawn but not claimed."""
    return {"value": correct / size, "correct": correct, "sampleSize": size, "interval": clopper_pearson(correct, size)}


def say(claim: Claim) -> str:
    """An accuracy in words: `87.0 % (174 of 200; 81.5 to 91.3 %)`."""
    return f"{percent(claim['value'])} ({claim['correct']} of {claim['sampleSize']}; {interval(claim)})"


def strip(claim: Claim, kind: str) -> str:
    """An accuracy on a line from 0 to 100 % with its interval: the small picture under a headline number."""
    x = Scale(0, 1, 4, 196)
    lower, upper = claim["interval"]
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" class="strip" viewBox="0 0 200 12" aria-hidden="true">'
        f"{line(4, 6, 196, 6, 'grid')}{line(x(lower), 6, x(upper), 6, f'whisker wide {kind}')}"
        f"{marker(x(claim['value']), 6, kind, size=3.5)}</svg>"
    )


def whisker(x: Scale, y: float, claim: Claim, kind: str, note: str) -> str:
    """An accuracy on a horizontal axis."""
    lower, upper = claim["interval"]
    return line(x(lower), y, x(upper), y, f"whisker {kind}") + marker(x(claim["value"]), y, kind, note)


def upright(x: float, y: Scale, claim: Claim, kind: str, note: str, *, hollow: bool = False) -> str:
    """An accuracy on a vertical axis."""
    lower, upper = claim["interval"]
    return line(x, y(lower), x, y(upper), f"whisker {kind}") + marker(x, y(claim["value"]), kind, note, hollow=hollow)


def band(places: Sequence[tuple[float, Claim]], y: Scale, kind: str) -> str:
    """Accuracies along a horizontal axis in pixels: their line, and their intervals as an area."""
    upper = [(x, y(claim["interval"][1])) for x, claim in places]
    lower = [(x, y(claim["interval"][0])) for x, claim in reversed(places)]
    middle = [(x, y(claim["value"])) for x, claim in places]
    return path([*upper, *lower], f"band {kind}", closed=True) + path(middle, f"curve {kind}")


#: Characters of an attack's name that fit beside the axis.
NAME_WIDTH = 19


def by_attack(rows: Sequence[tuple[str, Claim, Claim]], threat: str) -> str:
    """Accuracy by attack with intervals; a row is (name, claim in served, claim in reference)."""
    names = [shortened(name, NAME_WIDTH) for name, _, _ in rows]
    left = 16 + 7.2 * max(12, *map(len, names))
    x, top, step = Scale(0, 1, left, WIDTH - 66), 34, 30
    bottom = top + step * len(rows)
    parts = [
        legend(SETTING_LEGEND, left - 8, 15),
        text(WIDTH - 4, 15, "served", anchor="end", kind="tick"),
        percent_grid(x, top, bottom),
    ]
    for index, (name, served, reference) in enumerate(rows):
        middle = top + step * (index + 0.5)
        parts.append(text(left - 10, middle + 4, names[index], anchor="end"))
        parts.append(whisker(x, middle - 6, served, SERVED, f"{name}, served: {say(served)}"))
        parts.append(whisker(x, middle + 6, reference, REFERENCE, f"{name}, reference: {say(reference)}"))
        parts.append(text(WIDTH - 4, middle + 4, percent(served["value"]), anchor="end", kind="value"))
    parts.append(text(x(0.5), bottom + 36, f"images still right, {threat} (%)", anchor="middle", kind="axis"))
    words = "; ".join(f"{name}: served {say(served)}, reference {say(reference)}" for name, served, reference in rows)
    return drawing("by-attack", f"Accuracy by attack at {threat}", words, bottom + 44, parts)


#: Classes that the figure shows at most: the worst ones.
CLASSES_SHOWN = 20


@dataclass(frozen=True)
class ClassAccuracy:
    """How one class fares: images right under all attacks, right when clean, and in all; size ≥ 1."""

    name: str
    robust: int
    clean: int
    size: int


def by_class(classes: Sequence[ClassAccuracy]) -> str:
    """Accuracy under all attacks by class, worst first, at most CLASSES_SHOWN; a tick marks the clean accuracy."""
    shown = sorted(classes, key=lambda item: item.robust / item.size)[:CLASSES_SHOWN]
    left = min(140.0, 24 + 7.6 * max(len(item.name) for item in shown))
    x, top, step = Scale(0, 1, left, WIDTH - 66), 34, 22
    bottom = top + step * len(shown)
    parts = [bar(left, 6, 14, 9, SERVED), text(left + 20, 15, "under all attacks")]
    parts += [line(left + 150, 4, left + 150, 17, "clean"), text(left + 158, 15, "clean")]
    parts += [percent_grid(x, top, bottom), text(WIDTH - 4, 15, "right/all", anchor="end", kind="tick")]
    for index, item in enumerate(shown):
        parts.append(_row(x, top + step * (index + 0.5), item))
    parts.append(text(x(0.5), bottom + 36, "images of the class still right (%)", anchor="middle", kind="axis"))
    words = "; ".join(f"{item.name}: {say(accuracy_of(item.robust, item.size))}" for item in shown)
    return drawing("by-class", "Accuracy under all attacks by class", words, bottom + 44, parts)


def _row(x: Scale, middle: float, item: ClassAccuracy) -> str:
    robust, clean = accuracy_of(item.robust, item.size), accuracy_of(item.clean, item.size)
    lower, upper = robust["interval"]
    note = f"{item.name}: {say(robust)}; clean {say(clean)}"
    return "".join(
        [
            text(x.start - 8, middle + 4, shortened(item.name, 16), anchor="end"),
            bar(x(0), middle - 7, x(robust["value"]) - x(0), 14, SERVED, note),
            line(x(lower), middle, x(upper), middle, "whisker"),
            line(x(clean["value"]), middle - 9, x(clean["value"]), middle + 9, "clean"),
            text(WIDTH - 4, middle + 4, f"{item.robust}/{item.size}", anchor="end", kind="value"),
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
    """A cell is as strong as its part of the label's images; right answers have the served setting's colour."""
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
