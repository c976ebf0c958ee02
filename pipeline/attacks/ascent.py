"""Projected ascent on any loss of the images, judged by the network that is attacked."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from pipeline.attacks.pgd import margin
from pipeline.attacks.threat import Threat, project, steepest

#: Images (N, C, H, W) to what grows, (N,), and the attacked network's logits there, (N, K).
Judged = Callable[[Tensor], tuple[Tensor, Tensor]]


def ascend(
    loss: Judged,
    start: Tensor,
    images: Tensor,
    labels: Tensor,
    *,
    threat: Threat,
    steps: int,
    relative_step: float = 0.25,
) -> tuple[Tensor, Tensor]:
    """PGD's steps up a loss from `start`, and of all iterates, both ends included, the one with the smallest margin.

    Parameters: `images` (N, C, H, W) in [0, 1] are the centres of the balls, `start` lies in them; `relative_step` is a
    share of eps. Returns images inside the ball and [0, 1], and their margins (N,) under the attacked network.
    """
    point, best = start, start
    smallest = torch.full((len(images),), torch.inf, device=images.device)
    for step in range(steps + 1):
        point = point.detach().requires_grad_()
        with torch.enable_grad():
            values, logits = loss(point)
            gradient = torch.autograd.grad(values.sum(), point)[0] if step < steps else None
        point = point.detach()
        reached = margin(logits.detach(), labels).to(smallest)
        better = reached < smallest
        smallest = torch.where(better, reached, smallest)
        best = torch.where(better[:, None, None, None], point, best)
        if gradient is not None:
            moved = point + relative_step * threat.eps * steepest(gradient, point, threat)
            point = project(moved, images, threat)
    return best, smallest
