"""SAT: adversarial training with a curriculum of difficulty (Sitawarin et al. 2021, arXiv 2003.09347), reconstructed.

Published is the idea: the loss is to be smooth, so images are to be no more difficult than a level that rises during
training, and P-SAT measures difficulty by the softmax. The training code is not; how the level rises is this project's.
"""

from __future__ import annotations

import math

import torch
from pydantic import Field
from torch import Tensor
from torch.nn import functional

from pipeline.attacks.ascent import ascent_step, random_start
from pipeline.attacks.divergence import at_least_float32
from pipeline.methods.method import Batch, Method, classes_of, crafting
from pipeline.methods.pgd_at import PGDAT, cross_entropy_loss


class SAT(Method):
    """CE(f(x'), y), x' the first point of PGD-K with a difficulty ψ above λ_t; ψ = ½ (1 + max_{k≠y} p_k − p_y) (P-SAT).

    ψ is 0 for a certain right answer, ½ at the border and 1 for a certain wrong one. λ_t rises in a straight line from
    `level` to 1 in the first `ramp` of the epochs, and at 1 nothing stops PGD. An image that has stopped stays where it
    is, and every step runs over the whole batch.
    """

    name = "sat"
    title = "SAT, reconstructed"
    paper = "Sitawarin et al. 2021, arXiv 2003.09347"
    reconstructed = True
    passes = (11, 11)

    class Settings(PGDAT.Settings):
        level: float = Field(
            default=0.5, ge=0, le=1, description="difficulty that training begins with; 0.5: the border"
        )
        ramp: float = Field(default=0.5, ge=0, le=1, description="share of the epochs in which the level rises to 1")

    def level(self, batch: Batch) -> float:
        """λ_t, at the beginning of the epoch."""
        rising = self.settings.ramp * batch.epochs
        share = min(1.0, batch.epoch / rising) if rising else 1.0
        return self.settings.level + (1 - self.settings.level) * share

    def phase(self, batch: Batch) -> int:
        """The epoch while the level rises, and the same ever after."""
        return min(batch.epoch, math.ceil(self.settings.ramp * batch.epochs))

    def perturb(self, batch: Batch) -> Tensor:
        level, classes = self.level(batch), classes_of(batch.labels)[:, None]

        loss = cross_entropy_loss(self.target, batch.labels)
        point = random_start(batch.images, self.threat)
        moving = torch.ones_like(batch.images[:, 0, 0, 0], dtype=torch.bool)
        with crafting(self.target):
            for _ in range(self.settings.steps):
                moved, logits = ascent_step(
                    loss, point, batch.images, threat=self.threat, relative_step=self.settings.relative_step
                )
                moving = moving & (difficulty(logits, classes) <= level)
                point = torch.where(moving.view(-1, 1, 1, 1), moved, point)
        return point

    def losses(self, batch: Batch, perturbed: Tensor) -> dict[str, Tensor]:
        return {"cross_entropy": functional.cross_entropy(at_least_float32(self.target(perturbed)), batch.labels)}


def difficulty(logits: Tensor, classes: Tensor) -> Tensor:
    """ψ (N,) of logits (N, K) and classes (N, 1)."""
    p = logits.softmax(dim=1)
    return (1 + p.scatter(1, classes, 0.0).amax(dim=1) - p.gather(1, classes).squeeze(1)) / 2
