"""Kullback-Leibler divergence in the mathematical order, so that no method depends on torch's argument order.

The projected steepest ascent that the multi-step methods share; each brings its start and its objective.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Literal

import torch
from torch import Tensor
from torch.nn import functional

from bundle.table.threats import Norm
from pipeline.attacks.threat import Threat, project, steepest

Reduction = Literal["batchmean", "element", "sum", "none"]


def kl_divergence(p_logits: Tensor, q_logits: Tensor, reduction: Reduction = "batchmean") -> Tensor:
    """KL(p‖q) = Σ p · (log p − log q) of two softmax distributions, computed from log-softmax in at least float32.

    Parameters: logits (N, K) each. `reduction`: `batchmean` sums over classes and averages over images, `element`
    averages over both (D²R's code), `sum` sums over both, `none` gives one value an image, (N,).
    """
    log_p, log_q = log_softmax(p_logits), log_softmax(q_logits)
    values = (log_p.exp() * (log_p - log_q)).sum(dim=1)
    match reduction:
        case "batchmean":
            return values.mean()
        case "element":
            return values.mean() / p_logits.shape[1]
        case "sum":
            return values.sum()
        case "none":
            return values


def at_least_float32(logits: Tensor) -> Tensor:
    """The same values in float32, or in float64 where they are: losses are not computed in bf16."""
    return logits.to(torch.promote_types(logits.dtype, torch.float32))


def log_softmax(logits: Tensor) -> Tensor:
    """Log-probabilities (N, K) in float32, or float64 where the logits are."""
    return functional.log_softmax(at_least_float32(logits), dim=1)


def smoothed_cross_entropy(logits: Tensor, labels: Tensor, true_class: float) -> Tensor:
    """Cross-entropy with weight `true_class` on the label and the rest shared equally by the other classes.

    `labels`: classes (N,), or distributions (N, K), of which every class is smoothed so. Not torch's label smoothing,
    which gives the label a part of the shared rest as well.
    """
    log_p = log_softmax(logits)
    others = (1 - true_class) / (logits.shape[1] - 1)
    label = log_p.gather(1, labels[:, None]).squeeze(1) if labels.dim() == 1 else (labels * log_p).sum(dim=1)
    return -(true_class * label + others * (log_p.sum(dim=1) - label)).mean()


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
