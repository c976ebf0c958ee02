"""Each image's own random numbers, and how lengths grow with the image."""

from __future__ import annotations

from collections.abc import Callable
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float32]

#: The side of the images that the severities were published for.
PUBLISHED_SIDE = 32


class Draws:
    """Draws for a batch of images, each from the generator of (seed, index, corruption, severity)."""

    def __init__(self, seed: int, index: NDArray[np.integer[Any]], corruption: int, severity: int) -> None:
        self._keys = [[seed, int(row), corruption, severity] for row in index]

    @cached_property
    def _generators(self) -> list[np.random.Generator]:
        return [np.random.default_rng(key) for key in self._keys]

    def __call__(self, draw: Callable[[np.random.Generator], Any]) -> NDArray[Any]:
        """(N, …): what `draw` takes from each image's generator; a second call goes on where the first ended."""
        return np.stack([np.asarray(draw(generator)) for generator in self._generators])

    def for_each(self, images: Floats, draw: Callable[[np.random.Generator, Floats], Any]) -> NDArray[Any]:
        """(N, …): the same, for draws that depend on the image."""
        pairs = zip(self._generators, images, strict=True)
        return np.stack([np.asarray(draw(generator, image)) for generator, image in pairs])


#: Maps images float32 (N, H, W, C) in [0, 1], a severity from 1 to 5 and draws to images, which may leave [0, 1].
Corruption = Callable[[Floats, int, Draws], NDArray[np.floating[Any]]]


def growth(images: NDArray[Any]) -> float:
    """What lengths in pixels are multiplied by in images (N, H, W, …): side / 32, at least 1."""
    return max(1.0, min(images.shape[1:3]) / PUBLISHED_SIDE)
