"""Blurs, streaks, zooms and maps over a batch of images; each image's result depends on that image alone.

Each image's own random numbers, and how lengths grow with the image.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.ndimage import gaussian_filter1d

#: Weights of a kernel below this fraction of the largest are left out.
NEGLIGIBLE = 1e-3


def smoothed(fields: NDArray[Any], sigma: float, truncate: float = 4.0) -> NDArray[Any]:
    """A Gaussian blur of (N, H, W, …) along H and W, reflected at the border; `sigma` in pixels."""
    if sigma <= 0:
        return fields
    down = gaussian_filter1d(fields, sigma, axis=1, mode="reflect", truncate=truncate)
    return gaussian_filter1d(down, sigma, axis=2, mode="reflect", truncate=truncate)


def convolved(images: Floats, kernel: NDArray[np.float64]) -> Floats:
    """Images (N, H, W, C) under a symmetric kernel (odd side, sums to 1), reflected at the border."""
    reach = len(kernel) // 2
    padded = np.pad(images, ((0, 0), (reach, reach), (reach, reach), (0, 0)), mode="reflect")
    height, width = images.shape[1:3]
    result = np.zeros_like(images)
    for down, right in np.argwhere(kernel > NEGLIGIBLE * kernel.max()):
        result += np.float32(kernel[down, right]) * padded[:, down : down + height, right : right + width]
    return result / np.float32(kernel[kernel > NEGLIGIBLE * kernel.max()].sum())


def streaked(images: Floats, angles: NDArray[np.float64], radius: float, sigma: float) -> Floats:
    """Images (N, H, W, C) blurred to one side along a direction each.

    `angles` (N,) in degrees from the horizontal; the weights are a Gaussian's of `sigma` pixels from its middle outwards,
    over 2 · radius + 1 pixels. Beyond the border the nearest pixel counts.
    """
    count, height, width = images.shape[:3]
    steps = np.arange(2 * round(radius) + 1)
    weights = np.exp(-(steps**2) / (2 * sigma**2))
    steps, weights = steps[weights > NEGLIGIBLE], weights[weights > NEGLIGIBLE]
    right, down = np.cos(np.radians(angles)), np.sin(np.radians(angles))
    result = np.zeros_like(images)
    image = np.arange(count)[:, None, None]
    for step, weight in zip(steps, weights / weights.sum(), strict=True):
        rows = np.clip(np.arange(height) + np.rint(step * down)[:, None].astype(np.intp), 0, height - 1)
        columns = np.clip(np.arange(width) + np.rint(step * right)[:, None].astype(np.intp), 0, width - 1)
        result += np.float32(weight) * images[image, rows[:, :, None], columns[:, None, :]]
    return result


def zoomed(planes: Floats, factor: float) -> Floats:
    """Planes (…, H, W) enlarged around their middle by a factor of at least 1, bilinearly, and cut to their size."""
    rows, columns = (_zoom_matrix(length, factor) for length in planes.shape[-2:])
    return np.matmul(np.matmul(rows, planes), columns.T)


def _zoom_matrix(length: int, factor: float) -> Floats:
    """The linear map (length, length) that enlarges a line."""
    middle = (length - 1) / 2
    places = middle + (np.arange(length) - middle) / factor
    lower = np.minimum(np.floor(places).astype(np.intp), length - 2)
    matrix = np.zeros((length, length), np.float32)
    matrix[np.arange(length), lower] = 1 - (places - lower)
    matrix[np.arange(length), lower + 1] = places - lower
    return matrix


def sampled(images: Floats, rows: NDArray[np.float64], columns: NDArray[np.float64]) -> Floats:
    """Images (N, H, W, C) read at places (N, H, W) in pixels, bilinearly, reflected at the border."""
    count, height, width, channels = images.shape
    top, down = _reflected(rows, height)
    left, right = _reflected(columns, width)
    pixels = images.reshape(-1, channels)
    start = (np.arange(count) * height * width)[:, None, None]
    result = np.zeros(images.shape, np.float32)
    for step_down, step_right in np.ndindex(2, 2):
        weight = (down if step_down else 1 - down) * (right if step_right else 1 - right)
        places = start + (top + step_down) * width + left + step_right
        result += weight[..., None].astype(np.float32) * pixels[places]
    return result


def _reflected(places: NDArray[np.float64], length: int) -> tuple[NDArray[np.intp], NDArray[np.float64]]:
    """The pixel below each place and how far the place is beyond it, after reflection at the outermost pixels."""
    period = 2 * (length - 1)
    folded = np.abs(places) % period
    folded = np.minimum(folded, period - folded)
    lower = np.minimum(np.floor(folded).astype(np.intp), length - 2)
    return lower, folded - lower


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
