"""The signed-gradient ascent that the multi-step methods share; each brings its start and its objective."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from pipeline.attacks.threat import Threat, project

#: The step of TRADES, LBGAT and D²R as a share of their eps: 0.007 at 0.031.
TRADES_STEP = 0.007 / 0.031


def signed_ascent(
    start: Tensor,
    clean: Tensor,
    objective: Callable[[Tensor], Tensor],
    *,
    threat: Threat,
    steps: int,
    relative_step: float,
) -> Tensor:
    """Steps of `relative_step` · eps along the sign of the objective's gradient, projected after each.

    `objective` maps images (N, C, H, W) to a scalar that is to grow. Only images get gradients. Returns a detached
    tensor.
    """
    images = start.detach()
    for _ in range(steps):
        images.requires_grad_()
        with torch.enable_grad():
            (gradient,) = torch.autograd.grad(objective(images), images)
        images = project(images.detach() + relative_step * threat.eps * gradient.sign(), clean, threat)
    return images.detach()


def gaussian_start(images: Tensor, scale: float = 0.001) -> Tensor:
    """x + 0.001 · randn, not clipped: the start of TRADES, LBGAT and D²R."""
    return images + scale * torch.randn_like(images)


def uniform_start(images: Tensor, threat: Threat) -> Tensor:
    """A uniform draw from the ball around x, inside [0, 1]: the start of PGD-AT."""
    return project(images + threat.eps * (2 * torch.rand_like(images) - 1), images, threat)
