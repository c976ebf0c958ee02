"""FAT: friendly adversarial training (Zhang et al. 2020, arXiv 2002.11242)."""

from __future__ import annotations

from typing import Any, ClassVar

import torch
from pydantic import Field
from torch import Tensor
from torch.nn import functional

from pipeline.attacks.ascent import TRADES_STEP, image_gradient, random_start
from pipeline.attacks.divergence import at_least_float32
from pipeline.attacks.threat import project, steepest
from pipeline.methods.method import Batch, Method, classes_of, crafting
from pipeline.methods.pgd_at import cross_entropy_loss
from pipeline.params import Section
from pipeline.params.defaults import COMMON_SCHEDULE


class FAT(Method):
    """CE(f(x̃), y), x̃ the point of PGD-K that lies τ steps behind the first one that is answered wrong (algorithm 1).

    PGD climbs CE from a uniform start; 0.001 · randn is added in every step, as in the official code. An image that is
    still right after K steps counts as PGD left it. τ grows from 0 by one at each of `tau_rises`, so that images become
    less friendly as the network gets better.

    Every step runs over the whole batch, and an image that has stopped stays where it is: the same images as with the
    official code, which takes it out of the batch, at a cost that does not depend on the network.
    """

    name = "fat"
    title = "FAT"
    paper = "Zhang et al. 2020, arXiv 2002.11242"
    passes = (11, 11)
    #: Divided from epochs 60 and 90 on, counted from 1; halved again from 110 on in the official code, which is left out.
    paper_schedule: ClassVar[dict[str, Any]] = {
        **COMMON_SCHEDULE,
        "epochs": 120,
        "milestones": [59 / 120, 89 / 120],
        "weight_decay": 2e-4,
    }

    class Settings(Section):
        steps: int = Field(default=10, ge=1, le=100_000, description="K, steps of the training attack at most")
        relative_step: float = Field(default=TRADES_STEP, gt=0, le=1e3, description="step size as a share of eps")
        tau_rises: list[float] = Field(
            default=[50 / 120, 90 / 120],
            max_length=100,
            description="shares of the epochs after which τ, the steps past the first error, is one larger",
        )
        noise: float = Field(default=0.001, ge=0, le=1, description="standard deviation of the noise of every step")

    def tau(self, batch: Batch) -> int:
        """Steps that an image goes on for once it is answered wrong."""
        return sum(batch.epoch + 1 > rise * batch.epochs for rise in self.settings.tau_rises)

    def phase(self, batch: Batch) -> int:
        """Every τ is a phase of training."""
        return self.tau(batch)

    def perturb(self, batch: Batch) -> Tensor:
        classes = classes_of(batch.labels)
        point = random_start(batch.images, self.threat)
        left = torch.full_like(classes, self.tau(batch))
        moving = torch.ones_like(classes, dtype=torch.bool)
        with crafting(self.target):
            for _ in range(self.settings.steps):
                gradient, logits = image_gradient(cross_entropy_loss(self.target, batch.labels), point)
                wrong = logits.argmax(1) != classes
                moving = moving & ~(wrong & (left == 0))
                left = left - (wrong & moving).to(left)
                point = torch.where(moving.view(-1, 1, 1, 1), self._step(point, gradient, batch.images), point)
        return point

    def losses(self, batch: Batch, perturbed: Tensor) -> dict[str, Tensor]:
        return {"cross_entropy": functional.cross_entropy(at_least_float32(self.target(perturbed)), batch.labels)}

    def _step(self, point: Tensor, gradient: Tensor, images: Tensor) -> Tensor:
        along = self.settings.relative_step * self.threat.eps * steepest(gradient, point, self.threat)
        return project(point + along + self.settings.noise * torch.randn_like(point), images, self.threat)
