"""GradAlign: gradients that agree within the ball keep FGSM training from collapsing (Andriushchenko and Flammarion
2020, arXiv 2007.02617)."""

from __future__ import annotations

from typing import Any, ClassVar, NamedTuple

import torch
from pydantic import Field
from torch import Tensor
from torch.nn import functional

from pipeline.attacks.divergence import at_least_float32
from pipeline.methods.fgsm_rs import CYCLIC, gradient_at
from pipeline.methods.method import Batch, Method
from pipeline.params import Section


class Aligned(NamedTuple):
    """FGSM's images, the gradient ∇ℓ(x) at the clean ones that made them, and x + η; all (N, C, H, W) and constant."""

    images: Tensor
    gradient: Tensor
    noisy: Tensor


class GradAlign(Method):
    """CE(f(x + δ), y) + λ · (1 − mean cos(∇ℓ(x), ∇ℓ(x + η))), δ = ε · sign ∇ℓ(x), η uniform in ±ε (eq. 6).

    ℓ is CE(f(·), y). The regulariser is differentiated through ∇ℓ(x + η), which takes a second derivative, and not
    through ∇ℓ(x), as in the official code; images where either gradient vanishes are left out of the mean. BatchNorm is
    in train mode throughout. With `train.compile` torch cannot differentiate twice: leave it off. λ = 0.2 is the
    paper's at ε = 8/255, where it grows by a factor of ten with every 8/255 of ε.
    """

    name = "grad_align"
    title = "GradAlign"
    paper = "Andriushchenko and Flammarion 2020, arXiv 2007.02617"
    #: The second derivative is a fourth backward pass.
    passes = (3, 4)
    crafting_mode = "train"
    trains_in = ("linf",)
    paper_schedule: ClassVar[dict[str, Any]] = {**CYCLIC, "epochs": 30, "lr": 0.3}

    class Settings(Section):
        weight: float = Field(default=0.2, ge=0, le=1e6, description="λ, weight of one minus the gradients' cosine")

    def perturb(self, batch: Batch) -> Aligned:
        eps = self.threat.eps
        gradient = gradient_at(self.target, batch.images, batch.labels)
        images = (batch.images + eps * gradient.sign()).clamp(0, 1)
        return Aligned(images, gradient, batch.images + eps * (2 * torch.rand_like(batch.images) - 1))

    def losses(self, batch: Batch, perturbed: Aligned) -> dict[str, Tensor]:
        adversarial = at_least_float32(self.target(perturbed.images))
        return {
            "cross_entropy": functional.cross_entropy(adversarial, batch.labels),
            "alignment": self.settings.weight
            * (1 - mean_cosine(perturbed.gradient, self._gradient(perturbed.noisy, batch))),
        }

    def attacked(self, perturbed: Aligned) -> Tensor:
        return perturbed.images

    def _gradient(self, images: Tensor, batch: Batch) -> Tensor:
        """∇ℓ at these images, (N, C, H, W), with its graph."""
        images = images.detach().requires_grad_()
        with torch.enable_grad():
            loss = functional.cross_entropy(at_least_float32(self.target(images)), batch.labels, reduction="sum")
            (gradient,) = torch.autograd.grad(loss, images, create_graph=True)
        return gradient


def mean_cosine(first: Tensor, second: Tensor) -> Tensor:
    """The cosine between two tensors (N, …), image by image, averaged over the images where neither is zero."""
    one, other = at_least_float32(first).flatten(1), at_least_float32(second).flatten(1)
    there = (one != 0).any(dim=1) & (other != 0).any(dim=1)
    # A root of zero has no derivative: what is left out is put aside before the norms, not after them.
    one, other = (torch.where(there[:, None], values, 1.0) for values in (one, other))
    cosine = (one * other).sum(dim=1) / (one.norm(dim=1) * other.norm(dim=1))
    return (cosine * there).sum() / there.sum().clamp_min(1)
