"""The fifteen common corruptions of CIFAR-10-C, made here from NumPy, SciPy and Pillow.

Hendrycks and Dietterich, "Benchmarking Neural Network Robustness to Common Corruptions and Perturbations", ICLR 2019,
arXiv 1903.12261. The severities are those published for CIFAR-10-C; the code and the random numbers are this project's,
so accuracies are near the published set's, not equal to them. Known differences: frost is drawn, not photographed; glass
blur moves all pixels at once; the elastic map is sampled once, not twice; values are rounded, not cut off. As published,
a higher severity is not in every corruption a larger change of the pixels: elastic severity 1 is a large affine map and
nothing else, and frost's part of the image falls while its ice grows.

Sizes: the published lengths are for images of 32 pixels. In images whose shorter side is longer, lengths in pixels (of
blurs, streaks, crystals, glass) are multiplied by side / 32. Smaller images keep the lengths of 32 pixels, because a
blur of a fraction of a pixel would be none. What is published as a fraction (zoom, elastic, pixelate) stays one, and
noise and tone do not depend on the size.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from bundle.corruptions import camera, weather
from bundle.corruptions.filters import Corruption, Draws
from bundle.errors import HallmarkError

__all__ = ["NAMES", "SEVERITIES", "corrupt"]

_CORRUPTIONS: dict[str, Corruption] = {
    "gaussian_noise": camera.gaussian_noise,
    "shot_noise": camera.shot_noise,
    "impulse_noise": camera.impulse_noise,
    "defocus_blur": camera.defocus_blur,
    "glass_blur": camera.glass_blur,
    "motion_blur": camera.motion_blur,
    "zoom_blur": camera.zoom_blur,
    "snow": weather.snow,
    "frost": weather.frost,
    "fog": weather.fog,
    "brightness": weather.brightness,
    "contrast": camera.contrast,
    "elastic_transform": camera.elastic_transform,
    "pixelate": camera.pixelate,
    "jpeg_compression": camera.jpeg_compression,
}
NAMES: tuple[str, ...] = tuple(_CORRUPTIONS)
SEVERITIES: tuple[int, ...] = (1, 2, 3, 4, 5)
#: The shortest side that the textures and windows fit in.
SHORTEST = 4
#: Pixel values that are worked on at once, to hold memory down.
CHUNK = 2**22


def corrupt(
    images: NDArray[np.uint8], name: str, severity: int, *, seed: int, index: NDArray[np.integer[Any]]
) -> NDArray[np.uint8]:
    """The images under one corruption.

    Parameters
    ----------
    images : uint8 (N, H, W, C), grey (C = 1) or RGB (C = 3), at least 4 pixels per side.
    name, severity : one of NAMES, and 1 to 5.
    seed, index : image n's random numbers come from (seed, index[n], corruption, severity), index (N,), so that they do
        not depend on the other images.

    Returns uint8 of the same shape. Raises HallmarkError.
    """
    _check(images, name, severity, index)
    result = np.empty_like(images)
    rows = max(1, CHUNK // max(1, int(np.prod(images.shape[1:]))))
    for start in range(0, len(images), rows):
        part = slice(start, start + rows)
        draws = Draws(seed, index[part], NAMES.index(name), severity)
        corrupted = _CORRUPTIONS[name](images[part].astype(np.float32) / np.float32(255), severity, draws)
        result[part] = np.rint(np.clip(corrupted, 0, 1) * 255).astype(np.uint8)
    return result


def _check(images: NDArray[Any], name: str, severity: int, index: NDArray[Any]) -> None:
    if name not in _CORRUPTIONS:
        raise HallmarkError(f"corruption {name}: there is none of this name; there are {', '.join(NAMES)}")
    if severity not in SEVERITIES:
        raise HallmarkError(f"severity {severity} of {name}: must be 1, 2, 3, 4 or 5")
    if images.dtype != np.uint8 or images.ndim != 4 or images.shape[3] not in (1, 3):
        raise HallmarkError(f"images: must be uint8 (N, H, W, 1 or 3), got {images.dtype} {images.shape}")
    if min(images.shape[1:3]) < SHORTEST:
        raise HallmarkError(f"images: must be at least {SHORTEST} pixels per side, got {images.shape[1:3]}")
    if index.shape != (len(images),):
        raise HallmarkError(f"index: must have one entry for each of {len(images)} images, got {index.shape}")
