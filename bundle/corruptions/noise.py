"""Gaussian, shot and impulse noise."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from bundle.corruptions.filters import Draws, Floats

#: Standard deviation, in units of the pixel range.
GAUSSIAN = (0.04, 0.06, 0.08, 0.09, 0.10)
#: Photons that a white pixel receives.
SHOT = (500, 250, 100, 75, 50)
#: Share of the values that turn black or white.
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
    share = np.float32(IMPULSE[severity - 1])
    return np.where(uniform < share / 2, np.float32(0), np.where(uniform < share, np.float32(1), images))
