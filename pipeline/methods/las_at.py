"""LAS-AT: adversarial training with a learnable attack strategy (Jia et al. 2022, arXiv 2203.06616)."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, ClassVar, NamedTuple

import torch
from pydantic import Field
from torch import Tensor, nn
from torch.nn import functional

from pipeline.attacks.ascent import ascent_step, image_gradient, random_start
from pipeline.attacks.divergence import at_least_float32, smoothed_cross_entropy
from pipeline.methods.method import Batch, Method, Task, classes_of, crafting, last_linear
from pipeline.methods.pgd_at import cross_entropy_loss
from pipeline.params import Section
from pipeline.params.defaults import COMMON_SCHEDULE

#: What the strategy chooses from, for ε = 8/255: radius and step size in 255ths, and how many steps.
RADII = range(3, 16)
STEPS = range(3, 15)
SIZES = range(1, 6)
#: The radius that those numbers are made for, in 255ths; at another ε radius and step size grow with it.
REFERENCE = 8.0


class Chosen(NamedTuple):
    """Adversarial images (N, C, H, W), and the choices (3, N) that made them: radius, steps, step size."""

    images: Tensor
    choices: Tensor


class LASAT(Method):
    """LSCE(f(x'), y), x' from PGD with a radius, a number of steps and a step size that a strategy network draws by image.

    The strategy π, a second network of the target's architecture with three softmax heads, is what an attacker would
    be: every `interval` steps it moves up E_a∼π [R(a)], the gradient being −R · Σ_heads mean_i log π(a_i | x_i)
    (REINFORCE), R = R₁ + R₂ + R₃. R₁ is CE(f(x'), y) before the target's step, at most 10; R₂ = 4 · the share of images
    that are right under PGD-10 with two starts after it; R₃ = 2 · the share that are right when clean after it.

    One thing differs from the official code: it tries the step on a copy of the target, with choices drawn anew, and
    here R is that of the choices and of the step that training has just made, momentum included. Gradients are clipped
    to a norm of 1; the strategy has its own plain SGD. Radii up to 15/8 of ε are the method: images leave the ball.
    """

    name = "las_at"
    title = "LAS-AT"
    paper = "Jia et al. 2022, arXiv 2203.06616"
    #: The strategy's own step, a twentieth of 22 passes and fewer, is left out.
    passes = (16, 15)
    smooths_labels = True
    trains_in = ("linf",)
    paper_schedule: ClassVar[dict[str, Any]] = {**COMMON_SCHEDULE, "milestones": [99 / 110, 104 / 110]}

    class Settings(Section):
        true_class: float = Field(
            default=0.7, gt=0, le=1, description="weight of the label in the smoothed cross-entropy"
        )
        interval: int = Field(default=20, ge=1, le=100_000, description="the strategy learns once in so many steps")
        strategy_lr: float = Field(default=1e-4, ge=0, le=1e3, description="learning rate of the strategy's SGD")
        robust_reward: float = Field(default=4.0, ge=0, le=1e3, description="R₂'s weight of the robust accuracy")
        clean_reward: float = Field(default=2.0, ge=0, le=1e3, description="R₃'s weight of the clean accuracy")

    def __init__(self, settings: Any, task: Task, build: Callable[[str], nn.Module]) -> None:
        super().__init__(settings, task, build)
        self.strategy = build("target")
        last = last_linear(self.strategy)
        head = nn.Linear(last.in_features, sum(map(len, (RADII, STEPS, SIZES))))
        last.weight, last.bias, last.out_features = head.weight, head.bias, head.out_features
        self.register_buffer("reward", torch.zeros(()))
        self.reward: Tensor

    def companions(self) -> dict[str, nn.Module]:
        """None: the strategy classifies nothing."""
        return {}

    def trained(self) -> list[nn.Parameter]:
        """The target's: the strategy is moved in `after_step`."""
        return list(self.target.parameters())

    def perturb(self, batch: Batch) -> Chosen:
        with crafting(self.strategy, self.target):
            choices = torch.stack([drawn(logits) for logits in self._heads(batch.images)])
            return Chosen(self._attack(batch, choices), choices)

    def losses(self, batch: Batch, perturbed: Chosen) -> dict[str, Tensor]:
        logits = at_least_float32(self.target(perturbed.images))
        self.reward.copy_(functional.cross_entropy(logits.detach(), batch.labels).clamp(0, 10))
        return {"cross_entropy": smoothed_cross_entropy(logits, batch.labels, self.settings.true_class)}

    def attacked(self, perturbed: Chosen) -> Tensor:
        return perturbed.images

    def after_step(self, batch: Batch, perturbed: Chosen) -> None:
        """Every `interval` steps the strategy learns what its choices were worth."""
        if (batch.step + 1) % self.settings.interval:
            return
        reward = self.reward + self._accuracies(batch)
        chosen = zip(self._heads(batch.images), perturbed.choices, strict=True)
        loss = reward * torch.stack([functional.cross_entropy(logits, choice) for logits, choice in chosen]).sum()
        weights = list(self.strategy.parameters())
        gradients = torch.autograd.grad(loss, weights)
        norm = torch.stack([gradient.norm() for gradient in gradients]).norm()
        rate = self.settings.strategy_lr * (1 / (norm + 1e-6)).clamp_max(1)
        with torch.no_grad():
            for weight, gradient in zip(weights, gradients, strict=True):
                weight.sub_(rate * gradient)

    def _heads(self, images: Tensor) -> tuple[Tensor, ...]:
        """The logits of radius (N, 13), steps (N, 12) and step size (N, 5)."""
        return at_least_float32(self.strategy(images)).split([len(RADII), len(STEPS), len(SIZES)], dim=1)

    def _attack(self, batch: Batch, choices: Tensor) -> Tensor:
        """PGD on CE with each image's own radius, steps and step size, all of the same length: later steps move less."""
        unit = self.threat.eps / REFERENCE
        # Whole numbers in a row: the first one and the choice make the value, without a table on the device.
        radius, steps, size = (
            (values[0] + choice).view(-1, 1, 1, 1)
            for values, choice in zip((RADII, STEPS, SIZES), choices, strict=True)
        )
        lower, upper = (batch.images - unit * radius).clamp_min(0), (batch.images + unit * radius).clamp_max(1)
        point = random_start(batch.images, self.threat)
        for step in range(max(STEPS)):
            gradient, _ = image_gradient(cross_entropy_loss(self.target, batch.labels), point)
            moved = torch.minimum(torch.maximum(point + unit * size * gradient.sign(), lower), upper)
            point = torch.where(step < steps, moved, torch.minimum(torch.maximum(point, lower), upper))
        return point

    def _accuracies(self, batch: Batch) -> Tensor:
        """R₂ + R₃ of the target as it is now, (): in eval mode, PGD-10 at 2/8 of ε stopping where an image is wrong."""
        classes = classes_of(batch.labels)

        loss = cross_entropy_loss(self.target, batch.labels)
        with crafting(self.target):
            clean = self.target(batch.images).argmax(1) == classes
            robust = torch.ones_like(clean)
            for _ in range(2):
                point = random_start(batch.images, self.threat)
                for _ in range(10):
                    point, logits = ascent_step(loss, point, batch.images, threat=self.threat, relative_step=0.25)
                    robust = robust & (logits.argmax(1) == classes)
                robust = robust & (self.target(point).argmax(1) == classes)
        share = self.settings.robust_reward * robust + self.settings.clean_reward * clean
        return at_least_float32(share).mean()


def drawn(logits: Tensor) -> Tensor:
    """A class (N,) of each softmax distribution (N, K): the smallest of exponential times over probabilities is its draw."""
    return (logits - torch.empty_like(logits).exponential_().log()).argmax(dim=1)
