"""TRADES: accuracy traded against robustness by one weight (Zhang et al. 2019, arXiv 1901.08573)."""

from __future__ import annotations

from typing import Any, ClassVar

from pydantic import Field
from torch import Tensor, nn
from torch.nn import functional

from bundle.table.threats import Threat
from pipeline.attacks.ascent import TRADES_STEP, gaussian_start, steepest_ascent
from pipeline.attacks.divergence import at_least_float32, kl_divergence
from pipeline.methods.method import Batch, Method, crafting
from pipeline.params import Section
from pipeline.params.defaults import COMMON_SCHEDULE


class TRADES(Method):
    """min CE(f(x), y) + β · KL(p(x)‖p(x')), x' maximising that KL from x + 0.001 · randn; nothing is detached.

    The official code runs f(x) twice in train mode. Once gives the same loss and gradient; BatchNorm's running
    statistics take the clean batch in once, after the adversarial one.
    """

    name = "trades"
    title = "TRADES"
    paper = "Zhang et al. 2019, arXiv 1901.08573"
    passes = (13, 12)
    #: The official code divides from epoch 75 on, counted from 1, so 74 of 76 epochs have the full rate.
    paper_schedule: ClassVar[dict[str, Any]] = {
        **COMMON_SCHEDULE,
        "epochs": 76,
        "milestones": [74 / 76],
        "weight_decay": 2e-4,
    }

    class Settings(Section):
        beta: float = Field(default=6.0, ge=0, le=1e6, description="weight of KL(p(x)‖p(x')), summed over classes")
        steps: int = Field(default=10, ge=1, le=100_000, description="steps of the training attack")
        relative_step: float = Field(default=TRADES_STEP, gt=0, le=1e3, description="step size as a share of eps")

    def perturb(self, batch: Batch) -> Tensor:
        with crafting(self.target):
            clean = self.target(batch.images).detach()
            return divergence_ascent(
                self.target,
                clean,
                batch,
                self.threat,
                start=gaussian_start(batch.images),
                steps=self.settings.steps,
                relative_step=self.settings.relative_step,
            )

    def losses(self, batch: Batch, perturbed: Tensor) -> dict[str, Tensor]:
        adversarial = at_least_float32(self.target(perturbed))
        clean = at_least_float32(self.target(batch.images))
        return {
            "cross_entropy": functional.cross_entropy(clean, batch.labels),
            "adversarial_kl": self.settings.beta * kl_divergence(clean, adversarial),
        }


def divergence_ascent(
    network: nn.Module,
    reference: Tensor,
    batch: Batch,
    threat: Threat,
    *,
    start: Tensor,
    steps: int,
    relative_step: float,
) -> Tensor:
    """x' that, from `start`, maximises KL(p_reference ‖ p_network(x')); `reference` are constant logits (N, K)."""

    def objective(images: Tensor) -> Tensor:
        return kl_divergence(reference, network(images), "sum")

    return steepest_ascent(start, batch.images, objective, threat=threat, steps=steps, relative_step=relative_step)
