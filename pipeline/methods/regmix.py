"""RegMix: adversarial mutual and generalization regularization (Liu and Ojha 2025, arXiv 2510.05317), reconstructed.

The loop is FGSM-PGK's; its mean squared error is replaced by two KL terms of unequal weight (AMR), and the clean
output is brought in (AGR). AMR's formula is published. AGR's form, the weights and the KL order are this project's
reconstruction, so they are settings.
"""

from __future__ import annotations

import math
from typing import Any, ClassVar, Literal

from pydantic import Field, model_validator
from torch import Tensor, logaddexp

from pipeline.attacks.divergence import Reduction, at_least_float32, kl_divergence, log_softmax
from pipeline.methods.fgsm_pgk import FGSMPGK, PriorSettings
from pipeline.methods.method import Batch


class RegMixAMR(FGSMPGK):
    """Smoothed CE + α · KL(final‖initial) + β · KL(initial‖final), as the paper writes it; nothing is detached by default."""

    name = "regmix_amr"
    title = "RegMix-AMR, reconstructed"
    paper = "Liu and Ojha 2025, arXiv 2510.05317"
    reconstructed = True
    paper_schedule: ClassVar[dict[str, Any]] = {**FGSMPGK.paper_schedule, "epochs": 95}

    class Settings(PriorSettings):
        alpha: float = Field(default=7.5, ge=0, le=1e6, description="weight of the main KL, in the unit of `reduction`")
        beta: float = Field(default=3.75, ge=0, le=1e6, description="weight of the auxiliary KL; about half of alpha")
        reduction: Literal["batchmean", "element"] = Field(
            default="batchmean", description="KL summed over classes, or averaged too"
        )
        kl_order: Literal["paper", "math"] = Field(
            default="paper",
            description="paper: KL(a‖b) in torch's argument order, as in the authors' D²R; math: as written",
        )
        detach_initial: bool | None = Field(
            default=None,
            description="no gradient of AMR through the initial output, as the paper's figure has it; null: no",
        )

    @classmethod
    def defaults(cls, data: str) -> dict[str, Any]:
        shared = super().defaults(data)
        if not shared:
            return {}
        shared.pop("weight")
        return {**shared, "alpha": 1.3, "beta": 0.65}

    def regularisers(self, batch: Batch, initial: Tensor, final: Tensor) -> dict[str, Tensor]:
        initial = initial.detach() if self.settings.detach_initial else initial
        return {
            "main_kl": self.settings.alpha * self._kl(final, initial),
            "auxiliary_kl": self.settings.beta * self._kl(initial, final),
        }

    def _kl(self, a: Tensor, b: Tensor) -> Tensor:
        """KL(a‖b) as the paper writes it, in the order that `kl_order` reads it."""
        reduction: Reduction = self.settings.reduction
        return kl_divergence(b, a, reduction) if self.settings.kl_order == "paper" else kl_divergence(a, b, reduction)


class RegMix(RegMixAMR):
    """AGR: AMR with the clean output, as one more KL term (`additive`) or mixed into AMR's target (`mixture`)."""

    name = "regmix"
    title = "RegMix-AGR, reconstructed"
    passes = (3, 4)

    class Settings(RegMixAMR.Settings):
        gamma: float = Field(
            default=1.0,
            ge=0,
            le=1e6,
            description="additive: weight of the clean KL; mixture: clean share of the target, < 1",
        )
        agr_form: Literal["additive", "mixture"] = Field(default="additive", description="how the clean output enters")
        detach_clean: bool = Field(default=False, description="no gradient through the clean output")

        @model_validator(mode="after")
        def _gamma_is_a_share_in_mixture(self) -> RegMix.Settings:
            if self.agr_form == "mixture" and self.gamma >= 1:
                raise ValueError(
                    "gamma must be < 1 with agr_form: mixture, where it is the share of the clean distribution"
                )
            return self

    def regularisers(self, batch: Batch, initial: Tensor, final: Tensor) -> dict[str, Tensor]:
        clean = at_least_float32(self.target(batch.images))
        clean = clean.detach() if self.settings.detach_clean else clean
        if self.settings.agr_form == "mixture":
            return super().regularisers(batch, self._mixture(initial, clean), final)
        return {
            **super().regularisers(batch, initial, final),
            "clean_kl": self.settings.gamma * self._kl(final, clean),
        }

    def _mixture(self, initial: Tensor, clean: Tensor) -> Tensor:
        """log((1 − γ) · p_initial + γ · p_clean), which serves as logits of the mixture."""
        share = self.settings.gamma
        if share == 0:
            return initial
        return logaddexp(log_softmax(initial) + math.log(1 - share), log_softmax(clean) + math.log(share))
