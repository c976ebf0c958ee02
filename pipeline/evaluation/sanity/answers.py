"""What the answers to clean images say before any attack: better than chance, and in the order of the classes.

Whether test images were seen before, or have two labels: numbers about images that leaked are about memory.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import linear_sum_assignment

from bundle.leakage import LEAKS, leaked_fractions
from bundle.numbers.intervals import lower_bound, paired_difference
from pipeline.evaluation.sanity.measured import Item, accuracy_of, at_least, at_most

Labels = NDArray[np.int64]

#: An accuracy that chance alone reaches less often than this is above it.
ALPHA = 0.001
#: Ten points above chance: less is shown by few honest models, and by many with the wrong normalisation or classes.
CHANCE_WARN = 0.1
#: Honest models gain nothing. Two swapped classes of ten gain nearly a fifth, two of a hundred nearly two points.
ORDER_WARN, ORDER_FAIL = 0.01, 0.05
#: Classes that are named.
NAMED = 10


def answer_checks(labels: Labels, predictions: Labels, classes: Sequence[str]) -> Iterator[Item]:
    """Both checks; labels and predictions (N,) from 0, `classes` their names."""
    yield above_chance(labels, predictions)
    yield class_order(labels, predictions, classes)


def above_chance(labels: Labels, predictions: Labels) -> Item:
    """The exact binomial bound of clean accuracy against the fraction of the largest class, which is 1/K or more."""
    count, right = len(labels), int((predictions == labels).sum())
    chance = float(np.bincount(labels).max() / count)
    return at_least(
        "above_chance",
        lower_bound(right, count, ALPHA) - chance,
        warn=CHANCE_WARN,
        fail=0.0,
        meaning=f"how far clean accuracy ({right} of {count}) is above always answering the largest class ({chance:.1%}), "
        f"from the lower end of its interval at {1 - ALPHA:.1%}",
    )


def class_order(labels: Labels, predictions: Labels, classes: Sequence[str]) -> Item:
    """What other classes for the answers gain: chosen on one half of the images, counted on the other, both ways.

    So chosen, and from the lower end of the interval, what only fits the noise of few images gains nothing.
    """
    relabelled, half, warn = np.empty_like(predictions), _halves(labels), accuracy_of(ORDER_WARN, len(labels))
    for side in (0, 1):
        order = best_order(confusion(labels[half != side], predictions[half != side], len(classes)))
        relabelled[half == side] = np.argsort(order)[predictions[half == side]]
    gained = paired_difference(predictions == labels, relabelled == labels)
    swapped = _swapped(confusion(labels, predictions, len(classes)), classes) if gained.interval[0] > warn else ""
    return at_most(
        "class_order",
        gained.interval[0],
        warn=warn,
        fail=accuracy_of(ORDER_FAIL, len(labels)),
        meaning=f"accuracy that other classes for the answers would gain ({gained.difference:+.1%}), from the lower end of "
        f"its 95 % interval{swapped}",
    )


def confusion(labels: Labels, predictions: Labels, classes: int) -> NDArray[np.int64]:
    """Counts (K, K): rows are labels, columns answers."""
    return np.bincount(labels * classes + predictions, minlength=classes**2).reshape(classes, classes)


def best_order(table: NDArray[np.int64]) -> Labels:
    """For each class the answer that should mean it, (K,), so that most images are right; its own where that is as good."""
    own = np.eye(len(table)) / (2 * len(table))
    return linear_sum_assignment(table + own, maximize=True)[1]


def _halves(labels: Labels) -> Labels:
    """0 or 1 for each image, alternating within a class."""
    half = np.empty(len(labels), np.int64)
    half[np.argsort(labels, kind="stable")] = np.arange(len(labels)) % 2
    return half


def _swapped(table: NDArray[np.int64], classes: Sequence[str]) -> str:
    """The classes whose images mostly get another one's answer, in words."""
    order = best_order(table)
    found = [
        f"images of {classes[label]} are answered {classes[answer]}"
        for label, answer in enumerate(order)
        if table[label, answer] > table[label, label]
    ]
    more = f" and {len(found) - NAMED} classes more" if len(found) > NAMED else ""
    return f"; their order seems to be another: {', '.join(found[:NAMED])}{more}"


#: A leak of one per cent moves an accuracy by up to a point. Plain pictures resemble each other without a leak, so that
#: look-alikes fail only where they are the rule.
LIMITS = {"copies": (0.0, 0.01), "near_copies": (0.01, 0.5), "two_labels": (0.0, 0.01)}


def data_checks(data: Mapping[str, Any]) -> Iterator[Item]:
    """The checks that the counts of the predicate's `data` allow."""
    for leak, fraction in leaked_fractions(data.get("leakage", {}), data["splits"]).items():
        warn, fail = LIMITS[leak]
        yield at_most(leak, fraction, warn=warn, fail=fail, meaning=f"share of {LEAKS[leak]}")
