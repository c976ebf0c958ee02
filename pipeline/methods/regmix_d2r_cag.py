"""RegMix's mutual regularization and D²R-CAG in one method: this project's own combination, published by nobody.

From D²R (arXiv 2506.07056): guide and target, collaborative generation, the loss. From RegMix (arXiv 2510.05317): AMR,
two KL terms of unequal weight between the target's outputs at the initial and at the final adversarial image.
"""

from __future__ import annotations

from typing import Any, Literal, NamedTuple

import torch
from pydantic import Field
from torch import Tensor

from pipeline.attacks.ascent import random_start
from pipeline.attacks.divergence import at_least_float32, kl_divergence
from pipeline.attacks.threat import project
from pipeline.methods.d2r import DualRegularization
from pipeline.methods.method import Batch, crafting


class Generated(NamedTuple):
    """Where the generation started and where it ended, both (N, C, H, W), in the ball, in [0, 1], without a graph."""

    initial: Tensor
    final: Tensor


class RegMixD2RCAG(DualRegularization):
    """D²R's loss at x'_final + α · KL(final‖initial) + β · KL(initial‖final) of the target, nothing detached.

    The initial image is x + prior, projected onto the ball and [0, 1], and the generation starts there. The prior is
    kept by image: the perturbation that the generation ended with when the image was last seen, and a uniform draw
    from the ball when a round of `reset_epochs` epochs shows it for the first time.
    Why: from D²R's own start, x + 0.001 · randn, AMR would compare the adversarial output with the clean one, which
    D²R's terms do already, while a prior makes it compare two attacks, as in RegMix. The end of ten steps replaces
    FGSM-PGK's momentum, whose work is to gather in a prior what single steps find one by one.
    """

    name = "regmix_d2r_cag"
    title = "RegMix-AMR with D²R-CAG, own combination"
    paper = "this project, from arXiv 2510.05317 and arXiv 2506.07056"
    reconstructed = True
    passes = (15, 14)

    class Settings(DualRegularization.Settings):
        amr_alpha: float = Field(default=7.5, ge=0, le=1e6, description="weight of AMR's main KL, summed over classes")
        amr_beta: float = Field(
            default=3.75, ge=0, le=1e6, description="weight of AMR's auxiliary KL; about half of amr_alpha"
        )
        kl_order: Literal["paper", "math"] = Field(
            default="paper", description="how AMR's KL(a‖b) is read, as in RegMix"
        )
        reset_epochs: int = Field(
            default=10, ge=1, le=100_000, description="the priors start again every so many epochs"
        )

    @classmethod
    def defaults(cls, data: str) -> dict[str, Any]:
        hundred = {"amr_alpha": 1.3, "amr_beta": 0.65, "reset_epochs": 40}
        return super().defaults(data) | (hundred if data in ("cifar100", "tiny_imagenet") else {})

    def __init__(self, *arguments: Any) -> None:
        super().__init__(*arguments)
        self.register_buffer("prior", torch.zeros(self.task.images, *self.task.shape))
        self.register_buffer("round", torch.full((self.task.images,), -1))
        self.prior: Tensor
        self.round: Tensor

    def perturb(self, batch: Batch) -> Generated:
        initial = self._initial(batch)
        with crafting(self.target, self.guide):
            return Generated(initial, self.ascend(batch, self.guide(batch.images).detach(), initial))

    def losses(self, batch: Batch, perturbed: Generated) -> dict[str, Tensor]:
        initial = at_least_float32(self.target(perturbed.initial))
        final = at_least_float32(self.target(perturbed.final))
        clean = at_least_float32(self.target(batch.images))
        guide = at_least_float32(self.guide(batch.images))
        return {
            **self.terms(batch, final, clean, guide),
            "amr_main_kl": self.settings.amr_alpha * self._amr_kl(final, initial),
            "amr_auxiliary_kl": self.settings.amr_beta * self._amr_kl(initial, final),
        }

    def attacked(self, perturbed: Generated) -> Tensor:
        return perturbed.final

    def after_step(self, batch: Batch, perturbed: Generated) -> None:
        """prior ← x'_final − x, in the frame of the image as it was augmented this time."""
        self.prior[batch.index] = perturbed.final - batch.images
        self.round[batch.index] = batch.epoch // self.settings.reset_epochs

    def phase(self, batch: Batch) -> int:
        """The round whose first images start anew; −1 after its first epoch, when all have been seen."""
        round_, epoch = divmod(batch.epoch, self.settings.reset_epochs)
        return -1 if epoch and not self.task.extra else round_

    def _initial(self, batch: Batch) -> Tensor:
        # The prior was made for another crop, so it can lead out of [0, 1].
        kept = project(batch.images + self.prior[batch.index], batch.images, self.threat)
        round_ = self.phase(batch)
        if round_ < 0:
            return kept
        first = (self.round[batch.index] != round_).view(-1, 1, 1, 1)
        return torch.where(first, random_start(batch.images, self.threat), kept)

    def _amr_kl(self, a: Tensor, b: Tensor) -> Tensor:
        """KL(a‖b) as RegMix's paper writes it, in the order that `kl_order` reads it."""
        return kl_divergence(b, a) if self.settings.kl_order == "paper" else kl_divergence(a, b)
