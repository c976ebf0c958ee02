"""Projected steepest ascent: the one step that attacks and methods share, and the starts that training draws."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from bundle.table.threats import Norm
from pipeline.attacks.threat import Threat, project, steepest

#: Images (N, C, H, W) to what grows, (N,) or a scalar, and what else the caller wants of that pass: mostly logits (N, K).
Loss = Callable[[Tensor], tuple[Tensor, Tensor]]
#: The step of TRADES, LBGAT and D²R as a share of their eps: 0.007 at 0.031.
TRADES_STEP = 0.007 / 0.031


def ascent_step(
    loss: Loss, point: Tensor, images: Tensor, *, threat: Threat, relative_step: float
) -> tuple[Tensor, Tensor]:
    """A step of `relative_step` · eps along the steepest direction of the threat's norm, projected on the ball.

    Parameters: `point` (N, C, H, W), where the step begins; `images`, the centres of the balls, in [0, 1]. For l∞ the
    direction is the sign of the gradient. Only images get gradients. Returns the next point, and the second value of
    `loss` at this one, both detached.
    """
    gradient, seen = image_gradient(loss, point)
    return stepped(point.detach(), gradient, images, threat=threat, relative_step=relative_step), seen


def image_gradient(loss: Loss, point: Tensor) -> tuple[Tensor, Tensor]:
    """The gradient of the loss's sum by the images (N, C, H, W), and the loss's second value; both detached."""
    point = point.detach().requires_grad_()
    with torch.enable_grad():
        values, seen = loss(point)
        (gradient,) = torch.autograd.grad(values.sum(), point)
    return gradient, seen.detach()


def stepped(point: Tensor, gradient: Tensor, images: Tensor, *, threat: Threat, relative_step: float) -> Tensor:
    """`point` moved by `relative_step` · eps along the steepest direction, projected on the ball around `images`."""
    return project(point + relative_step * threat.eps * steepest(gradient, point, threat), images, threat)


def steepest_ascent(
    start: Tensor,
    clean: Tensor,
    objective: Callable[[Tensor], Tensor],
    *,
    threat: Threat,
    steps: int,
    relative_step: float,
) -> Tensor:
    """The multi-step methods' inner loop: `steps` steps up an objective, each of them projected; the last point counts.

    `objective` maps images (N, C, H, W) to a scalar that is to grow. Returns a detached tensor.
    """

    def loss(points: Tensor) -> tuple[Tensor, Tensor]:
        value = objective(points)
        return value, value

    images = start.detach()
    for _ in range(steps):
        images, _ = ascent_step(loss, images, clean, threat=threat, relative_step=relative_step)
    return images


def gaussian_start(images: Tensor, scale: float = 0.001) -> Tensor:
    """x + 0.001 · randn, not clipped: the start of TRADES, LBGAT and D²R."""
    return images + scale * torch.randn_like(images)


def random_start(images: Tensor, threat: Threat) -> Tensor:
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
