"""GAIRAT: geometry-aware instance-reweighted adversarial training (Zhang et al. 2021, arXiv 2010.01736)."""

from __future__ import annotations

from typing import Any, ClassVar, NamedTuple

import torch
from pydantic import Field
from torch import Tensor
from torch.nn import functional

from pipeline.attacks.ascent import TRADES_STEP, ascent_step, random_start
from pipeline.attacks.divergence import at_least_float32
from pipeline.methods.method import Batch, Method, classes_of, crafting
from pipeline.methods.pgd_at import cross_entropy_loss
from pipeline.params import Section
from pipeline.params.defaults import COMMON_SCHEDULE


class Geometry(NamedTuple):
    """Adversarial images (N, C, H, W), and κ (N,): how many of the attack's points were answered right, 0 to K."""

    images: Tensor
    kappa: Tensor


class GAIRAT(Method):
    """mean_i ω_i · CE(f(x'_i), y_i), ω_i ∝ ½ (1 + tanh(λ + 5 · (1 − 2 κ_i / K))) with a mean of 1 over the batch (eq. 6).

    κ_i is the number of PGD's points, its start included and its end not, that are answered right: an image near the
    border is broken early and weighs more. Before `begin` every ω is 1. The weights are constants.

    Known to be less robust than PGD says: where it is trained at length, AutoAttack finds far more than PGD does.
    """

    name = "gairat"
    title = "GAIRAT"
    paper = "Zhang et al. 2021, arXiv 2010.01736"
    passes = (11, 11)
    #: The official code's for wide networks; from 11/12 on it halves the rate again, which is left out.
    paper_schedule: ClassVar[dict[str, Any]] = {
        **COMMON_SCHEDULE,
        "epochs": 120,
        "milestones": [0.5, 0.75],
        "weight_decay": 2e-4,
    }

    class Settings(Section):
        lambda_: float = Field(
            default=-1.0, alias="lambda", ge=-100, le=100, description="λ: larger brings the weights closer together"
        )
        begin: float = Field(default=0.5, ge=0, le=1, description="share of the epochs after which images are weighed")
        steps: int = Field(default=10, ge=1, le=100_000, description="K, steps of the training attack")
        relative_step: float = Field(default=TRADES_STEP, gt=0, le=1e3, description="step size as a share of eps")

    def perturb(self, batch: Batch) -> Geometry:
        classes = classes_of(batch.labels)

        loss = cross_entropy_loss(self.target, batch.labels)
        images = random_start(batch.images, self.threat)
        kappa = torch.zeros_like(batch.images[:, 0, 0, 0])
        with crafting(self.target):
            for _ in range(self.settings.steps):
                images, logits = ascent_step(
                    loss, images, batch.images, threat=self.threat, relative_step=self.settings.relative_step
                )
                kappa = kappa + (logits.argmax(1) == classes).to(kappa)
        return Geometry(images, kappa)

    def losses(self, batch: Batch, perturbed: Geometry) -> dict[str, Tensor]:
        logits = at_least_float32(self.target(perturbed.images))
        values = functional.cross_entropy(logits, batch.labels, reduction="none")
        if not self.phase(batch):
            return {"cross_entropy": values.mean()}
        return {"cross_entropy": (self.weights(perturbed.kappa).to(values) * values).mean()}

    def phase(self, batch: Batch) -> int:
        """0 while every image counts the same, 1 from `begin` on."""
        return int(batch.epoch + 1 >= self.settings.begin * batch.epochs)

    def attacked(self, perturbed: Geometry) -> Tensor:
        return perturbed.images

    def weights(self, kappa: Tensor) -> Tensor:
        """ω (N,) of κ (N,); their mean is 1."""
        raw = (1 + torch.tanh(self.settings.lambda_ + 5 * (1 - 2 * kappa / self.settings.steps))) / 2
        return raw / raw.mean()
