"""MART: misclassification aware adversarial training (Wang et al. 2020, ICLR, openreview.net/forum?id=rklOg6EFwS)."""

from __future__ import annotations

from typing import Any, ClassVar

from pydantic import Field
from torch import Tensor
from torch.nn import functional

from pipeline.attacks.ascent import TRADES_STEP, gaussian_start
from pipeline.attacks.divergence import at_least_float32, kl_divergence
from pipeline.methods.method import Batch, Method, classes_of
from pipeline.methods.pgd_at import cross_entropy_ascent
from pipeline.params import Section
from pipeline.params.defaults import COMMON_SCHEDULE

#: The official code's, so that the logarithm of what is left for the other classes stays finite.
GUARD = 1.0001


class MART(Method):
    """BCE(p(x'), y) + β · mean_i (1 − p_y(x_i)) · KL(p(x_i)‖p(x'_i)), x' from PGD-10 on CE; nothing is detached.

    BCE(p, y) = −log p_y − log(1 − max_{k≠y} p_k) asks for a margin as well: the largest wrong class is to be improbable.
    The KL weighs most for images that the network gets wrong without an attack. x' starts at x + 0.001 · randn, as
    TRADES' does. The defaults are the paper's for ResNet-18; the wide network there has β = 6.
    """

    name = "mart"
    title = "MART"
    paper = "Wang et al. 2020, openreview.net/forum?id=rklOg6EFwS"
    passes = (12, 12)
    #: The official code divides from epochs 75, 90 and 100 on, counted from 1.
    paper_schedule: ClassVar[dict[str, Any]] = {
        **COMMON_SCHEDULE,
        "epochs": 120,
        "lr": 0.01,
        "milestones": [74 / 120, 89 / 120, 99 / 120],
        "weight_decay": 3.5e-3,
    }

    class Settings(Section):
        beta: float = Field(default=5.0, ge=0, le=1e6, description="weight of the KL, summed over classes")
        steps: int = Field(default=10, ge=1, le=100_000, description="steps of the training attack")
        relative_step: float = Field(default=TRADES_STEP, gt=0, le=1e3, description="step size as a share of eps")

    def perturb(self, batch: Batch) -> Tensor:
        return cross_entropy_ascent(
            self.target,
            batch,
            self.threat,
            start=gaussian_start(batch.images),
            steps=self.settings.steps,
            relative_step=self.settings.relative_step,
        )

    def losses(self, batch: Batch, perturbed: Tensor) -> dict[str, Tensor]:
        clean = at_least_float32(self.target(batch.images))
        adversarial = at_least_float32(self.target(perturbed))
        classes = classes_of(batch.labels)[:, None]
        wrong = adversarial.softmax(dim=1).scatter(1, classes, 0.0).amax(dim=1)
        doubt = 1 - clean.softmax(dim=1).gather(1, classes).squeeze(1)
        return {
            "cross_entropy": functional.cross_entropy(adversarial, batch.labels),
            "margin": -(GUARD - wrong).log().mean(),
            "adversarial_kl": self.settings.beta * (doubt * kl_divergence(clean, adversarial, "none")).mean(),
        }
