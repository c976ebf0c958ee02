"""The attacks that climb a loss inside the ball, and the floor below them.

* Projected gradient descent (Madry et al. 2018, arXiv 1706.06083) on cross-entropy or on the logit margin.
* PGD on the margin is what robust-training papers call "C&W" in a ball: the loss is that of Carlini and Wagner 2017
  (arXiv 1608.04644, f6 without its floor), the search is PGD's.
* The fast gradient sign method (Goodfellow et al. 2015, arXiv 1412.6572), and its like in the other norms.
* Uniform random noise in the ball: what every attack has to beat.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence

import torch
from torch import Tensor
from torch.nn import functional

from pipeline.attacks.ascent import Loss, ascent_step
from pipeline.attacks.threat import Threat, uniform_start

Model = Callable[[Tensor], Tensor]
Objective = Callable[[Tensor, Tensor], Tensor]


def cross_entropy(logits: Tensor, labels: Tensor) -> Tensor:
    """Cross-entropy of each image, (N,)."""
    return functional.cross_entropy(logits, labels, reduction="none")


def margin(logits: Tensor, labels: Tensor) -> Tensor:
    """The label's logit minus the largest other one, (N,): negative where the answer is wrong."""
    label = functional.one_hot(labels, logits.shape[1]).bool()
    return logits.gather(1, labels[:, None]).squeeze(1) - logits.masked_fill(label, -torch.inf).amax(dim=1)


def pgd(
    model: Model,
    images: Tensor,
    labels: Tensor,
    *,
    threat: Threat,
    seed: int,
    index: Tensor,
    steps: int = 50,
    restarts: int = 1,
    relative_step: float = 0.25,
    objective: Objective = cross_entropy,
) -> Tensor:
    """PGD with uniform random starts.

    Parameters
    ----------
    model : images (N, C, H, W) in [0, 1] to logits (N, K), in eval mode.
    images, labels : (N, C, H, W) float in [0, 1], and (N,).
    threat : the ball. seed, index : draw the starts, image by image.
    steps, restarts : iterations of a start, and starts.
    relative_step : step size as a share of eps; 0.25 is 2/255 at 8/255.
    objective : what is maximised, (logits, labels) to (N,).

    Returns
    -------
    Adversarial images (N, C, H, W) inside the ball and [0, 1]: of all iterates the one with the smallest margin, so
    that an image which any iterate broke is broken in the result.
    """
    for _, adversarial in trajectory(
        model,
        images,
        labels,
        threat=threat,
        seed=seed,
        index=index,
        steps=(steps,),
        restarts=restarts,
        relative_step=relative_step,
        objective=objective,
    ):
        images = adversarial
    return images


def trajectory(
    model: Model,
    images: Tensor,
    labels: Tensor,
    *,
    threat: Threat,
    seed: int,
    index: Tensor,
    steps: Sequence[int],
    restarts: int = 1,
    relative_step: float = 0.25,
    objective: Objective = cross_entropy,
) -> Iterator[tuple[int, Tensor]]:
    """The best images after each of several numbers of steps, all on one trajectory, so that more steps never lose.

    Yields (steps, adversarial images) in ascending order; the parameters are pgd's.
    """
    points = [uniform_start(images, threat, seed=seed, index=index, restart=restart) for restart in range(restarts)]
    best, smallest = images.clone(), torch.full((len(images),), torch.inf, device=images.device)
    for step in range(max(steps) + 1):
        for restart, point in enumerate(points):
            loss = _loss(model, labels, objective)
            point, logits = ascent_step(loss, point, images, threat=threat, relative_step=relative_step)
            reached = margin(logits, labels).to(smallest)
            better = reached < smallest
            smallest = torch.where(better, reached, smallest)
            best = torch.where(better[:, None, None, None], points[restart], best)
            points[restart] = point
        if step in steps:
            yield step, best


def steps_to_break(
    model: Model,
    images: Tensor,
    labels: Tensor,
    *,
    threat: Threat,
    seed: int,
    index: Tensor,
    steps: int,
    restarts: int = 1,
    relative_step: float = 0.25,
    objective: Objective = cross_entropy,
) -> Tensor:
    """After how many steps an iterate is first answered wrong, (N,): 0 is the random start, steps + 1 none.

    The iterates are trajectory's, so that an image is right under PGD-k where its number is above k. A broken image
    leaves the batch: a verdict that is known costs no more passes. The parameters are pgd's.
    """
    found = torch.full((len(images),), steps + 1, dtype=torch.int64, device=images.device)
    for restart in range(restarts):
        rows = torch.arange(len(images), device=images.device)
        point = uniform_start(images, threat, seed=seed, index=index, restart=restart)
        for step in range(steps + 1):
            rows, point = rows[standing := found[rows] > step], point[standing]  # another start may have been quicker
            if not len(rows):
                break
            loss = _loss(model, labels[rows], objective)
            moved, logits = ascent_step(loss, point, images[rows], threat=threat, relative_step=relative_step)
            wrong = logits.argmax(1) != labels[rows]
            found[rows[wrong]] = step
            rows, point = rows[~wrong], moved[~wrong]
    return found


def _loss(model: Model, labels: Tensor, objective: Objective) -> Loss:
    def loss(points: Tensor) -> tuple[Tensor, Tensor]:
        logits = model(points)
        return objective(logits, labels), logits

    return loss


def margin_pgd(
    model: Model,
    images: Tensor,
    labels: Tensor,
    *,
    threat: Threat,
    seed: int,
    index: Tensor,
    steps: int = 50,
    restarts: int = 1,
    relative_step: float = 0.25,
) -> Tensor:
    """PGD that maximises the largest other logit minus the label's; parameters and result as pipeline.attacks.pgd.pgd."""
    return pgd(
        model,
        images,
        labels,
        threat=threat,
        seed=seed,
        index=index,
        steps=steps,
        restarts=restarts,
        relative_step=relative_step,
        objective=lambda logits, labels: -margin(logits, labels),
    )


def fgsm(
    model: Model, images: Tensor, labels: Tensor, *, threat: Threat, objective: Objective = cross_entropy
) -> Tensor:
    """One step of size eps from the clean image along the steepest direction of the threat's norm.

    Parameters: `model` maps images (N, C, H, W) in [0, 1] to logits (N, K), in eval mode; `labels` (N,); `objective`
    is what grows, (logits, labels) to (N,). Returns images inside the ball and [0, 1].
    """
    return ascent_step(_loss(model, labels, objective), images, images.detach(), threat=threat, relative_step=1.0)[0]


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
