"""The ball in torch: projection of float images, and the step from float images to the 8-bit grid."""

from __future__ import annotations

import torch
from torch import Tensor

from bundle.threats import Threat

__all__ = ["Threat", "project", "to_grid", "to_unit"]


def project(images: Tensor, clean: Tensor, threat: Threat) -> Tensor:
    """The nearest point of the ball around `clean` and of [0, 1]; all (N, C, H, W) in the pixel range [0, 1]."""
    return torch.minimum(torch.maximum(images, clean - threat.eps), clean + threat.eps).clamp(0, 1)


def to_unit(images: Tensor) -> Tensor:
    """uint8 images to float32 in [0, 1]: always a division by 255, which the exported graph repeats bit for bit."""
    return images.to(torch.float32) / 255


def to_grid(images: Tensor, clean: Tensor, threat: Threat) -> Tensor:
    """The 8-bit images nearest to float ones, inside the ball on the grid.

    Parameters: `images` float (N, C, H, W) in [0, 1]; `clean` uint8 of the same shape. Returns uint8.
    """
    nearest = (images * 255).round().to(torch.int16)
    center = clean.to(torch.int16)
    inside = torch.minimum(torch.maximum(nearest, center - threat.levels), center + threat.levels)
    return inside.clamp(0, 255).to(torch.uint8)
