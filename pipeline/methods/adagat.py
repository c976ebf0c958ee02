"""AdaGAT: adaptive guidance adversarial training (Liu et al. 2025, arXiv 2508.17265), reconstructed.

Published are two separate losses between guide and target and a stop-gradient, which hold the guide's accuracy down to
where the target can follow. The code that is public is LBGAT's loss with the second one beside it, switched off.
"""

from __future__ import annotations

from typing import Any

from pydantic import Field
from torch import Tensor
from torch.nn import functional

from pipeline.methods.lbgat import LBGAT
from pipeline.methods.method import Batch


class AdaGAT(LBGAT):
    """LBGAT's loss + λ · MSE(f(x'), g(x)) with f(x') constant, so that this term moves the guide alone.

    LBGAT's squared error draws guide and target together with one weight; the additional one draws the guide to where
    the target is. Images are TRADES', from the target alone. β is 0 here on every data set; with λ = 0 this is LBGAT0.
    """

    name = "adagat"
    title = "AdaGAT, reconstructed"
    paper = "Liu et al. 2025, arXiv 2508.17265"
    reconstructed = True

    class Settings(LBGAT.Settings):
        guide_weight: float = Field(
            default=2.5, ge=0, le=1e6, description="λ, weight of the squared error that moves the guide alone"
        )

    @classmethod
    def defaults(cls, data: str) -> dict[str, Any]:
        return {}

    def terms(self, batch: Batch, adversarial: Tensor, clean: Tensor, guide: Tensor) -> dict[str, Tensor]:
        return {
            **super().terms(batch, adversarial, clean, guide),
            "guide_squared_error": self.settings.guide_weight * functional.mse_loss(guide, adversarial.detach()),
        }
