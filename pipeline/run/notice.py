"""What is about to be trained, in one line, and after the first steps how long it will take."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Generic, TypeVar

#: Minutes from which on it is said what would be shorter.
LONG = 20
SHORTER = (
    "; shorter with fewer train.epochs, a smaller network.width or data.image_size, or a method of one step a batch "
    "(method.name: fgsm_rs)"
)
Asked = TypeVar("Asked")
Given = TypeVar("Given")


class FirstSteps(Generic[Asked, Given]):
    """Stands before the function that makes a step's gradients, and says after some steps what all will take.

    `skipped` steps are not counted: on CUDA the first ones choose kernels and record graphs.
    """

    def __init__(
        self, gradients: Callable[[Asked], Given], left: Callable[[], int], skipped: int, counted: int
    ) -> None:
        self._gradients, self._left = gradients, left
        self._first, self._last = skipped, skipped + counted
        self._step, self._started = 0, 0.0

    def __call__(self, batch: Asked) -> Given:
        if self._step == self._first:
            self._started = time.monotonic()
        if self._step == self._last:
            print(expected((time.monotonic() - self._started) / (self._last - self._first), self._left()), flush=True)
        self._step += 1
        return self._gradients(batch)


def expected(seconds: float, steps: int) -> str:
    """How long so many steps of so many seconds take, and what to change where that is long."""
    minutes = seconds * steps / 60
    said = (
        f"{seconds * steps:.0f} s"
        if minutes < 2
        else f"{minutes:.0f} min"
        if minutes < 120
        else f"{minutes / 60:.1f} h"
    )
    return f"about {said} to train: {steps} steps of {seconds:.3g} s{SHORTER if minutes > LONG else ''}"
