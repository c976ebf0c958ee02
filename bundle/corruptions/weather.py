"""Snow, frost, fog and brightness.

Clouds by the diamond-square algorithm, and ice crystals drawn branch by branch.
"""

from __future__ import annotations

from functools import lru_cache
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw

from bundle.corruptions.filters import PUBLISHED_SIDE, Draws, Floats, growth, smoothed, streaked, zoomed

#: Mean and standard deviation of the flakes' noise, enlargement, threshold, radius and standard deviation of the streaks
#: (pixels), fraction of the image that stays as it is.
SNOW = (
    (0.1, 0.2, 1.0, 0.6, 8, 3, 0.95),
    (0.1, 0.2, 1.0, 0.5, 10, 4, 0.9),
    (0.15, 0.3, 1.75, 0.55, 10, 4, 0.9),
    (0.25, 0.3, 2.25, 0.6, 12, 6, 0.85),
    (0.3, 0.3, 1.25, 0.65, 14, 12, 0.8),
)
#: Fractions of the image and of the ice.
FROST = ((1.0, 0.2), (1.0, 0.3), (0.9, 0.4), (0.85, 0.4), (0.75, 0.45))
#: Thickness, and how fast the clouds lose strength from coarse to fine.
FOG = ((0.2, 3.0), (0.5, 3.0), (0.75, 2.5), (1.0, 2.0), (1.5, 1.75))
#: Added to the value of hue, saturation, value.
BRIGHTNESS = (0.05, 0.1, 0.15, 0.2, 0.3)
#: Red, green and blue of ice, the brightest at 1.
ICE = np.array([0.88, 0.95, 1.0], np.float32)
#: The weights of red, green and blue in grey.
LUMA = np.array([0.299, 0.587, 0.114], np.float32)


def snow(images: Floats, severity: int, draws: Draws) -> NDArray[Any]:
    """Streaks of flakes, and once more turned by half a circle, over a whitened image."""
    mean, deviation, enlarged, threshold, radius, sigma, kept = SNOW[severity - 1]
    noise = draws(lambda generator: generator.standard_normal(images.shape[1:3], dtype=np.float32))
    flakes = zoomed(np.float32(mean) + np.float32(deviation) * noise, enlarged * growth(images))
    flakes = np.clip(np.where(flakes < threshold, 0, flakes), 0, 1).astype(np.float32)[..., None]
    angles = draws(lambda generator: generator.uniform(-135, -45))
    layer = streaked(flakes, angles, radius * growth(images), sigma * growth(images))
    whitened = np.maximum(images, grey(images) * np.float32(1.5) + np.float32(0.5))
    return np.float32(kept) * images + np.float32(1 - kept) * whitened + layer + layer[:, ::-1, ::-1]


def grey(images: Floats) -> NDArray[Any]:
    """The luminance (N, H, W, 1) of RGB or grey images."""
    if images.shape[3] == 1:
        return images
    return (images * LUMA).sum(axis=3, keepdims=True)


def frost(images: Floats, severity: int, draws: Draws) -> NDArray[Any]:
    """Ice on the lens: a piece of one of five drawn textures is added to a darkened image."""
    clear, ice = FROST[severity - 1]
    _, height, width, channels = images.shape
    picks = draws(lambda generator: generator.random(3))
    pieces: list[Floats] = []
    for number, top, left in picks:
        texture = frost_texture(int(number * TEXTURES), height, width)
        down = int(top * (texture.shape[0] - height + 1))
        right = int(left * (texture.shape[1] - width + 1))
        pieces.append(texture[down : down + height, right : right + width])
    layer: Floats = np.stack(pieces)[..., None] * (ICE if channels == 3 else np.float32(1))
    return np.float32(clear) * images + np.float32(ice) * layer


def fog(images: Floats, severity: int, draws: Draws) -> NDArray[Any]:
    """Clouds over the image, which is then scaled back to its range."""
    thickness, decay = FOG[severity - 1]
    side = plasma_side(max(images.shape[1:3]))
    clouds = plasma(draws(lambda generator: generator.uniform(-1, 1, (side, side))), decay).astype(np.float32)
    brightest = images.max(axis=(1, 2, 3), keepdims=True)
    layer = np.float32(thickness) * clouds[:, : images.shape[1], : images.shape[2], None]
    return (images + layer) * brightest / (brightest + np.float32(thickness))


def brightness(images: Floats, severity: int, draws: Draws) -> NDArray[Any]:
    """More value at the same hue and saturation: all channels grow by the factor that the largest one grows by."""
    value = images.max(axis=3, keepdims=True)
    brighter = np.minimum(value + np.float32(BRIGHTNESS[severity - 1]), 1)
    return np.where(value > 0, images * (brighter / np.where(value > 0, value, np.float32(1))), brighter)


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
