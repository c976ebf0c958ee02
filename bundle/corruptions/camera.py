"""Corruptions that a camera or a file brings: noise, blur, contrast, elastic transform, pixelate, JPEG compression."""

from __future__ import annotations

from collections.abc import Callable
from io import BytesIO
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image
from scipy.ndimage import gaussian_filter

from bundle.corruptions.filters import Draws, Floats, convolved, growth, sampled, smoothed, streaked, zoomed

#: Standard deviation, in units of the pixel range.
GAUSSIAN = (0.04, 0.06, 0.08, 0.09, 0.10)
#: Photons that a white pixel receives.
SHOT = (500, 250, 100, 75, 50)
#: Fraction of the values that turn black or white.
IMPULSE = (0.01, 0.02, 0.03, 0.05, 0.07)


def gaussian_noise(images: Floats, severity: int, draws: Draws) -> Floats:
    """Normal noise on every value."""
    noise = draws(lambda generator: generator.standard_normal(images.shape[1:], dtype=np.float32))
    return images + np.float32(GAUSSIAN[severity - 1]) * noise


def shot_noise(images: Floats, severity: int, draws: Draws) -> NDArray[np.float64]:
    """Counts of photons: Poisson, with a mean in proportion to the value."""
    photons = SHOT[severity - 1]
    return draws.for_each(images, lambda generator, image: generator.poisson(image * photons)) / photons


def impulse_noise(images: Floats, severity: int, draws: Draws) -> Floats:
    """Salt and pepper, half of each, on single values."""
    uniform = draws(lambda generator: generator.random(images.shape[1:], dtype=np.float32))
    fraction = np.float32(IMPULSE[severity - 1])
    return np.where(uniform < fraction / 2, np.float32(0), np.where(uniform < fraction, np.float32(1), images))


#: Radius of the disc, and standard deviation of the blur that softens its edge; pixels.
DEFOCUS = ((0.3, 0.4), (0.4, 0.5), (0.5, 0.6), (1.0, 0.2), (1.5, 0.1))
#: Standard deviation of the blur, the largest move (pixels; back, one less), and rounds of moves.
GLASS = ((0.05, 1, 1), (0.25, 1, 1), (0.4, 1, 1), (0.25, 1, 2), (0.4, 1, 2))
#: Radius and standard deviation of the streak, pixels; the angle is drawn from ±45 degrees.
MOTION = ((6, 1.0), (6, 1.5), (6, 2.0), (8, 2.0), (9, 2.5))
#: How many enlargements, each a hundredth larger than the one before, are averaged.
ZOOM = (6, 11, 16, 21, 26)


def defocus_blur(images: Floats, severity: int, draws: Draws) -> Floats:
    """A lens out of focus: a disc with a soft edge."""
    radius, softness = (length * growth(images) for length in DEFOCUS[severity - 1])
    return convolved(images, disc(radius, softness))


def disc(radius: float, softness: float) -> NDArray[np.float64]:
    """A kernel of sum 1 and odd side: the pixels within a radius, blurred with `softness`, both in pixels."""
    soft = max(1, round(2 * softness))
    reach = int(radius) + soft
    across = np.arange(-reach, reach + 1)
    kernel = ((across[:, None] ** 2 + across[None, :] ** 2) <= radius**2).astype(np.float64)
    kernel = gaussian_filter(kernel, softness, mode="constant", radius=soft)
    return kernel / kernel.sum()


def glass_blur(images: Floats, severity: int, draws: Draws) -> Floats:
    """Frosted glass: each pixel takes the value of one near it, upwards and leftwards more than back, between two blurs."""
    softness, reach, rounds = GLASS[severity - 1]
    softness, reach = softness * growth(images), round(reach * growth(images))
    count, height, width, _ = images.shape
    moves = draws(lambda generator: generator.integers(-reach, reach, (rounds, 2, height, width)))
    shattered = smoothed(images, softness)
    for move in range(rounds):
        rows = np.clip(np.arange(height)[:, None] + moves[:, move, 0], 0, height - 1)
        columns = np.clip(np.arange(width) + moves[:, move, 1], 0, width - 1)
        shattered = shattered[np.arange(count)[:, None, None], rows, columns]
    return smoothed(shattered, softness)


def motion_blur(images: Floats, severity: int, draws: Draws) -> Floats:
    """A moving camera: a streak to one side."""
    radius, sigma = (length * growth(images) for length in MOTION[severity - 1])
    return streaked(images, draws(lambda generator: generator.uniform(-45, 45)), radius, sigma)


def zoom_blur(images: Floats, severity: int, draws: Draws) -> Floats:
    """A camera that moves forward: the mean of the image and its enlargements."""
    planes = np.ascontiguousarray(images.transpose(0, 3, 1, 2))
    total = planes.copy()
    for step in range(ZOOM[severity - 1]):
        total += zoomed(planes, 1 + 0.01 * step)
    return total.transpose(0, 2, 3, 1) / np.float32(ZOOM[severity - 1] + 1)


#: Fraction of each value's distance from its channel's mean that stays.
CONTRAST = (0.75, 0.5, 0.4, 0.3, 0.15)
#: Strength and smoothness of the local moves, and the largest move of the three points that carry the image; each as a
#: fraction of the shorter side.
ELASTIC = ((0.0, 0.0, 0.08), (0.05, 0.2, 0.07), (0.08, 0.06, 0.06), (0.1, 0.04, 0.05), (0.1, 0.03, 0.03))
#: Fraction of the pixels along a side that stay.
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
    strength, smoothness, jolt = (fraction * min(height, width) for fraction in ELASTIC[severity - 1])
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
