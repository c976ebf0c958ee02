"""ALP: adversarial logit pairing (Kannan et al. 2018, arXiv 1803.06373)."""

from __future__ import annotations

from pydantic import Field
from torch import Tensor
from torch.nn import functional

from pipeline.attacks.divergence import at_least_float32
from pipeline.methods.method import Batch, Method
from pipeline.methods.pgd_at import PGDAT, cross_entropy_ascent


class ALP(Method):
    """CE(f(x'), y) + c · CE(f(x), y) + λ · MSE(f(x'), f(x)), x' = PGD-10 on CE; nothing is detached.

    The logits of an image and of its adversarial twin are drawn together. With c = 1 half of what is learnt from is
    clean, as in the paper's mixed minibatches.
    """

    name = "alp"
    title = "ALP"
    paper = "Kannan et al. 2018, arXiv 1803.06373"
    passes = (12, 12)

    class Settings(PGDAT.Settings):
        weight: float = Field(default=0.5, ge=0, le=1e6, description="λ, weight of the logits' mean squared distance")
        clean_weight: float = Field(default=1.0, ge=0, le=1e6, description="c, weight of the clean cross-entropy")

    def perturb(self, batch: Batch) -> Tensor:
        return cross_entropy_ascent(
            self.target, batch, self.threat, steps=self.settings.steps, relative_step=self.settings.relative_step
        )

    def losses(self, batch: Batch, perturbed: Tensor) -> dict[str, Tensor]:
        adversarial = at_least_float32(self.target(perturbed))
        clean = at_least_float32(self.target(batch.images))
        return {
            "cross_entropy": functional.cross_entropy(adversarial, batch.labels),
            "clean_cross_entropy": self.settings.clean_weight * functional.cross_entropy(clean, batch.labels),
            "logit_pairing": self.settings.weight * functional.mse_loss(adversarial, clean),
        }
