"""LBGAT: learnable boundary guided adversarial training (Cui et al. 2021, arXiv 2011.11164)."""

from __future__ import annotations

from typing import Any, ClassVar

from pydantic import Field
from torch import Tensor
from torch.nn import functional

from pipeline.attacks.divergence import at_least_float32, kl_divergence
from pipeline.methods.d2r import D2R
from pipeline.methods.method import Batch
from pipeline.methods.trades import TRADES


class LBGAT(TRADES):
    """CE(g(x), y) + MSE(f(x'), g(x)) + β · KL(p_f(x)‖p_f(x')): a guide on clean labels, whose logits the target meets.

    Images are TRADES', from the target alone. Nothing is detached: the squared error moves the guide too. LBGAT0 is
    β = 0, LBGAT6 is β = 6; the clean output is computed for both, as in the official code, where it moves BatchNorm.
    """

    name = "lbgat"
    title = "LBGAT"
    paper = "Cui et al. 2021, arXiv 2011.11164"
    passes = (14, 13)
    needs_guide = True
    #: D²R took over LBGAT's schedule as it was.
    paper_schedule: ClassVar[dict[str, Any]] = D2R.paper_schedule

    class Settings(TRADES.Settings):
        beta: float = Field(
            default=0.0, ge=0, le=1e6, description="weight of KL(p(x)‖p(x')), summed over classes: 0 LBGAT0, 6 LBGAT6"
        )

    @classmethod
    def defaults(cls, data: str) -> dict[str, Any]:
        """β = 6 with 100 and 200 classes: the rows that D²R's tables compare with."""
        return {"beta": 6.0} if data in ("cifar100", "tiny_imagenet") else {}

    def losses(self, batch: Batch, perturbed: Tensor) -> dict[str, Tensor]:
        adversarial = at_least_float32(self.target(perturbed))
        clean = at_least_float32(self.target(batch.images))
        guide = at_least_float32(self.guide(batch.images))
        return self.terms(batch, adversarial, clean, guide)

    def terms(self, batch: Batch, adversarial: Tensor, clean: Tensor, guide: Tensor) -> dict[str, Tensor]:
        """The terms from logits (N, K): the target's on adversarial and clean images, the guide's on clean ones."""
        return {
            "guide_cross_entropy": functional.cross_entropy(guide, batch.labels),
            "mean_squared_error": functional.mse_loss(adversarial, guide),
            "adversarial_kl": self.settings.beta * kl_divergence(clean, adversarial),
        }
