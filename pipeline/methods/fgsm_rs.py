"""FGSM-RS: fast is better than free, FGSM from a random start (Wong et al. 2020, arXiv 2001.03994)."""

from __future__ import annotations

from typing import Any, ClassVar

import torch
from pydantic import Field
from torch import Tensor, nn
from torch.nn import functional

from pipeline.attacks.divergence import at_least_float32
from pipeline.methods.method import Batch, Method
from pipeline.params import Section
from pipeline.params.defaults import COMMON_SCHEDULE

#: One rise and one fall of the learning rate, as single-step training is published with.
CYCLIC: dict[str, Any] = {**COMMON_SCHEDULE, "lr_shape": "one_cycle", "warmup": 0.5}


class FGSMRS(Method):
    """CE(f(x + δ), y), δ = clip(η + 1.25 ε · sign ∇ CE(f(x + η), y)) with η uniform in the l∞ ball of radius ε.

    η and δ keep the image in [0, 1]. BatchNorm is in train mode throughout, as in the official code. In a long schedule,
    or at a larger ε, the network learns to resist this one step alone (catastrophic overfitting): see
    `train.catastrophic_overfitting`.
    """

    name = "fgsm_rs"
    title = "FGSM-RS"
    paper = "Wong et al. 2020, arXiv 2001.03994"
    passes = (2, 2)
    crafting_mode = "train"
    trains_in = ("linf",)
    paper_schedule: ClassVar[dict[str, Any]] = {**CYCLIC, "epochs": 15, "lr": 0.2}

    class Settings(Section):
        relative_step: float = Field(default=1.25, gt=0, le=1e3, description="size of the one step as a share of eps")

    def perturb(self, batch: Batch) -> Tensor:
        eps = self.threat.eps
        start = uniform(batch.images, eps)
        step = self.settings.relative_step * eps * gradient_at(self.target, start, batch.labels).sign()
        return (batch.images + (start + step - batch.images).clamp(-eps, eps)).clamp(0, 1)

    def losses(self, batch: Batch, perturbed: Tensor) -> dict[str, Tensor]:
        return {"cross_entropy": functional.cross_entropy(at_least_float32(self.target(perturbed)), batch.labels)}


def uniform(images: Tensor, radius: float) -> Tensor:
    """Images (N, C, H, W) with uniform noise of up to ± `radius` in every pixel, kept in [0, 1]."""
    return (images + radius * (2 * torch.rand_like(images) - 1)).clamp(0, 1)


def gradient_at(network: nn.Module, images: Tensor, labels: Tensor) -> Tensor:
    """∇ CE(f(x), y) in the images, (N, C, H, W), summed over them and detached; the network's mode is left as it is."""
    images = images.detach().requires_grad_()
    with torch.enable_grad():
        loss = functional.cross_entropy(at_least_float32(network(images)), labels, reduction="sum")
        (gradient,) = torch.autograd.grad(loss, images)
    return gradient
