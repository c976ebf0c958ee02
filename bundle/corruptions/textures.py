"""Clouds by the diamond-square algorithm, and ice crystals drawn branch by branch."""

from __future__ import annotations

from functools import lru_cache

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw

from bundle.corruptions.draws import PUBLISHED_SIDE, Floats
from bundle.corruptions.filters import smoothed

#: Different textures of ice.
TEXTURES = 5
#: The side of a texture for images of 32 pixels.
TEXTURE_SIDE = 256
#: Crystals on a texture of that side.
CRYSTALS = 130
MEAN, DEVIATION = 0.5, 0.2
#: The clouds' strength at the coarsest step; its square is the amplitude.
COARSEST = 100.0


def plasma_side(side: int) -> int:
    """The power of two, at least `side`, that plasma needs."""
    return 1 << max(1, (side - 1).bit_length())


def plasma(uniform: NDArray[np.float64], decay: float) -> NDArray[np.float64]:
    """Clouds (N, S, S) between 0 and 1 from uniform numbers in [−1, 1] of the same shape; S is a power of two.

    Diamond-square on a torus: each point is the mean of its four neighbours at the step before, plus its number times
    the square of a strength that falls by `decay` from step to step.
    """
    clouds = np.zeros_like(uniform)
    step, strength = uniform.shape[1], COARSEST
    while step >= 2:
        half = step // 2
        corners = clouds[:, ::step, ::step]
        middles, edges_down, edges_right = (
            np.s_[:, half::step, half::step],
            np.s_[:, half::step, ::step],
            np.s_[:, ::step, half::step],
        )
        pairs = corners + np.roll(corners, -1, axis=1)
        clouds[middles] = (pairs + np.roll(pairs, -1, axis=2)) / 4 + strength**2 * uniform[middles]
        centres = clouds[middles]
        clouds[edges_right] = (
            corners + np.roll(corners, -1, axis=2) + centres + np.roll(centres, 1, axis=1)
        ) / 4 + strength**2 * uniform[edges_right]
        clouds[edges_down] = (
            corners + np.roll(corners, -1, axis=1) + centres + np.roll(centres, 1, axis=2)
        ) / 4 + strength**2 * uniform[edges_down]
        step, strength = half, strength / decay
    clouds -= clouds.min(axis=(1, 2), keepdims=True)
    return clouds / clouds.max(axis=(1, 2), keepdims=True)


@lru_cache(maxsize=2 * TEXTURES)
def frost_texture(number: int, height: int, width: int) -> Floats:
    """A drawn texture of ice for images of this size, (S, S) in [0, 1], larger than the image, the same everywhere.

    CIFAR-10-C cuts its frost from photographs, which are not ours to ship; here feathered crystals, each a stem with
    side branches at 60 degrees, grow over a cloudy ground, at a mean brightness of a half.
    """
    growth = max(1.0, min(height, width) / PUBLISHED_SIDE)
    side = max(round(TEXTURE_SIDE * growth), 2 * max(height, width))
    generator = np.random.default_rng([number])
    canvas = Image.new("L", (side, side))
    draw = ImageDraw.Draw(canvas)
    for _ in range(round(CRYSTALS * (side / (TEXTURE_SIDE * growth)) ** 2)):
        _grow_crystal(draw, generator, side, growth)
    crystals = np.asarray(canvas, np.float32)[None] / np.float32(255)
    crystals = smoothed(crystals, 0.5 * growth) + np.float32(0.5) * smoothed(crystals, 2.5 * growth)
    ground = smoothed(generator.standard_normal((1, side, side), dtype=np.float32), 8 * growth)
    ice = (crystals + np.float32(0.3) * ground / ground.std())[0]
    ice = np.clip(MEAN + DEVIATION * (ice - ice.mean()) / ice.std(), 0, 1).astype(np.float32)
    return ice


def _grow_crystal(draw: ImageDraw.ImageDraw, generator: np.random.Generator, side: int, growth: float) -> None:
    """Draws one stem and its branches, which get shorter towards the tip."""
    x, y = generator.uniform(0, side, 2)
    angle, length = generator.uniform(0, 2 * np.pi), generator.uniform(15, 60) * growth
    shade, spacing = int(generator.uniform(110, 255)), generator.uniform(2.5, 5) * growth
    _line(draw, x, y, angle, length, shade, growth)
    for along in np.arange(spacing, length, spacing):
        reach = 0.4 * (length - along) * generator.uniform(0.6, 1.2)
        for turn in (-np.pi / 3, np.pi / 3):
            start = x + along * np.cos(angle), y + along * np.sin(angle)
            _line(draw, *start, angle + turn, reach, int(shade * generator.uniform(0.6, 1)), growth)


def _line(
    draw: ImageDraw.ImageDraw, x: float, y: float, angle: float, length: float, shade: int, growth: float
) -> None:
    end = x + length * np.cos(angle), y + length * np.sin(angle)
    draw.line([(x, y), end], fill=shade, width=max(1, round(growth)))
