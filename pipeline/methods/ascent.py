"""The projected steepest ascent that the multi-step methods share; each brings its start and its objective."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from bundle.threats import Norm
from pipeline.attacks.threat import Threat, project, steepest

#: The step of TRADES, LBGAT and D²R as a share of their eps: 0.007 at 0.031.
TRADES_STEP = 0.007 / 0.031


def steepest_ascent(
    start: Tensor,
    clean: Tensor,
    objective: Callable[[Tensor], Tensor],
    *,
    threat: Threat,
    steps: int,
    relative_step: float,
) -> Tensor:
    """Steps of `relative_step` · eps along the steepest direction of the threat's norm, projected after each.

    For l∞ that is the sign of the objective's gradient.

    `objective` maps images (N, C, H, W) to a scalar that is to grow. Only images get gradients. Returns a detached
    tensor.
    """
    images = start.detach()
    for _ in range(steps):
        images.requires_grad_()
        with torch.enable_grad():
            (gradient,) = torch.autograd.grad(objective(images), images)
        images = images.detach()
        images = project(images + relative_step * threat.eps * steepest(gradient, images, threat), clean, threat)
    return images.detach()


def gaussian_start(images: Tensor, scale: float = 0.001) -> Tensor:
    """x + 0.001 · randn, not clipped: the start of TRADES, LBGAT and D²R."""
    return images + scale * torch.randn_like(images)


def uniform_start(images: Tensor, threat: Threat) -> Tensor:
    """A uniform draw from the ball around x, projected on it and on [0, 1]: the start of PGD-AT."""
    return project(images + threat.eps * _unit_noise(images, threat.norm), images, threat)


def _unit_noise(images: Tensor, norm: Norm) -> Tensor:
    """A uniform draw from the ball of radius 1 around 0, of the images' shape.

    l2 and l1: a direction uniform on the sphere, at the distance U^(1/d) from its centre.
    """
    if norm == "linf":
        return 2 * torch.rand_like(images) - 1
    flat = torch.randn_like(images).flatten(1)
    if norm == "l1":
        # Exponential lengths with random signs: what the l1 sphere's uniform draw is made of.
        flat = flat.sign() * torch.empty_like(flat).exponential_()
    length = flat.norm(2 if norm == "l2" else 1, dim=1, keepdim=True)
    return (flat / length * torch.rand_like(length) ** (1 / flat.shape[1])).view_as(images)
