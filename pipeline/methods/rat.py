"""RAT: randomised adversarial training by Taylor expansion, on TRADES (Jin et al. 2023, arXiv 2303.10653)."""

from __future__ import annotations

from collections.abc import Generator
from contextlib import contextmanager
from typing import Any, ClassVar

import torch
from pydantic import Field
from torch import Tensor, nn
from torch.nn import functional

from pipeline.attacks.ascent import gaussian_start
from pipeline.attacks.divergence import at_least_float32, kl_divergence, log_softmax
from pipeline.methods.method import Batch, Method, classes_of, crafting, last_linear
from pipeline.methods.trades import divergence_ascent
from pipeline.params import Section
from pipeline.params.defaults import COMMON_SCHEDULE


class RAT(Method):
    """(1 − α) CE(f(x), y) + ½ α [T₁(x') + T₁(x)] + ¼ α [T₂(x') + T₂(x)] + β KL(p(x)‖p(x')).

    Weights with noise on them smooth the loss; the noise's first two Taylor terms are trained on in its place (ineq. 8 and
    appendix D). T(x) = KL(q_y‖p(x)), with a distribution q_y for each class: 2/K on the class itself, the rest over the
    others in proportion to the gap of class-wise gradients. The gradient of class c is g_c = Σ_d ∂CE/∂W_cd of the last
    layer; the gap is |g(x)| − |g(x')| for T₁(x'), its negative for T₁(x), and g(x')² − g(x)² in both T₂; each is moved
    to a least value of 0. The q_y are constants. x' is TRADES' against a copy whose convolutions have 10⁻⁴ · randn added.

    As in the official code: T₂(x') there has the same gap as T₂(x), the negative of what T₁ would suggest.
    """

    name = "rat"
    title = "RAT (TRADES)"
    paper = "Jin et al. 2023, arXiv 2303.10653"
    #: The class-wise gradients end at the last layer.
    passes = (13, 12)
    paper_schedule: ClassVar[dict[str, Any]] = {**COMMON_SCHEDULE, "epochs": 200, "milestones": [99 / 200, 149 / 200]}

    class Settings(Section):
        alpha: float = Field(default=0.2, ge=0, le=1, description="α, share of the Taylor terms")
        beta: float = Field(default=6.0, ge=0, le=1e6, description="β, weight of KL(p(x)‖p(x')), summed over classes")
        weight_noise: float = Field(
            default=1e-4, ge=0, le=1, description="standard deviation of the noise on convolutions while crafting"
        )
        steps: int = Field(default=10, ge=1, le=100_000, description="steps of the training attack")
        relative_step: float = Field(default=0.25, gt=0, le=1e3, description="step size as a share of eps")

    def perturb(self, batch: Batch) -> Tensor:
        with noisy_convolutions(self.target, self.settings.weight_noise), crafting(self.target):
            return divergence_ascent(
                self.target,
                self.target(batch.images).detach(),
                batch,
                self.threat,
                start=gaussian_start(batch.images),
                steps=self.settings.steps,
                relative_step=self.settings.relative_step,
            )

    def losses(self, batch: Batch, perturbed: Tensor) -> dict[str, Tensor]:
        last, classes, alpha = last_linear(self.target), classes_of(batch.labels), self.settings.alpha
        clean = at_least_float32(self.target(batch.images))
        adversarial = at_least_float32(self.target(perturbed))
        labelled = functional.cross_entropy(clean, batch.labels)
        natural = class_gradients(labelled, last)
        attacked = class_gradients(functional.cross_entropy(adversarial, batch.labels), last)
        first, second = natural.abs() - attacked.abs(), attacked.square() - natural.square()

        def term(logits: Tensor, gap: Tensor) -> Tensor:
            return target_divergence(targets(gap)[classes], logits)

        return {
            "cross_entropy": (1 - alpha) * labelled,
            "first_order": alpha / 2 * (term(adversarial, first) + term(clean, -first)),
            "second_order": alpha / 4 * (term(adversarial, second) + term(clean, second)),
            "adversarial_kl": self.settings.beta * kl_divergence(clean, adversarial),
        }


@contextmanager
def noisy_convolutions(network: nn.Module, deviation: float) -> Generator[None]:
    """Convolutions with deviation · randn added to their weights; each gets its own weights back, bit for bit.

    Autocast keeps the weights that it has cast, and these move: it is made to forget them twice.
    """
    weights = [weight for weight in network.parameters() if weight.dim() == 4]
    kept = [weight.detach().clone() for weight in weights]
    try:
        with torch.no_grad():
            for weight in weights:
                weight.add_(deviation * torch.randn_like(weight))
        torch.clear_autocast_cache()
        yield
    finally:
        with torch.no_grad():
            for weight, value in zip(weights, kept, strict=True):
                weight.copy_(value)
        torch.clear_autocast_cache()


def class_gradients(loss: Tensor, last: nn.Linear) -> Tensor:
    """g (K,): the gradient of the loss in the last layer's weights (K, D), summed over D; constant."""
    (gradient,) = torch.autograd.grad(loss, last.weight, retain_graph=True)
    return at_least_float32(gradient).sum(dim=1)


def targets(gap: Tensor) -> Tensor:
    """q (K, K): row y is the distribution for class y, 2/K on y and the rest in proportion to the gap (K,) elsewhere."""
    classes = len(gap)
    own = torch.eye(classes, dtype=torch.bool, device=gap.device)
    others = (gap - gap.amin()).expand(classes, classes).masked_fill(own, 0.0)
    shares = others / others.sum(dim=1, keepdim=True).clamp_min(torch.finfo(gap.dtype).tiny)
    return torch.where(own, 2 / classes, (1 - 2 / classes) * shares)


def target_divergence(q: Tensor, logits: Tensor) -> Tensor:
    """KL(q‖p) of distributions q (N, K), where 0 log 0 is 0, and the softmax p of logits; averaged over images."""
    return (torch.xlogy(q, q) - q * log_softmax(logits)).sum(dim=1).mean()
