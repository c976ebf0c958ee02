"""FGSM-PGK: fast adversarial training with prior knowledge (Jia et al. 2024, arXiv 2304.00202).

Single-step training that starts from a perturbation kept for every image (the prior), which momentum moves each time
the image is seen. Formulas and details are those of the official CIFAR-10 script.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, ClassVar, NamedTuple

import torch
from pydantic import Field
from torch import Tensor, nn
from torch.nn import functional

from pipeline.attacks.divergence import at_least_float32, smoothed_cross_entropy
from pipeline.methods.method import Batch, Method, Task, classes_of
from pipeline.params import Section
from pipeline.params.defaults import COMMON_SCHEDULE


class Priors(NamedTuple):
    """Logits at the prior-initialised images, with their graph, which the loss goes through again; the final images."""

    initial_logits: Tensor
    final: Tensor
    gradient: Tensor


class PriorSettings(Section):
    """What the FGSM-PGK line shares."""

    true_class: float = Field(default=0.5, gt=0, le=1, description="weight of the label in the smoothed cross-entropy")
    momentum: float = Field(default=0.3, ge=0, lt=1, description="of the prior's gradient")
    reset_epochs: int = Field(default=10, ge=1, le=100_000, description="the priors start again every so many epochs")
    ema_threshold: float = Field(
        default=0.82, gt=0, le=1e3, description="ratio of adversarial to initial accuracy that averaging slows at"
    )


class PGKSettings(PriorSettings):
    """FGSM-PGK's own."""

    weight: float = Field(default=5.6, ge=0, le=1e6, description="weight of the mean squared error")


class FGSMPGK(Method):
    """Smoothed CE at the final image + weight · MSE(final logits, prior-initialised logits), averaged weights."""

    name = "fgsm_pgk"
    title = "FGSM-PGK"
    paper = "Jia et al. 2024, arXiv 2304.00202"
    passes = (2, 3)
    crafting_mode = "train"
    shares_graph = True
    smooths_labels = True
    trains_in = ("linf",)
    paper_schedule: ClassVar[dict[str, Any]] = {**COMMON_SCHEDULE, "averaging": "ema"}

    Settings = PGKSettings

    @classmethod
    def defaults(cls, data: str) -> dict[str, Any]:
        if data in ("cifar100", "tiny_imagenet"):
            return {"true_class": 0.8, "momentum": 0.1, "reset_epochs": 40, "ema_threshold": 0.9, "weight": 1.0}
        return {}

    @classmethod
    def schedule(cls, name: str) -> dict[str, Any]:
        return {**super().schedule(name), "averaging": cls.paper_schedule["averaging"]}

    def __init__(self, settings: Any, task: Task, build: Callable[[str], nn.Module]) -> None:
        super().__init__(settings, task, build)
        self.register_buffer("prior", torch.zeros(task.images, *task.shape))
        self.register_buffer("velocity", torch.zeros(task.images, *task.shape))
        self.register_buffer("round", torch.full((task.images,), -1))
        self.register_buffer("right_initially", torch.zeros(()))
        self.register_buffer("right_finally", torch.zeros(()))
        self.prior: Tensor
        self.velocity: Tensor
        self.round: Tensor
        self.right_initially: Tensor
        self.right_finally: Tensor

    def perturb(self, batch: Batch) -> Priors:
        eps = self.threat.eps
        self._reset(batch)
        # The prior belongs to the image, not to its crop; the initial image may leave [0, 1], as in the official code.
        prior = self.prior[batch.index].requires_grad_()
        with torch.enable_grad():
            logits = self.target(batch.images + prior)
            loss = smoothed_cross_entropy(logits, batch.labels, self.settings.true_class)
            (gradient,) = torch.autograd.grad(loss, prior, retain_graph=True)
        final = (prior.detach() + eps * gradient.sign()).clamp(-eps, eps)
        return Priors(logits, (batch.images + final).clamp(0, 1), gradient)

    def losses(self, batch: Batch, perturbed: Priors) -> dict[str, Tensor]:
        final = at_least_float32(self.target(perturbed.final))
        initial = at_least_float32(perturbed.initial_logits)
        classes = classes_of(batch.labels)
        self.right_initially.copy_((initial.argmax(1) == classes).sum())
        self.right_finally.copy_((final.argmax(1) == classes).sum())
        cross_entropy = smoothed_cross_entropy(final, batch.labels, self.settings.true_class)
        return {"cross_entropy": cross_entropy, **self.regularisers(batch, initial, final)}

    def attacked(self, perturbed: Priors) -> Tensor:
        return perturbed.final

    def regularisers(self, batch: Batch, initial: Tensor, final: Tensor) -> dict[str, Tensor]:
        """The weighted terms that tie the final output to the initial one; logits (N, K), neither detached."""
        return {"mean_squared_error": self.settings.weight * functional.mse_loss(final, initial)}

    def after_step(self, batch: Batch, perturbed: Priors) -> None:
        """m ← μ m + (2 − acc_final/acc_initial) · g/‖g‖₁;  prior ← clip(prior + eps · sign m).

        Clipped to the ball, and so that this crop with it stays in [0, 1], as the official script stores it.
        """
        eps = self.threat.eps
        gain = 2 - self._ratio()
        direction = perturbed.gradient / perturbed.gradient.abs().sum().clamp_min(1e-30)
        velocity = self.settings.momentum * self.velocity[batch.index] + gain * direction
        self.velocity[batch.index] = velocity
        prior = (self.prior[batch.index] + eps * velocity.sign()).clamp(-eps, eps)
        self.prior[batch.index] = torch.clamp(prior, -batch.images, 1 - batch.images)

    def averaging_decay(self, step: int, decay: float) -> float | Tensor:
        """The schedule's decay while the final accuracy lags behind the initial one, nearly 1 otherwise; warmed up."""
        ratio, threshold = self._ratio(), self.settings.ema_threshold
        slow = (0.99999 * ratio / threshold).clamp_max(1.0)
        return torch.where(ratio < threshold, decay, slow).clamp_max((step + 1) / (step + 10))

    def phase(self, batch: Batch) -> int:
        """The round that `_reset` begins; −1 where it does nothing."""
        round_, epoch = divmod(batch.epoch, self.settings.reset_epochs)
        return -1 if epoch and not self.task.extra else round_

    def _ratio(self) -> Tensor:
        """Accuracy at the final images over accuracy at the initial ones, of the last step; 1 where none was right."""
        return torch.where(
            self.right_initially > 0,
            self.right_finally / self.right_initially.clamp_min(1),
            torch.ones_like(self.right_finally),
        )

    def _reset(self, batch: Batch) -> None:
        """Corners ±eps and no momentum for the images that this round of `reset_epochs` epochs shows for the first time."""
        round_ = self.phase(batch)
        if round_ < 0:
            return
        index, shape = batch.index, self.task.shape
        first = (self.round[index] != round_).view(-1, 1, 1, 1)
        corners = self.threat.eps * (torch.rand(len(index), *shape, device=self.prior.device) - 0.5).sign()
        self.prior[index] = torch.where(first, corners, self.prior[index])
        self.velocity[index] = self.velocity[index] * ~first
        self.round.index_fill_(0, index, round_)
