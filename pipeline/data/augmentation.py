"""Augmentation of a whole batch of training images on its device, and mixing its images with each other, labels and all."""

from __future__ import annotations

import math
from typing import NamedTuple

import torch
import torch.nn.functional as F
from scipy.special import betaincinv
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
    top, left = torch.randint(2 * border + 1, (2, count), generator=generator).to(images.device, non_blocking=True)
    windows = F.pad(images, [border] * 4).unfold(2, height, 1).unfold(3, width, 1)
    return windows[torch.arange(count, device=images.device), :, top, left]


def _flip(images: Tensor, generator: torch.Generator) -> Tensor:
    flipped = torch.randint(2, (len(images), 1, 1, 1), generator=generator).bool().to(images.device, non_blocking=True)
    return torch.where(flipped, images.flip(3), images)


def _trivial(images: Tensor, generator: torch.Generator) -> Tensor:
    from pipeline.data.trivial_augment import trivial_augment  # torchvision is slow to import

    if images.dtype != torch.uint8:
        raise DataError(f"train.augment: trivial takes uint8 images, got {images.dtype}")
    return trivial_augment(images, generator)


# pyright: reportMissingTypeStubs=false, reportUnknownMemberType=false, reportUnknownVariableType=false


class Box(NamedTuple):
    """Rows `top` to `bottom` − 1 and columns `left` to `right` − 1 of an image."""

    top: int
    bottom: int
    left: int
    right: int


def cutmix(
    images: Tensor, labels: Tensor, classes: int, generator: torch.Generator, alpha: float = 1.0
) -> tuple[Tensor, Tensor]:
    """CutMix (Yun et al. 2019, arXiv 1905.04899), as adversarial training uses it (Rebuffi et al. 2021, arXiv 2103.01946).

    One box per batch: in it every image shows its partner, which a permutation draws. The box covers a share 1 − λ of the
    image before the border clips it, λ ~ Beta(alpha, alpha), alpha > 0. Images (N, C, H, W) of any dtype, on any device;
    labels are classes (N,) or distributions (N, `classes`) on the same device; `generator` is on the CPU.
    Returns new images and labels, float32 (N, classes): the partner's share is that of the pixels that it fills.
    Raises DataError for distributions over another number of classes.
    """
    whole = _distributions(labels, classes)
    height, width = images.shape[2:]
    box = draw_box(height, width, generator, alpha)
    partner = torch.randperm(len(images), generator=generator).to(images.device, non_blocking=True)
    patch = (..., slice(box.top, box.bottom), slice(box.left, box.right))
    mixed = images.clone()
    mixed[patch] = images[patch][partner]
    share = (box.bottom - box.top) * (box.right - box.left) / (height * width)
    return mixed, whole * (1 - share) + whole[partner] * share


def draw_box(height: int, width: int, generator: torch.Generator, alpha: float) -> Box:
    """A box of the image's proportions that covers a share 1 − λ of it, λ ~ Beta(alpha, alpha), before it is clipped.

    Its centre is anywhere in the image, so that the border may cut it; it may be empty.
    """
    uniform = torch.rand((), generator=generator, dtype=torch.float64).item()
    side = math.sqrt(1 - float(betaincinv(alpha, alpha, uniform)))  # torch's Beta takes no generator
    top, bottom = _draw_span(height, int(height * side), generator)
    left, right = _draw_span(width, int(width * side), generator)
    return Box(top, bottom, left, right)


def _distributions(labels: Tensor, classes: int) -> Tensor:
    if labels.dim() == 1:
        return F.one_hot(labels, classes).float()
    if labels.shape[1] != classes:
        raise DataError(f"labels: must be distributions over {classes} classes, got {tuple(labels.shape)}")
    return labels.float()


def _draw_span(length: int, size: int, generator: torch.Generator) -> tuple[int, int]:
    start = int(torch.randint(length, (), generator=generator)) - size // 2
    return max(0, start), min(length, start + size)
