"""DyNAT: dynamic label adversarial training (Liu et al. 2024, arXiv 2408.13102)."""

from __future__ import annotations

from dataclasses import replace
from typing import Any, ClassVar

from pydantic import Field
from torch import Tensor
from torch.nn import functional

from pipeline.attacks.ascent import TRADES_STEP, gaussian_start
from pipeline.attacks.divergence import at_least_float32
from pipeline.methods.d2r import D2R
from pipeline.methods.method import Batch, Method
from pipeline.methods.pgd_at import cross_entropy_ascent
from pipeline.params import Section


class DyNAT(Method):
    """CE(g(x), y) + CE(f(x'), ŷ), ŷ = argmax g(x), and x' raises CE(f(x'), ŷ) from x + 0.001 · randn.

    The guide learns the labels, and the target learns what the guide answers, right or wrong: easy labels at first, the
    true ones later. As in the official code, the guide is in train mode while images are made, and the target sees the
    clean images too, which moves its BatchNorm and nothing else.
    """

    name = "dynat"
    title = "DyNAT"
    paper = "Liu et al. 2024, arXiv 2408.13102"
    passes = (14, 12)
    needs_guide = True
    paper_schedule: ClassVar[dict[str, Any]] = D2R.paper_schedule

    class Settings(Section):
        weight: float = Field(default=1.0, ge=0, le=1e6, description="weight of the target's cross-entropy")
        steps: int = Field(default=10, ge=1, le=100_000, description="steps of the training attack")
        relative_step: float = Field(default=TRADES_STEP, gt=0, le=1e3, description="step size as a share of eps")

    def perturb(self, batch: Batch) -> Tensor:
        answers = self.guide(batch.images).detach().argmax(dim=1)
        return cross_entropy_ascent(
            self.target,
            replace(batch, labels=answers),
            self.threat,
            start=gaussian_start(batch.images),
            steps=self.settings.steps,
            relative_step=self.settings.relative_step,
        )

    def losses(self, batch: Batch, perturbed: Tensor) -> dict[str, Tensor]:
        adversarial = at_least_float32(self.target(perturbed))
        self.target(batch.images)
        guide = at_least_float32(self.guide(batch.images))
        return {
            "guide_cross_entropy": functional.cross_entropy(guide, batch.labels),
            "dynamic_cross_entropy": self.settings.weight
            * functional.cross_entropy(adversarial, guide.detach().argmax(dim=1)),
        }
