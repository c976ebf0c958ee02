"""N-FGSM: make some noise, FGSM from a larger start and without clipping (de Jorge et al. 2022, arXiv 2202.01181)."""

from __future__ import annotations

from typing import Any, ClassVar

from pydantic import Field
from torch import Tensor
from torch.nn import functional

from pipeline.attacks.divergence import at_least_float32
from pipeline.methods.fgsm_rs import CYCLIC, gradient_at, uniform
from pipeline.methods.method import Batch, Method
from pipeline.params import Section


class NFGSM(Method):
    """CE(f(x + δ), y), δ = η + α · sign ∇ CE(f(x + η), y) with η uniform in ±k · ε, α = ε; δ is not clipped to the ball.

    Both points are kept in [0, 1]. That δ may be as large as k · ε + α is the method: with more noise and without the
    clipping, FGSM training does not collapse where FGSM-RS does. BatchNorm is in train mode throughout.
    """

    name = "n_fgsm"
    title = "N-FGSM"
    paper = "de Jorge et al. 2022, arXiv 2202.01181"
    passes = (2, 2)
    crafting_mode = "train"
    trains_in = ("linf",)
    paper_schedule: ClassVar[dict[str, Any]] = {**CYCLIC, "epochs": 30, "lr": 0.2}

    class Settings(Section):
        noise: float = Field(default=2.0, ge=0, le=1e3, description="k, largest noise of the start as a share of eps")
        relative_step: float = Field(default=1.0, gt=0, le=1e3, description="α, size of the one step as a share of eps")

    def perturb(self, batch: Batch) -> Tensor:
        eps = self.threat.eps
        start = uniform(batch.images, self.settings.noise * eps)
        step = self.settings.relative_step * eps * gradient_at(self.target, start, batch.labels).sign()
        return (start + step).clamp(0, 1)

    def losses(self, batch: Batch, perturbed: Tensor) -> dict[str, Tensor]:
        return {"cross_entropy": functional.cross_entropy(at_least_float32(self.target(perturbed)), batch.labels)}
