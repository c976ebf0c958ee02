"""Contrast, elastic transform, pixelate and JPEG compression."""

from __future__ import annotations

from collections.abc import Callable
from io import BytesIO
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from bundle.corruptions.filters import Draws, Floats, sampled, smoothed

#: Share of each value's distance from its channel's mean that stays.
CONTRAST = (0.75, 0.5, 0.4, 0.3, 0.15)
#: Strength and smoothness of the local moves, and the largest move of the three points that carry the image; each as a
#: share of the shorter side.
ELASTIC = ((0.0, 0.0, 0.08), (0.05, 0.2, 0.07), (0.08, 0.06, 0.06), (0.1, 0.04, 0.05), (0.1, 0.03, 0.03))
#: Share of the pixels along a side that stay.
PIXELATE = (0.95, 0.9, 0.85, 0.75, 0.65)
#: Quality of the JPEG file.
JPEG = (80, 65, 58, 50, 40)


def contrast(images: Floats, severity: int, draws: Draws) -> NDArray[np.floating[Any]]:
    """Less contrast: every value moves towards the mean of its channel."""
    means = images.mean(axis=(1, 2), keepdims=True, dtype=np.float64)
    return (images - means) * CONTRAST[severity - 1] + means


def elastic_transform(images: Floats, severity: int, draws: Draws) -> Floats:
    """A random affine map of three points, after smooth local moves."""
    count, height, width, _ = images.shape
    strength, smoothness, jolt = (share * min(height, width) for share in ELASTIC[severity - 1])
    maps = _affine_maps(draws(lambda generator: generator.uniform(-jolt, jolt, (3, 2))), height, width)
    across, down = np.meshgrid(np.arange(width, dtype=np.float64), np.arange(height, dtype=np.float64))
    places = np.broadcast_to(np.stack([across, down]), (count, 2, height, width))
    if strength:
        noise = draws(lambda generator: generator.uniform(-1, 1, (2, height, width)))
        moves = smoothed(noise.reshape(2 * count, height, width), smoothness, truncate=3.0)
        places = places + strength * moves.reshape(count, 2, height, width)
    columns, rows = (
        maps[:, None, None, axis, 0] * places[:, 0]
        + maps[:, None, None, axis, 1] * places[:, 1]
        + maps[:, None, None, axis, 2]
        for axis in (0, 1)
    )
    return sampled(images, rows, columns)


def _affine_maps(jolts: NDArray[np.float64], height: int, width: int) -> NDArray[Any]:
    """Affine maps (N, 2, 3) in (x, y) that take three points, moved by jolts (N, 3, 2), back to where they were."""
    middle, arm = np.array([height // 2, width // 2], np.float64)[::-1], min(height, width) // 3
    points = np.array([middle + arm, [middle[0] + arm, middle[1] - arm], middle - arm])
    moved = np.concatenate([points + jolts, np.ones((len(jolts), 3, 1))], axis=2)
    return np.linalg.solve(moved, np.broadcast_to(points, (len(jolts), 3, 2))).transpose(0, 2, 1)


def pixelate(images: Floats, severity: int, draws: Draws) -> Floats:
    """Fewer pixels, each a box, enlarged again to the same size."""
    height, width = images.shape[1:3]
    small = int(width * PIXELATE[severity - 1]), int(height * PIXELATE[severity - 1])

    def fewer(picture: Image.Image) -> Image.Image:
        box = Image.Resampling.BOX
        return picture.resize(small, box).resize((width, height), box)

    return _by_pillow(images, fewer)


def jpeg_compression(images: Floats, severity: int, draws: Draws) -> Floats:
    """Written as a JPEG file and read again."""

    def reread(picture: Image.Image) -> Image.Image:
        file = BytesIO()
        picture.save(file, "JPEG", quality=JPEG[severity - 1])
        return Image.open(file)

    return _by_pillow(images, reread)


def _by_pillow(images: Floats, change: Callable[[Image.Image], Image.Image]) -> Floats:
    whole = np.rint(images * 255).astype(np.uint8)
    pictures = whole[..., 0] if images.shape[3] == 1 else whole
    changed = np.stack([np.asarray(change(Image.fromarray(picture))) for picture in pictures])
    return changed.reshape(images.shape).astype(np.float32) / np.float32(255)
