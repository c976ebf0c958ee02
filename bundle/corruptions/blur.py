"""Defocus, glass, motion and zoom blur."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from scipy.ndimage import gaussian_filter

from bundle.corruptions.filters import Draws, Floats, convolved, growth, smoothed, streaked, zoomed

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
