"""Attacks that use further networks: those that were trained together with the attacked one, and others.

`adaptive` knows how a co-trained network was made and uses the networks that it was trained with. Three losses, each from
random starts of its own. The first is what collaborative adversarial generation maximises in training (Liu et al. 2025,
arXiv 2506.07056, eq. 4): KL(p_companion(x) ‖ p_target(x')), summed over the companions. The others attack the target and
its companions as an ensemble: the sum of their margins, and of their cross-entropies. An adversarial image that fools all
is where a defence by disagreement has nothing to hold on to.

`transfer` crafts images on another network and carries them over. The gradients are the other network's alone. Every
iterate is shown to the attacked network once, as an attacker with that many queries can (steps + 1 of them), and the one
on which it does worst is kept: never more robust than the same attack whose last image alone is carried over.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping

import torch
from torch import Tensor, nn

from bundle.errors import HallmarkError
from pipeline.attacks.ascent import Loss, ascent_step
from pipeline.attacks.divergence import kl_divergence
from pipeline.attacks.pgd import Model, cross_entropy, margin
from pipeline.attacks.threat import Threat, uniform_start


def adaptive(
    model: Model,
    images: Tensor,
    labels: Tensor,
    *,
    companions: Mapping[str, nn.Module],
    threat: Threat,
    seed: int,
    index: Tensor,
    steps: int = 50,
    restarts: int = 1,
    relative_step: float = 0.25,
) -> Tensor:
    """PGD on the divergence from the companions and on ensemble losses; the candidate with the target's smallest margin.

    Parameters
    ----------
    model : the attacked network, images (N, C, H, W) in [0, 1] to logits (N, K), in eval mode.
    images, labels : (N, C, H, W) float in [0, 1], and (N,).
    companions : the networks it was trained with, on the same images and classes, in eval mode; at least one.
    threat : the ball. seed, index : draw the starts, image by image; every loss has its own.
    steps, restarts, relative_step : of each loss; the step is a share of eps.

    Returns adversarial images (N, C, H, W) inside the ball and [0, 1]. Raises HallmarkError without companions.
    """
    if not companions:
        raise HallmarkError("the adaptive attack needs a network that was trained together with the attacked one")
    losses = _losses(model, images, labels, list(companions.values()))
    best, smallest = images, torch.full((len(images),), torch.inf, device=images.device)
    for number, loss in enumerate(loss for loss in losses for _ in range(restarts)):
        start = uniform_start(images, threat, seed=seed, index=index, restart=number)
        found, reached = ascend(loss, start, images, labels, threat=threat, steps=steps, relative_step=relative_step)
        better = reached < smallest
        smallest = torch.where(better, reached, smallest)
        best = torch.where(better[:, None, None, None], found, best)
    return best


def _losses(model: Model, images: Tensor, labels: Tensor, companions: list[nn.Module]) -> list[Loss]:
    with torch.no_grad():
        references = [companion(images) for companion in companions]

    def divergence(points: Tensor) -> tuple[Tensor, Tensor]:
        logits = model(points)
        values = [kl_divergence(reference, logits, "none") for reference in references]
        return torch.stack(values).sum(dim=0), logits

    def ensemble(objective: Callable[[Tensor, Tensor], Tensor]) -> Loss:
        def loss(points: Tensor) -> tuple[Tensor, Tensor]:
            logits = model(points)
            others = [objective(companion(points), labels) for companion in companions]
            return torch.stack([objective(logits, labels), *others]).sum(dim=0), logits

        return loss

    return [divergence, ensemble(lambda logits, labels: -margin(logits, labels)), ensemble(cross_entropy)]


def ascend(
    loss: Loss,
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
    for _ in range(steps + 1):
        moved, logits = ascent_step(loss, point, images, threat=threat, relative_step=relative_step)
        reached = margin(logits, labels).to(smallest)
        better = reached < smallest
        smallest = torch.where(better, reached, smallest)
        best = torch.where(better[:, None, None, None], point, best)
        point = moved
    return best, smallest


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
