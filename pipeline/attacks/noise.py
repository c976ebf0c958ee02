"""Uniform random noise in the ball: the floor that every attack has to beat."""

from __future__ import annotations

import torch
from torch import Tensor

from pipeline.attacks.pgd import Model, margin
from pipeline.attacks.starts import uniform_start
from pipeline.attacks.threat import Threat


@torch.no_grad()
def noise(
    model: Model, images: Tensor, labels: Tensor, *, threat: Threat, seed: int, index: Tensor, draws: int = 10
) -> Tensor:
    """Of several uniform draws from the ball, the one with the smallest margin.

    Parameters: `model` maps images (N, C, H, W) in [0, 1] to logits (N, K), in eval mode; `labels` (N,); `seed` and
    `index` (N,), each image's row in its split, decide the draws, which are PGD's starts; `draws` at least 1. Returns
    images inside the ball and [0, 1].
    """
    best, smallest = images.clone(), torch.full((len(images),), torch.inf, device=images.device)
    for draw in range(draws):
        drawn = uniform_start(images, threat, seed=seed, index=index, restart=draw)
        reached = margin(model(drawn), labels).to(smallest)
        better = reached < smallest
        smallest = torch.where(better, reached, smallest)
        best = torch.where(better[:, None, None, None], drawn, best)
    return best
