"""Snow, frost, fog and brightness."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from bundle.corruptions.draws import Draws, Floats, growth
from bundle.corruptions.filters import streaked, zoomed
from bundle.corruptions.textures import TEXTURES, frost_texture, plasma, plasma_side

#: Mean and standard deviation of the flakes' noise, enlargement, threshold, radius and standard deviation of the streaks
#: (pixels), share of the image that stays as it is.
SNOW = (
    (0.1, 0.2, 1.0, 0.6, 8, 3, 0.95),
    (0.1, 0.2, 1.0, 0.5, 10, 4, 0.9),
    (0.15, 0.3, 1.75, 0.55, 10, 4, 0.9),
    (0.25, 0.3, 2.25, 0.6, 12, 6, 0.85),
    (0.3, 0.3, 1.25, 0.65, 14, 12, 0.8),
)
#: Shares of the image and of the ice.
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
