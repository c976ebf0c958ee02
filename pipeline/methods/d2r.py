"""D²R: dual regularization loss with collaborative adversarial generation (Liu et al. 2025, arXiv 2506.07056).

A guide, trained from scratch on clean labels, and the target, which is served, learn together. Only the guide sees
labels. The formulas are those of the official code: the paper writes KL(a‖b) in torch's argument order, which is
KL(b‖a) here.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any, ClassVar, Literal

import torch
from pydantic import Field, model_validator
from torch import Tensor
from torch.nn import functional

from bundle.errors import HallmarkError
from pipeline.attacks.ascent import TRADES_STEP, gaussian_start
from pipeline.attacks.divergence import Reduction, at_least_float32, kl_divergence
from pipeline.methods.method import Batch, Method, crafting
from pipeline.methods.trades import divergence_ascent
from pipeline.params import Section
from pipeline.params.defaults import COMMON_SCHEDULE


class DualRegularization(Method):
    """What every method with D²R's loss shares: the guide, the settings, the terms, the ascent that makes the images."""

    paper = "Liu et al. 2025, arXiv 2506.07056"
    passes = (14, 13)
    needs_guide = True
    paper_schedule: ClassVar[dict[str, Any]] = {
        **COMMON_SCHEDULE,
        "epochs": 100,
        "milestones": [0.75, 0.9],
        "first_epoch_lr": 0.02,
        "weight_decay": 2e-4,
    }

    class Settings(Section):
        lambda_: float = Field(
            default=1.0, alias="lambda", ge=0, le=1e6, description="weight of the guide's cross-entropy"
        )
        alpha: float = Field(
            default=30.0, ge=0, le=1e6, description="weight of the adversarial KL, in the unit of `reduction`"
        )
        beta: float = Field(
            default=20.0, ge=0, le=1e6, description="weight of the clean symmetric term, in the unit of `reduction`"
        )
        reduction: Literal["element", "batchmean"] = Field(
            default="element", description="KL averaged over classes too, or summed"
        )
        steps: int = Field(default=10, ge=1, le=100_000, description="steps of the training attack")
        relative_step: float = Field(default=TRADES_STEP, gt=0, le=1e3, description="step size as a share of eps")
        guide_init: Literal["learnable", "pretrained"] = Field(
            default="learnable", description="pretrained: a fixed guide (fig. 2a)"
        )
        guide_weights: str | None = Field(default=None, description="safetensors file of a pretrained guide")
        one_at_a_time: bool = Field(
            default=False, description="the clean symmetric term moves one network a step (the Remark)"
        )

        @model_validator(mode="after")
        def _guide_weights_with_pretrained(self) -> DualRegularization.Settings:
            if (self.guide_init == "pretrained") != (self.guide_weights is not None):
                raise ValueError("guide_weights goes with guide_init: pretrained, and only with it")
            return self

    @classmethod
    def defaults(cls, data: str) -> dict[str, Any]:
        if data == "folder":
            return {"reduction": "batchmean", "alpha": 3.0, "beta": 2.0}
        return {"lambda": 0.1} if data in ("cifar100", "tiny_imagenet") else {}

    def __init__(self, *arguments: Any) -> None:
        super().__init__(*arguments)
        if self.settings.guide_init == "pretrained":
            self._load_guide(Path(self.settings.guide_weights))
            self.guide.requires_grad_(False)

    def _load_guide(self, path: Path) -> None:
        from safetensors import SafetensorError
        from safetensors.torch import load_file

        try:
            self.guide.load_state_dict(load_file(path), strict=True)
        except (OSError, SafetensorError, RuntimeError) as error:
            reason = " ".join(str(error).split())
            raise HallmarkError(f"method.guide_weights: {path} holds no weights of network.guide ({reason})") from None

    def train(self, mode: bool = True) -> DualRegularization:
        super().train(mode)
        if self.settings.guide_init == "pretrained":
            self.guide.eval()
        return self

    def terms(self, batch: Batch, adversarial: Tensor, clean: Tensor, guide: Tensor) -> dict[str, Tensor]:
        """Eq. 2 from logits (N, K): the target's on adversarial and clean images, the guide's on clean ones."""
        settings = self.settings
        reduction: Reduction = settings.reduction
        return {
            "guide_cross_entropy": settings.lambda_ * functional.cross_entropy(guide, batch.labels),
            "mean_squared_error": functional.mse_loss(adversarial, guide),
            "adversarial_kl": settings.alpha * kl_divergence(adversarial, guide, reduction),
            "clean_symmetric": settings.beta * self._clean_symmetric(clean, guide, reduction),
        }

    def _clean_symmetric(self, clean: Tensor, guide: Tensor, reduction: Reduction) -> Tensor:
        """|KL(p_t‖p_g) − KL(p_g‖p_t)| of the batch means."""

        def difference(target: Tensor, guide: Tensor) -> Tensor:
            return kl_divergence(target, guide, reduction) - kl_divergence(guide, target, reduction)

        if self.settings.one_at_a_time:
            # The Remark's difference is KL(p_g‖p_t) − KL(p_t‖p_g) here: positive moves the target, negative the guide.
            moved = difference(clean, guide.detach()), difference(clean.detach(), guide)
            return torch.where(moved[0] < 0, *moved).abs()
        return difference(clean, guide).abs()

    def ascend(self, batch: Batch, reference: Tensor, start: Tensor) -> Tensor:
        """x' that, from `start`, maximises KL(p_reference(x) ‖ p_target(x')); the reference is constant."""
        settings = self.settings
        return divergence_ascent(
            self.target,
            reference,
            batch,
            self.threat,
            start=start,
            steps=settings.steps,
            relative_step=settings.relative_step,
        )


class D2R(DualRegularization):
    """D²R loss (eq. 2), adversarial images generated from the target alone, as TRADES does."""

    name = "d2r"
    title = "D²R"

    def perturb(self, batch: Batch) -> Tensor:
        with crafting(self.target):
            return self.ascend(batch, self.target(batch.images).detach(), gaussian_start(batch.images))

    def losses(self, batch: Batch, perturbed: Tensor) -> dict[str, Tensor]:
        adversarial = at_least_float32(self.target(perturbed))
        clean = at_least_float32(self.target(batch.images))
        guide = at_least_float32(self.guide(batch.images))
        return self.terms(batch, adversarial, clean, guide)


class D2RCAG(D2R):
    """D²R loss (eq. 2) with collaborative adversarial generation (eq. 4): guide and target make the images together."""

    name = "d2r_cag"
    title = "D²R-CAG"

    def perturb(self, batch: Batch) -> Tensor:
        with crafting(self.target, self.guide):
            return self.ascend(batch, self.guide(batch.images).detach(), gaussian_start(batch.images))
