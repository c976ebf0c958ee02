"""RAMP: robustness against multiple norms by logit pairing and gradient projection (Jiang and Singh 2024, arXiv 2402.06827)."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, ClassVar, NamedTuple

import torch
from pydantic import Field
from torch import Tensor, nn
from torch.nn import functional

from pipeline.attacks.divergence import at_least_float32, kl_divergence
from pipeline.methods.method import Batch, Task, classes_of, crafting
from pipeline.methods.multi_norm import SeveralNorms, worst
from pipeline.params.defaults import COMMON_SCHEDULE


class Paired(NamedTuple):
    """Images (N, C, H, W) attacked in l∞, the same attacked in l1, and for each image the one with the larger CE."""

    linf: Tensor
    l1: Tensor
    worst: Tensor


class RAMP(SeveralNorms):
    """CE(f(x_worst), y) + λ · mean KL(p(x_∞)‖p(x_1)) over the images that are right under l∞, and a clean twin beside it.

    x_∞ and x_1 are PGD's in the two norms, x_worst the one with the larger CE. l∞ and l1 are the pair that trades most;
    l2 is validated and evaluated, not trained against. Nothing is detached.

    Gradient projection: a copy of the target, the *natural* network, learns the clean images of each epoch,
    CE(h(x), y). At the epoch's end both have moved away from where they began together, and every tensor w of
    the target becomes w₀ + (1 − β) · Δ + β · max(0, cos(Δ, Δ_h)) · Δ_h, with Δ = w − w₀ its own move and Δ_h the natural
    network's. All begin the next epoch from there, BatchNorm's statistics too.

    The end of an epoch is found on the device, by counting the data set's own images, so that every step is the same
    work. One optimiser moves both networks. The paper's attack is APGD with ten steps; here it is PGD.
    """

    name = "ramp"
    title = "RAMP"
    paper = "Jiang and Singh 2024, arXiv 2402.06827"
    passes = (26, 24)
    paper_schedule: ClassVar[dict[str, Any]] = {**COMMON_SCHEDULE, "epochs": 80, "lr": 0.05, "milestones": [70 / 80]}

    class Settings(SeveralNorms.Settings):
        lambda_: float = Field(
            default=5.0, alias="lambda", ge=0, le=1e6, description="λ, weight of the KL, summed over classes"
        )
        beta: float = Field(
            default=0.5, ge=0, le=1, description="β, share of the natural network's move in the projection; 0: none"
        )

    def __init__(self, settings: Any, task: Task, build: Callable[[str], nn.Module]) -> None:
        super().__init__(settings, task, build)
        # Direct children, because the loop compiles a method's children.
        self.natural, self.beginning = build("target"), build("target")
        for network in (self.natural, self.beginning):
            network.load_state_dict(self.target.state_dict())
        self.beginning.requires_grad_(False)
        self.register_buffer("shown", torch.zeros((), dtype=torch.int64))
        self.shown: Tensor

    def companions(self) -> dict[str, nn.Module]:
        """The natural network alone: the other is the target as it was."""
        return {"natural": self.natural}

    def perturb(self, batch: Batch) -> Paired:
        linf, _, l1 = self.balls
        one, other = self.attack(self.target, batch, linf), self.attack(self.target, batch, l1)
        with crafting(self.target):
            values = [self.values(each, batch).detach() for each in (one, other)]
            return Paired(one, other, worst([one, other], values))

    def losses(self, batch: Batch, perturbed: Paired) -> dict[str, Tensor]:
        l1, linf = (at_least_float32(self.target(images)) for images in (perturbed.l1, perturbed.linf))
        right = (linf.argmax(1) == classes_of(batch.labels)).to(linf)
        pairing = (right * kl_divergence(linf, l1, "none")).sum() / right.sum().clamp_min(1)
        natural = at_least_float32(self.natural(batch.images))
        return {
            "cross_entropy": self.values(perturbed.worst, batch).mean(),
            "logit_pairing": self.settings.lambda_ * pairing,
            "natural_cross_entropy": functional.cross_entropy(natural, batch.labels),
        }

    def attacked(self, perturbed: Paired) -> Tensor:
        return perturbed.worst

    @torch.no_grad()
    def after_step(self, batch: Batch, perturbed: Paired) -> None:
        """Where the epoch is over, puts the projection into all three networks; does the same work where it is not."""
        own = self.task.images - self.task.extra
        self.shown += (batch.index < own).sum()
        over = self.shown >= own
        self.shown *= ~over
        tensors = (network.state_dict().values() for network in (self.target, self.natural, self.beginning))
        for target, natural, beginning in zip(*tensors, strict=True):
            joint = projected(target, natural, beginning, self.settings.beta) if target.dim() else target.clone()
            for tensor in (target, natural, beginning):
                tensor.copy_(torch.where(over, joint, tensor))


def projected(target: Tensor, natural: Tensor, beginning: Tensor, beta: float) -> Tensor:
    """w₀ + (1 − β) · Δ + β · max(0, cos(Δ, Δ_h)) · Δ_h of one tensor in three networks."""
    own, clean = target - beginning, natural - beginning
    cosine = functional.cosine_similarity(own.flatten(), clean.flatten(), dim=0).clamp_min(0)
    return beginning + (1 - beta) * own + beta * cosine * clean
