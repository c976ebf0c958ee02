"""The attack that knows how a co-trained network was made: it uses the networks that it was trained with.

Three losses, each from random starts of its own. The first is what collaborative adversarial generation maximises in
training (Liu et al. 2025, arXiv 2506.07056, eq. 4): KL(p_companion(x) ‖ p_target(x')), summed over the companions. The
others attack the target and its companions as an ensemble: the sum of their margins, and of their cross-entropies. An
adversarial image that fools all is where a defence by disagreement has nothing to hold on to.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping

import torch
from torch import Tensor, nn

from bundle.errors import HallmarkError
from pipeline.attacks.ascent import Judged, ascend
from pipeline.attacks.pgd import Model, cross_entropy, margin
from pipeline.attacks.starts import uniform_start
from pipeline.attacks.threat import Threat
from pipeline.methods.divergence import kl_divergence


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


def _losses(model: Model, images: Tensor, labels: Tensor, companions: list[nn.Module]) -> list[Judged]:
    with torch.no_grad():
        references = [companion(images) for companion in companions]

    def divergence(points: Tensor) -> tuple[Tensor, Tensor]:
        logits = model(points)
        values = [kl_divergence(reference, logits, "none") for reference in references]
        return torch.stack(values).sum(dim=0), logits

    def ensemble(objective: Callable[[Tensor, Tensor], Tensor]) -> Judged:
        def loss(points: Tensor) -> tuple[Tensor, Tensor]:
            logits = model(points)
            others = [objective(companion(points), labels) for companion in companions]
            return torch.stack([objective(logits, labels), *others]).sum(dim=0), logits

        return loss

    return [divergence, ensemble(lambda logits, labels: -margin(logits, labels)), ensemble(cross_entropy)]
