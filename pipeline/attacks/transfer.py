"""Transfer: adversarial images that are crafted on another network and carried over to the one that is attacked.

The gradients are the other network's alone. Every iterate is shown to the attacked network once, as an attacker with
that many queries can (steps + 1 of them), and the one on which it does worst is kept: never more robust than the same
attack whose last image alone is carried over.
"""

from __future__ import annotations

import torch
from torch import Tensor

from pipeline.attacks.ascent import ascend
from pipeline.attacks.pgd import Model, margin
from pipeline.attacks.starts import uniform_start
from pipeline.attacks.threat import Threat


def transfer(
    model: Model,
    images: Tensor,
    labels: Tensor,
    *,
    source: Model,
    threat: Threat,
    seed: int,
    index: Tensor,
    steps: int = 50,
    relative_step: float = 0.25,
) -> Tensor:
    """PGD on the margin of `source`; of its iterates the one with the smallest margin under `model`.

    Parameters
    ----------
    model : the attacked network, images (N, C, H, W) in [0, 1] to logits (N, K), in eval mode; asked, not differentiated.
    images, labels : (N, C, H, W) float in [0, 1], and (N,).
    source : the network whose gradients are used, on the same images and classes, in eval mode.
    threat : the ball. seed, index : draw the starts, image by image.
    steps, relative_step : iterations, and their size as a share of eps.

    Returns adversarial images (N, C, H, W) inside the ball and [0, 1].
    """

    def loss(points: Tensor) -> tuple[Tensor, Tensor]:
        with torch.no_grad():
            answers = model(points)
        return -margin(source(points), labels), answers

    start = uniform_start(images, threat, seed=seed, index=index)
    return ascend(loss, start, images, labels, threat=threat, steps=steps, relative_step=relative_step)[0]
