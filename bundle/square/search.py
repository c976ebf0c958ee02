"""Square Attack by queries alone: any classifier that answers with scores, straight on the 8-bit grid, without torch.

Andriushchenko, Croce, Flammarion, Hein, "Square Attack: a query-efficient black-box adversarial attack via random
search", ECCV 2020, arXiv 1912.00049. Every candidate is an image that a client can send, inside the ball in integers.
bundle.square.candidates says how they are made in each norm.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from bundle.errors import HallmarkError
from bundle.square.candidates import Uniforms, start, start_count, step, step_count
from bundle.table.threats import Threat

Scores = Callable[[NDArray[np.uint8]], NDArray[np.floating[Any]]]

#: The fraction of the image that the first window covers; it halves at these parts of the budget (the paper's schedule,
#: which is written for 10,000 queries; the fraction is AutoAttack's).
FRACTION = 0.8
HALVINGS = (0.001, 0.005, 0.02, 0.05, 0.1, 0.2, 0.4, 0.6, 0.8)
#: Random numbers are drawn for this many steps at a time, to hold memory down.
BLOCK = 16


@dataclass(frozen=True)
class SquareResult:
    """What the attack left of N images.

    `images` uint8 (N, H, W, C), inside the ball: the best candidate of each; `queries` int64 (N,): the images asked
    about, the clean one included; `broken` bool (N,): whether the answer on `images` is another class than the label.
    """

    images: NDArray[np.uint8]
    queries: NDArray[np.int64]
    broken: NDArray[np.bool_]


def square(
    scores: Scores,
    images: NDArray[np.uint8],
    labels: NDArray[np.integer[Any]],
    *,
    threat: Threat,
    seed: int,
    index: NDArray[np.integer[Any]],
    queries: int = 1000,
    batch_size: int = 256,
    probabilities: bool = False,
    progress: Callable[[int, int], None] | None = None,
) -> SquareResult:
    """Searches each image's ball for an image that is answered wrongly, by the margin of the scores.

    Parameters
    ----------
    scores : maps uint8 (B, H, W, C), B ≤ `batch_size`, to (B, K) float logits, or probabilities where `probabilities`
        says so (their logarithms are compared).
    images, labels : clean uint8 (N, H, W, C), and (N,).
    threat : the ball, in whole levels.
    seed, index : image n is searched with the generator of (seed, index[n]), whatever the others are.
    queries : the most images to ask about for each image, the clean one included, at least 1.
    progress : is told after each round how many queries of the budget are over, and how many images are broken.

    An image is asked about until it is broken; a round asks about all others together. Raises HallmarkError where shapes
    do not fit, or a query count is not positive.
    """
    _check(images, labels, index, queries, batch_size)
    ask = _Asker(scores, batch_size, probabilities)
    margins, wrong = ask(images, labels)
    # A margin that is no number is worse for the attack than any other.
    best, smallest, broken = images.copy(), np.where(np.isnan(margins), np.inf, margins), wrong
    spent = np.ones(len(images), np.int64)
    draws = _Draws(seed, index)
    for taken in range(queries - 1 if threat.levels else 0):
        rows = np.flatnonzero(~broken)
        if not rows.size:
            break
        if taken == 0:
            candidates = start(images[rows], draws.first(rows, start_count(threat, images.shape)), threat)
        else:
            uniforms = draws.next(rows, step_count(threat, images.shape))
            candidates = step(images[rows], best[rows], uniforms, window_fraction(taken, queries), threat)
        changed = (candidates != best[rows]).any(axis=(1, 2, 3))
        rows, candidates = rows[changed], candidates[changed]
        margins, wrong = ask(candidates, labels[rows])
        spent[rows] += 1
        better = wrong | (margins < smallest[rows])
        best[rows[better]], smallest[rows[better]] = candidates[better], margins[better]
        broken[rows] = wrong
        if progress is not None:
            progress(taken + 2, int(broken.sum()))
    return SquareResult(best, spent, broken)


def window_fraction(step: int, queries: int) -> float:
    """The fraction of the image that a window covers at this step of a budget of queries."""
    return FRACTION / 2 ** sum(step > part * queries for part in HALVINGS)


def _check(images: NDArray[Any], labels: NDArray[Any], index: NDArray[Any], queries: int, batch_size: int) -> None:
    if images.dtype != np.uint8 or images.ndim != 4:
        raise HallmarkError(f"images: must be uint8 (N, H, W, C), got {images.dtype} {images.shape}")
    if labels.shape != (len(images),) or index.shape != (len(images),):
        raise HallmarkError(f"labels and index: must have one entry for each of {len(images)} images")
    if queries < 1 or batch_size < 1:
        raise HallmarkError(f"queries and batch_size: must be at least 1, got {queries} and {batch_size}")


class _Asker:
    """Margins (N,) and whether the answer is wrong (N,), asked in batches."""

    def __init__(self, scores: Scores, batch_size: int, probabilities: bool) -> None:
        self._scores, self._batch_size, self._probabilities = scores, batch_size, probabilities

    def __call__(
        self, images: NDArray[np.uint8], labels: NDArray[np.integer[Any]]
    ) -> tuple[NDArray[np.float64], NDArray[np.bool_]]:
        if not len(images):
            return np.zeros(0), np.zeros(0, np.bool_)
        starts = range(0, len(images), self._batch_size)
        answers = [np.asarray(self._scores(images[start : start + self._batch_size])) for start in starts]
        found = np.concatenate(answers).astype(np.float64)
        if found.ndim != 2 or len(found) != len(images) or not labels.max() < found.shape[1]:
            raise HallmarkError(f"scores: must be (N, K) with a score for every label, got {found.shape}")
        wrong = found.argmax(axis=1) != labels
        if self._probabilities:
            found = np.log(np.maximum(found, np.finfo(np.float64).tiny))
        rows = np.arange(len(images))
        label = found[rows, labels].copy()
        found[rows, labels] = -np.inf
        return label - found.max(axis=1), wrong


class _Draws:
    """Uniform numbers in [0, 1) by image, from the image's own generator; a step takes as many for every image."""

    def __init__(self, seed: int, index: NDArray[np.integer[Any]]) -> None:
        self._generators = [np.random.default_rng([seed, int(row)]) for row in index]
        self._block: Uniforms = np.empty((len(index), BLOCK, 0))
        self._used = BLOCK

    def first(self, rows: NDArray[np.intp], count: int) -> Uniforms:
        """(rows, count) numbers for the start."""
        return np.stack([self._generators[row].random(count) for row in rows])

    def next(self, rows: NDArray[np.intp], count: int) -> Uniforms:
        """(rows, count) numbers for the next step; `rows` never grow, so every image's numbers are those of its steps."""
        if self._used == BLOCK:
            self._block = np.empty((len(self._generators), BLOCK, count))
            for row in rows:
                self._generators[row].random(out=self._block[row])
            self._used = 0
        self._used += 1
        return self._block[rows, self._used - 1]
