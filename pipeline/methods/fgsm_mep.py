"""FGSM-PGI: prior-guided adversarial initialisation for fast training (Jia et al. 2022, arXiv 2207.08859).

The single step starts from a perturbation that is there already. Three kinds of it are the paper's FGSM-BP, FGSM-EP and
FGSM-MEP; FGSM-PGK is what the authors made of the last.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any, ClassVar, Literal

import torch
from pydantic import Field
from torch import Tensor

from pipeline.methods.fgsm_pgk import FGSMPGK, Priors
from pipeline.methods.method import Batch, Method
from pipeline.params import Section
from pipeline.params.defaults import COMMON_SCHEDULE


class FGSMMEP(FGSMPGK):
    """LSCE(f(x + δ'), y) + λ · MSE(f(x + δ'), f(x + δ)), δ' = clip(δ + ε · sign g), g = ∇_δ LSCE(f(x + δ), y).

    δ, the prior, by `prior`:
    - `batch` (BP): the δ' of the batch before, image by image in the batch's order;
    - `epoch` (EP): the δ' of the same image in the epoch before;
    - `momentum` (MEP): δ ← clip(δ + ε · sign m), m ← μ · m + g/‖g‖₁, for each image.

    Priors start at random corners ±ε, and again every `reset_epochs` epochs. Nothing is detached; BatchNorm is in train
    mode throughout; weights are not averaged. FGSM-PGK adds a gain to the momentum and averages the weights.
    """

    name = "fgsm_mep"
    title = "FGSM-MEP"
    paper = "Jia et al. 2022, arXiv 2207.08859"
    paper_schedule: ClassVar[dict[str, Any]] = COMMON_SCHEDULE

    class Settings(Section):
        prior: Literal["momentum", "epoch", "batch"] = Field(
            default="momentum", description="where the step starts: FGSM-MEP, FGSM-EP or FGSM-BP"
        )
        weight: float = Field(default=10.0, ge=0, le=1e6, description="λ, weight of the mean squared error")
        true_class: float = Field(
            default=0.6, gt=0, le=1, description="weight of the label in the smoothed cross-entropy"
        )
        momentum: float = Field(default=0.3, ge=0, lt=1, description="μ, of the prior's gradient, with prior: momentum")
        reset_epochs: int = Field(
            default=40, ge=1, le=100_000, description="the priors start again every so many epochs"
        )

    @classmethod
    def defaults(cls, data: str) -> dict[str, Any]:
        return {"reset_epochs": 10} if data in ("cifar100", "tiny_imagenet") else {}

    def perturb(self, batch: Batch) -> Priors:
        return super().perturb(self._placed(batch))

    def after_step(self, batch: Batch, perturbed: Priors) -> None:
        """The prior's next value, clipped to the ball and so that this crop with it stays in [0, 1]."""
        placed = self._placed(batch)
        if self.settings.prior != "momentum":
            self.prior[placed.index] = perturbed.final - batch.images
            return
        direction = perturbed.gradient / perturbed.gradient.abs().sum().clamp_min(1e-30)
        velocity = self.settings.momentum * self.velocity[placed.index] + direction
        self.velocity[placed.index] = velocity
        eps = self.threat.eps
        prior = (self.prior[placed.index] + eps * velocity.sign()).clamp(-eps, eps)
        self.prior[placed.index] = torch.clamp(prior, -batch.images, 1 - batch.images)

    def averaging_decay(self, step: int, decay: float) -> float | Tensor:
        """As with every other method: the ratio of accuracies is FGSM-PGK's."""
        return Method.averaging_decay(self, step, decay)

    def _placed(self, batch: Batch) -> Batch:
        """The batch with the rows of its priors: by image, or, for FGSM-BP, the first ones for every batch."""
        if self.settings.prior != "batch":
            return batch
        return replace(batch, index=torch.arange(len(batch.index), device=batch.index.device))
