"""SABR: certified training with small adversarial boxes (Müller et al. 2023, arXiv 2210.04871)."""

from __future__ import annotations

from typing import Any

import torch
from pydantic import Field
from torch import Tensor
from torch.nn import functional

from pipeline.attacks.divergence import at_least_float32
from pipeline.certification.intervals import Interval
from pipeline.methods.ibp import IBP
from pipeline.methods.method import Batch, classes_of, full_precision
from pipeline.methods.pgd_at import cross_entropy_ascent
from pipeline.params import Section


class SABR(IBP):
    """CE(ẑ, y), ẑ the worst logits that interval bounds admit in a small box around an adversarial image.

    The box has λ times the ball's width in every pixel, the ball being cut off at 0 and 1, and its centre is the point
    nearest to PGD's x' with the whole box inside the ball. λ = 1 is IBP; a smaller λ is bounded more tightly, is
    regularised less, and covers less. There is no clean term; the radius rises over the schedule's `eps_warmup`.

    λ is the paper's for CIFAR-10 at 8/255 (0.1 at 2/255), and for MNIST at 0.1 on digits. Bounds are not shrunk after
    ReLUs, as the paper does at 2/255.
    """

    name = "sabr"
    title = "SABR"
    paper = "Müller et al. 2023, arXiv 2210.04871"
    #: Eight steps of PGD, and the bounds' centres and radii.
    passes = (10, 10)

    class Settings(Section):
        lambda_: float = Field(
            default=0.7, alias="lambda", ge=0, le=1, description="λ, width of the box as a share of the ball's"
        )
        steps: int = Field(default=8, ge=0, le=100_000, description="steps of the training attack")
        relative_step: float = Field(default=0.25, gt=0, le=1e3, description="step size as a share of eps")

    @classmethod
    def defaults(cls, data: str) -> dict[str, Any]:
        return {"lambda": 0.4} if data == "digits" else {}

    def perturb(self, batch: Batch) -> Tensor:
        return cross_entropy_ascent(
            self.target, batch, self.threat, steps=self.settings.steps, relative_step=self.settings.relative_step
        )

    def losses(self, batch: Batch, perturbed: Tensor) -> dict[str, Tensor]:
        with full_precision(perturbed.device):
            start = self.small_box(at_least_float32(batch.images), at_least_float32(perturbed))
            worst = self.worst_inside(start, classes_of(batch.labels))
        return {"interval": functional.cross_entropy(worst, batch.labels)}

    def small_box(self, images: Tensor, adversarial: Tensor) -> Interval:
        """Bounds of the pixels (N, C, H, W): λ times the ball's, moved towards the adversarial image."""
        eps = self.threat.eps
        lower, upper = (images - eps).clamp_min(0), (images + eps).clamp_max(1)
        radius = self.settings.lambda_ * (upper - lower) / 2
        centre = torch.minimum(torch.maximum(adversarial, lower + radius), upper - radius)
        return Interval(centre - radius, centre + radius)
