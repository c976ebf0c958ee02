"""Augmentation of a whole batch on the device that holds it."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from pipeline.data.split import DataError

KINDS = ("none", "shift", "crop", "crop_flip", "trivial")


def augment(images: Tensor, kind: str, generator: torch.Generator) -> Tensor:
    """Augments images (N, C, H, W), uint8 or float, on any device; returns the same shape, dtype and device.

    none: the images as they are. shift: a crop at a random place after a border of 1 px of zeros. crop: the same with a
    border of H // 8 px (4 px at 32 x 32). crop_flip: crop, then a horizontal flip with probability 1/2. trivial:
    crop_flip, then TrivialAugment, for uint8 only. `generator` is on the CPU, so that a seed draws the same on every
    device.
    Raises DataError for another kind, and for float images where uint8 is asked for.
    """
    match kind:
        case "none":
            return images
        case "shift":
            return _crop(images, 1, generator)
        case "crop":
            return _crop(images, images.shape[2] // 8, generator)
        case "crop_flip":
            return _flip(augment(images, "crop", generator), generator)
        case "trivial":
            return _trivial(augment(images, "crop_flip", generator), generator)
        case _:
            raise DataError(f"train.augment: must be one of {', '.join(KINDS)}, got {kind!r}")


def _crop(images: Tensor, border: int, generator: torch.Generator) -> Tensor:
    count, _, height, width = images.shape
    top, left = torch.randint(2 * border + 1, (2, count), generator=generator).to(images.device)
    windows = F.pad(images, [border] * 4).unfold(2, height, 1).unfold(3, width, 1)
    return windows[torch.arange(count, device=images.device), :, top, left]


def _flip(images: Tensor, generator: torch.Generator) -> Tensor:
    flipped = torch.randint(2, (len(images), 1, 1, 1), generator=generator).bool().to(images.device)
    return torch.where(flipped, images.flip(3), images)


def _trivial(images: Tensor, generator: torch.Generator) -> Tensor:
    from pipeline.data.trivial_augment import trivial_augment  # torchvision is slow to import

    if images.dtype != torch.uint8:
        raise DataError(f"train.augment: trivial takes uint8 images, got {images.dtype}")
    return trivial_augment(images, generator)
