"""The fast gradient sign method (Goodfellow et al. 2015, arXiv 1412.6572), and its like in the other norms."""

from __future__ import annotations

import torch
from torch import Tensor

from pipeline.attacks.pgd import Model, Objective, cross_entropy
from pipeline.attacks.threat import Threat, project, steepest


def fgsm(
    model: Model, images: Tensor, labels: Tensor, *, threat: Threat, objective: Objective = cross_entropy
) -> Tensor:
    """One step of size eps from the clean image along the steepest direction of the threat's norm.

    Parameters: `model` maps images (N, C, H, W) in [0, 1] to logits (N, K), in eval mode; `labels` (N,); `objective`
    is what grows, (logits, labels) to (N,). Returns images inside the ball and [0, 1].
    """
    point = images.detach().requires_grad_()
    with torch.enable_grad():
        (gradient,) = torch.autograd.grad(objective(model(point), labels).sum(), point)
    images = images.detach()
    return project(images + threat.eps * steepest(gradient, images, threat), images, threat)
