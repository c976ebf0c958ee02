"""PGD adversarial training (Madry et al. 2018, arXiv 1706.06083)."""

from __future__ import annotations

from pydantic import Field
from torch import Tensor, nn
from torch.nn import functional

from bundle.table.threats import Threat
from pipeline.attacks.ascent import Loss, random_start, steepest_ascent
from pipeline.attacks.divergence import at_least_float32
from pipeline.methods.method import Batch, Method, crafting
from pipeline.params import Section


class PGDAT(Method):
    """min CE(f(x'), y) with x' = PGD-10 from a uniform start; BatchNorm in eval mode while crafting."""

    name = "pgd_at"
    title = "PGD-AT"
    paper = "Madry et al. 2018, arXiv 1706.06083"
    passes = (11, 11)

    class Settings(Section):
        steps: int = Field(default=10, ge=1, le=100_000, description="steps of the training attack")
        relative_step: float = Field(default=0.25, gt=0, le=1e3, description="step size as a share of eps")

    def perturb(self, batch: Batch) -> Tensor:
        return cross_entropy_ascent(
            self.target, batch, self.threat, steps=self.settings.steps, relative_step=self.settings.relative_step
        )

    def losses(self, batch: Batch, perturbed: Tensor) -> dict[str, Tensor]:
        return {"cross_entropy": functional.cross_entropy(at_least_float32(self.target(perturbed)), batch.labels)}


def cross_entropy_ascent(
    network: nn.Module, batch: Batch, threat: Threat, *, steps: int, relative_step: float, start: Tensor | None = None
) -> Tensor:
    """PGD on cross-entropy against `network`, in eval mode meanwhile; detached.

    From `start`, or from a uniform draw in the ball.
    """
    loss = cross_entropy_loss(network, batch.labels)

    def objective(images: Tensor) -> Tensor:
        return loss(images)[0]

    with crafting(network):
        start = random_start(batch.images, threat) if start is None else start
        return steepest_ascent(start, batch.images, objective, threat=threat, steps=steps, relative_step=relative_step)


def cross_entropy_loss(network: nn.Module, labels: Tensor) -> Loss:
    """Of images (N, C, H, W): the sum of their cross-entropies, and logits (N, K)."""

    def loss(images: Tensor) -> tuple[Tensor, Tensor]:
        logits = at_least_float32(network(images))
        return functional.cross_entropy(logits, labels, reduction="sum"), logits

    return loss
