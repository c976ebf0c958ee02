"""MTL-IBP: expressive losses for verified robustness (De Palma et al. 2024, arXiv 2305.13991)."""

from __future__ import annotations

from pydantic import Field
from torch import Tensor
from torch.nn import functional

from pipeline.attacks.divergence import at_least_float32
from pipeline.methods.ibp import IBP
from pipeline.methods.method import Batch, classes_of, full_precision
from pipeline.methods.pgd_at import cross_entropy_ascent
from pipeline.params import Section


class MTLIBP(IBP):
    """(1 − α) · CE(f(x'), y) + α · CE(ẑ, y): adversarial training and IBP in one weight, from one end to the other (eq. 7).

    x' is PGD's from a uniform start, in a ball of `attack_radius` · ε, and ẑ the worst logits that interval bounds admit
    in the ball of radius ε. Both radii rise over the schedule's `eps_warmup`. The published weights differ by radius: α is
    0.6 for CIFAR-10 at 8/255, and 0.01 at 2/255, where the attack has twice the radius.
    """

    name = "mtl_ibp"
    title = "MTL-IBP"
    paper = "De Palma et al. 2024, arXiv 2305.13991"
    #: One step of the attack, its image, and the bounds' centres and radii.
    passes = (4, 4)

    class Settings(Section):
        alpha: float = Field(default=0.6, ge=0, le=1, description="α, weight of the bounds' cross-entropy")
        attack_radius: float = Field(default=1.0, gt=0, le=10, description="the attack's radius as a share of eps")
        steps: int = Field(default=1, ge=1, le=100_000, description="steps of the training attack")
        relative_step: float = Field(
            default=2.0, gt=0, le=1e3, description="step size as a share of the attack's radius"
        )

    def perturb(self, batch: Batch) -> Tensor:
        ball = self.threat.scaled(self.settings.attack_radius)
        return cross_entropy_ascent(
            self.target, batch, ball, steps=self.settings.steps, relative_step=self.settings.relative_step
        )

    def losses(self, batch: Batch, perturbed: Tensor) -> dict[str, Tensor]:
        alpha = self.settings.alpha
        adversarial = at_least_float32(self.target(perturbed))
        with full_precision(perturbed.device):
            worst = self.worst_logits(at_least_float32(batch.images), classes_of(batch.labels))
        return {
            "cross_entropy": (1 - alpha) * functional.cross_entropy(adversarial, batch.labels),
            "interval": alpha * functional.cross_entropy(worst, batch.labels),
        }
