"""TrivialAugment on a whole batch: every image gets one operation of its own, at a strength of its own.

Müller & Hutter 2021 (arXiv 2103.10158), with the paper's standard space (RandAugment's 14 operations), not the wide one:
135 degrees make a 9 of a 6, and 32 px move a CIFAR image out of the picture. The networks learn from attacked images,
which are hard enough. Importing this module imports torchvision, which is slow: augmentation.py does it when needed.
"""
# pyright: reportMissingTypeStubs=false

from __future__ import annotations

import math
from collections.abc import Callable
from typing import NamedTuple

import torch
from torch import Tensor
from torchvision.transforms.v2 import functional

STRONGEST = 30


class Draw(NamedTuple):
    """What is done to each image, on the CPU: `operation` (N,) counts OPERATIONS, `strength` (N,) is from −30 to 30.

    The sign is a direction where the operation has one, and means nothing otherwise.
    """

    operation: Tensor
    strength: Tensor


def trivial_augment(images: Tensor, generator: torch.Generator) -> Tensor:
    """Changes every image of a batch, uint8 (N, 1 or 3, H, W) on any device, by one random operation; returns new ones.

    `generator` is on the CPU, so that a seed draws the same operations on every device.
    """
    return apply_operations(images, draw_operations(len(images), generator))


def draw_operations(count: int, generator: torch.Generator) -> Draw:
    """An operation and a strength for each of `count` images, all equally likely and independent."""
    operation = torch.randint(len(OPERATIONS), (count,), generator=generator)
    strength = torch.randint(STRONGEST + 1, (count,), generator=generator)
    return Draw(operation, strength * (2 * torch.randint(2, (count,), generator=generator) - 1))


def apply_operations(images: Tensor, draw: Draw) -> Tensor:
    """Does what `draw` says to images, uint8 (N, 1 or 3, H, W); an image's result depends on that image alone."""
    changed = images.clone()
    strength = draw.strength.to(images.device)
    order = torch.argsort(draw.operation, stable=True).to(images.device)
    counts = torch.bincount(draw.operation, minlength=len(OPERATIONS)).tolist()
    for operation, rows in zip(OPERATIONS.values(), order.split(counts), strict=True):
        if len(rows):
            changed[rows] = operation(images[rows], strength[rows])
    return changed


def _identity(images: Tensor, strength: Tensor) -> Tensor:
    return images


def _auto_contrast(images: Tensor, strength: Tensor) -> Tensor:
    return functional.autocontrast(images)


def _equalize(images: Tensor, strength: Tensor) -> Tensor:
    """Does nothing to images of fewer than 256 pixels, as in Pillow: the histogram is too coarse."""
    return functional.equalize(images)


def _solarize(images: Tensor, strength: Tensor) -> Tensor:
    """Inverts values from 256 (none) down to 0 (all)."""
    threshold = 256 - strength.abs() * 256 // STRONGEST
    return torch.where(images >= threshold[:, None, None, None], 255 - images, images)


def _posterize(images: Tensor, strength: Tensor) -> Tensor:
    """Keeps the 8 to 4 highest bits."""
    dropped = strength.abs() * 4 // STRONGEST
    return images & (256 - (1 << dropped)).to(torch.uint8)[:, None, None, None]


def _color(images: Tensor, strength: Tensor) -> Tensor:
    """From greyscale to strong colours; a greyscale image stays as it is."""
    return _enhance(images, functional.adjust_saturation(images, 0.0), strength)


def _contrast(images: Tensor, strength: Tensor) -> Tensor:
    return _enhance(images, functional.adjust_contrast(images, 0.0), strength)


def _brightness(images: Tensor, strength: Tensor) -> Tensor:
    return _enhance(images, torch.zeros_like(images), strength)


def _sharpness(images: Tensor, strength: Tensor) -> Tensor:
    return _enhance(images, functional.adjust_sharpness(images, 0.0), strength)


def _enhance(images: Tensor, without: Tensor, strength: Tensor) -> Tensor:
    """Images with 0.1 to 1.9 times of what `without` lacks: torchvision's own blending takes one factor a batch."""
    factor = 0.1 + 1.8 * strength.abs() / STRONGEST
    blended = torch.lerp(without.float(), images.float(), factor[:, None, None, None])
    return blended.round().clamp(0, 255).to(torch.uint8)


def _rotate(images: Tensor, strength: Tensor) -> Tensor:
    """By up to 30 degrees about the centre."""
    angle = strength * (math.radians(30) / STRONGEST)
    matrix = _unmoved(images)
    matrix[:, 0, 0] = matrix[:, 1, 1] = angle.cos()
    matrix[:, 0, 1], matrix[:, 1, 0] = -angle.sin(), angle.sin()
    return _warp(images, matrix)


def _shear(images: Tensor, strength: Tensor, axis: int) -> Tensor:
    """By up to 0.3 px a px, along x (axis 0) or y (axis 1); the upper left corner stays where it is."""
    slope = strength * (0.3 / STRONGEST)
    matrix = _unmoved(images)
    matrix[:, axis, 1 - axis] = slope
    matrix[:, axis, 2] = slope * images.shape[2 + axis] / 2
    return _warp(images, matrix)


def _translate(images: Tensor, strength: Tensor, axis: int) -> Tensor:
    """By whole pixels, up to 10 of 32, along x (axis 0) or y (axis 1)."""
    farthest = images.shape[3 - axis] * 10 / 32
    matrix = _unmoved(images)
    matrix[:, axis, 2] = (strength * (farthest / STRONGEST)).trunc()
    return _warp(images, matrix)


def _unmoved(images: Tensor) -> Tensor:
    return torch.eye(2, 3, device=images.device).repeat(len(images), 1, 1)


def _warp(images: Tensor, matrix: Tensor) -> Tensor:
    """Each image with its own affine map: its pixel (x, y) is read at matrix (N, 2, 3) times (x, y, 1), nearest pixel.

    Places are in px from the centre; outside is black. torchvision's `affine` takes one map per batch.
    """
    count, _, height, width = images.shape
    y = torch.arange(height, device=images.device)[:, None] + (1 - height) / 2
    x = torch.arange(width, device=images.device) + (1 - width) / 2
    read_x, read_y = (row[:, 0] * x + row[:, 1] * y + row[:, 2] for row in matrix[..., None, None].unbind(1))
    column, line = (read_x + width / 2).floor().long(), (read_y + height / 2).floor().long()
    inside = (column >= 0) & (column < width) & (line >= 0) & (line < height)
    image = torch.arange(count, device=images.device)[:, None, None]
    read = images[image, :, line.clamp(0, height - 1), column.clamp(0, width - 1)]
    return read.permute(0, 3, 1, 2) * inside[:, None]


#: In the order of the paper's code; a draw counts them.
OPERATIONS: dict[str, Callable[[Tensor, Tensor], Tensor]] = {
    "identity": _identity,
    "auto_contrast": _auto_contrast,
    "equalize": _equalize,
    "rotate": _rotate,
    "solarize": _solarize,
    "color": _color,
    "posterize": _posterize,
    "contrast": _contrast,
    "brightness": _brightness,
    "sharpness": _sharpness,
    "shear_x": lambda images, strength: _shear(images, strength, 0),
    "shear_y": lambda images, strength: _shear(images, strength, 1),
    "translate_x": lambda images, strength: _translate(images, strength, 0),
    "translate_y": lambda images, strength: _translate(images, strength, 1),
}
