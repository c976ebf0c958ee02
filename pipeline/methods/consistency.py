"""Consistency regularisation for adversarial robustness (Tack et al. 2022, arXiv 2103.04623), on PGD-AT."""

from __future__ import annotations

import math
from dataclasses import replace
from typing import Any, ClassVar

import torch
from pydantic import Field
from torch import Tensor
from torch.nn import functional

from pipeline.attacks.divergence import at_least_float32, log_softmax
from pipeline.methods.method import Batch, Method
from pipeline.methods.pgd_at import PGDAT, cross_entropy_ascent
from pipeline.params.defaults import COMMON_SCHEDULE


class Consistency(Method):
    """CE(f(x'), y) over both views of every image + λ · JS(p_T(x'_1), p_T(x'_2)), p_T = softmax(f / T) (eq. 5).

    JS(p, q) = ½ KL(p‖m) + ½ KL(q‖m), m = ½ (p + q). The views are two augmentations of an image, each attacked by
    PGD-10; a batch of N images makes one of 2 N. View 1 is the image as the loop augments it (`train.augment`), view 2
    the same moved once more, by up to `shift` pixels. The paper draws both views independently, and from AutoAugment in
    its best rows: `train.augment: trivial` comes closest.
    """

    name = "consistency"
    title = "Consistency"
    paper = "Tack et al. 2022, arXiv 2103.04623"
    #: Of N images each: a pass over both views counts twice.
    passes = (22, 22)
    paper_schedule: ClassVar[dict[str, Any]] = {**COMMON_SCHEDULE, "epochs": 200, "milestones": [0.5, 0.75]}

    class Settings(PGDAT.Settings):
        weight: float = Field(default=1.0, ge=0, le=1e6, description="λ, weight of the Jensen-Shannon divergence")
        temperature: float = Field(default=0.5, gt=0, le=1e3, description="T, what logits are divided by in it")
        shift: int = Field(default=4, ge=0, le=64, description="pixels that the second view is moved by at most")

    @classmethod
    def defaults(cls, data: str) -> dict[str, Any]:
        return {"shift": 1} if data == "digits" else {}

    def perturb(self, batch: Batch) -> Tensor:
        """Both views (2 N, C, H, W), the first ones first."""
        views = torch.cat([batch.images, moved(batch.images, self.settings.shift)])
        both = replace(batch, images=views, labels=torch.cat([batch.labels, batch.labels]))
        return cross_entropy_ascent(
            self.target, both, self.threat, steps=self.settings.steps, relative_step=self.settings.relative_step
        )

    def losses(self, batch: Batch, perturbed: Tensor) -> dict[str, Tensor]:
        logits = at_least_float32(self.target(perturbed))
        first, second = (logits / self.settings.temperature).chunk(2)
        return {
            "cross_entropy": functional.cross_entropy(logits, torch.cat([batch.labels, batch.labels])),
            "consistency": self.settings.weight * jensen_shannon(first, second).mean(),
        }

    def attacked(self, perturbed: Tensor) -> Tensor:
        return perturbed.chunk(2)[0]


def jensen_shannon(first: Tensor, second: Tensor) -> Tensor:
    """JS (N,) of the softmax distributions of two sets of logits (N, K)."""
    log_p, log_q = log_softmax(first), log_softmax(second)
    log_m = torch.logaddexp(log_p, log_q) - math.log(2)
    return (log_p.exp() * (log_p - log_m) + log_q.exp() * (log_q - log_m)).sum(dim=1) / 2


def moved(images: Tensor, most: int) -> Tensor:
    """Images (N, C, H, W), each moved by up to `most` pixels up or down and left or right, with zeros behind it.

    Drawn on their device by torch's own generator, which the loop's checkpoints hold.
    """
    count, _, height, width = images.shape
    top, left = torch.randint(2 * most + 1, (2, count), device=images.device)
    rows = top[:, None] + torch.arange(height, device=images.device)
    columns = left[:, None] + torch.arange(width, device=images.device)
    numbers = torch.arange(count, device=images.device)[:, None, None]
    padded = functional.pad(images, [most] * 4)
    return padded[numbers, :, rows[:, :, None], columns[:, None, :]].permute(0, 3, 1, 2).contiguous()
