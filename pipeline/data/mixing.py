"""Mixing the images of a batch with each other, labels and all."""
# pyright: reportMissingTypeStubs=false, reportUnknownMemberType=false, reportUnknownVariableType=false

from __future__ import annotations

import math
from typing import NamedTuple

import torch
import torch.nn.functional as F
from scipy.special import betaincinv
from torch import Tensor

from pipeline.data.split import DataError


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

    One box a batch: in it every image shows its partner, which a permutation draws. The box covers a share 1 − λ of the
    image before the border clips it, λ ~ Beta(alpha, alpha), alpha > 0. Images (N, C, H, W) of any dtype, on any device;
    labels are classes (N,) or distributions (N, `classes`) on the same device; `generator` is on the CPU.
    Returns new images and labels, float32 (N, classes): the partner's share is that of the pixels that it fills.
    Raises DataError for distributions over another number of classes.
    """
    whole = _distributions(labels, classes)
    height, width = images.shape[2:]
    box = draw_box(height, width, generator, alpha)
    partner = torch.randperm(len(images), generator=generator).to(images.device)
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
