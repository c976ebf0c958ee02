"""The l2 attack of Carlini and Wagner (2017, arXiv 1608.04644): the smallest perturbation that it can find.

In the variable w with x' = (tanh(w) + 1)/2, which keeps [0, 1], Adam minimises ‖x' − x‖² + c · max(z_y − max z_k, 0)
(their loss f6 with confidence 0); a binary search over c, image by image, looks for the smallest that still succeeds.
Everything, early ends too, is decided image by image, so that none depends on its batch.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from bundle.errors import HallmarkError
from pipeline.attacks.pgd import Model, margin
from pipeline.attacks.threat import Threat, project

#: tanh reaches 0 and 1 at infinity only: pixels are moved towards grey by this factor before its inverse is taken.
INSIDE = 1 - 1e-6
#: Progress is looked at this many times in a descent; less than this share of the losses is none.
CHECKS, PROGRESS = 10, 1e-4
#: Adam's decays and the number that keeps it from dividing by 0.
DECAYS, TINY = (0.9, 0.999), 1e-8


@dataclass(frozen=True)
class MinimumNorm:
    """The closest adversarial images found (N, C, H, W) in [0, 1], and their l2 distances (N,), +inf where none was."""

    images: Tensor
    distances: Tensor


def cw_l2(
    model: Model,
    images: Tensor,
    labels: Tensor,
    *,
    steps: int = 1000,
    binary_search_steps: int = 9,
    initial_constant: float = 1e-2,
    lr: float = 1e-2,
    abort_early: bool = True,
) -> MinimumNorm:
    """The smallest l2 perturbations that change the answer.

    Parameters
    ----------
    model : images (N, C, H, W) in [0, 1] to logits (N, K), in eval mode.
    images, labels : (N, C, H, W) float in [0, 1], and (N,).
    steps : of Adam, for each constant. binary_search_steps : constants that are tried.
    initial_constant : the first c; ten times as much until an image is adversarial, then halves of the interval.
    lr : Adam's step size, in w.
    abort_early : a descent ends where a tenth of the steps has brought no progress.

    Returns the images as they are, at the distance 0, where the answer is wrong already, and at +inf where nothing was
    found.
    """
    with torch.no_grad():
        wrong = model(images).argmax(dim=1) != labels
    best = images.clone()
    distances = torch.where(wrong, 0.0, torch.inf).to(torch.float64)
    rows = (~wrong).nonzero().flatten()
    lower = torch.zeros(len(rows), dtype=images.dtype, device=images.device)
    upper, constants = torch.full_like(lower, torch.inf), torch.full_like(lower, initial_constant)
    for _ in range(binary_search_steps if len(rows) else 0):
        found, reached = _descend(model, images[rows], labels[rows], constants, steps, lr, abort_early)
        better = reached < distances[rows]
        best[rows[better]], distances[rows[better]] = found[better], reached[better]
        success = reached.isfinite()
        lower, upper = torch.where(success, lower, constants), torch.where(success, constants, upper)
        constants = torch.where(upper.isinf(), 10 * constants, (lower + upper) / 2)
    return MinimumNorm(best, distances)


def cw(
    model: Model,
    images: Tensor,
    labels: Tensor,
    *,
    threat: Threat,
    seed: int,
    index: Tensor,
    steps: int = 1000,
    binary_search_steps: int = 9,
    initial_constant: float = 1e-2,
    lr: float = 1e-2,
) -> Tensor:
    """cw_l2's images projected on the ball of an l2 threat: robust accuracy at a radius from a minimum-norm attack.

    The parameters are cw_l2's; nothing is random, so `seed` and `index` decide nothing. Raises HallmarkError for
    another norm.
    """
    if threat.norm != "l2":
        raise HallmarkError(f"cw is an attack in l2, and the threat is {threat.name}")
    found = cw_l2(
        model,
        images,
        labels,
        steps=steps,
        binary_search_steps=binary_search_steps,
        initial_constant=initial_constant,
        lr=lr,
    )
    return project(found.images, images, threat)


def _descend(
    model: Model, images: Tensor, labels: Tensor, constants: Tensor, steps: int, lr: float, abort_early: bool
) -> tuple[Tensor, Tensor]:
    """The closest adversarial images on Adam's ways for these constants (N,), and their distances (N,)."""
    best, distances = images.clone(), torch.full((len(images),), torch.inf, dtype=torch.float64, device=images.device)
    start = ((2 * images - 1) * INSIDE).atanh()
    # What is still on its way: rows of the batch, their variables, and their losses' sums since the last look and before.
    rows, adam = torch.arange(len(images), device=images.device), _Adam(start, lr)
    spent, before, tenth = torch.zeros_like(constants), torch.full_like(constants, torch.inf), -(-steps // CHECKS)
    for step in range(steps):
        point = adam.variables.detach().requires_grad_()
        with torch.enable_grad():
            candidates = (point.tanh() + 1) / 2
            logits = model(candidates)
            squares = (candidates - _reconstructed(start[rows])).square().flatten(1).sum(dim=1)
            losses = squares + constants[rows] * margin(logits, labels[rows]).clamp_min(0)
            (gradient,) = torch.autograd.grad(losses.sum(), point)
        _keep_closer(best, distances, rows, images, candidates.detach(), logits.argmax(dim=1) != labels[rows])
        adam.step(gradient)
        spent = spent + losses.detach()
        # Sums over a tenth of the steps: a single loss swings, the more the closer an image is to the boundary.
        if abort_early and (step + 1) % tenth == 0:
            going = spent <= (1 - PROGRESS) * before
            rows, before, spent = rows[going], spent[going], torch.zeros_like(spent[going])
            adam.only(going)
            if not len(rows):
                break
    return best, distances


def _reconstructed(start: Tensor) -> Tensor:
    return (start.tanh() + 1) / 2


def _keep_closer(
    best: Tensor, distances: Tensor, rows: Tensor, images: Tensor, candidates: Tensor, adversarial: Tensor
) -> None:
    """Writes the candidates that are adversarial and closer than what was found for their row."""
    reached = (candidates.double() - images[rows].double()).flatten(1).norm(dim=1)
    closer = adversarial & (reached < distances[rows])
    best[rows[closer]], distances[rows[closer]] = candidates[closer], reached[closer]


class _Adam:
    """Adam (Kingma and Ba 2015, arXiv 1412.6980) over variables (N, …) of which rows can be left out on the way."""

    def __init__(self, variables: Tensor, lr: float) -> None:
        self.variables, self.lr, self.steps = variables.clone(), lr, 0
        self.mean, self.square = torch.zeros_like(variables), torch.zeros_like(variables)

    def step(self, gradient: Tensor) -> None:
        self.steps += 1
        self.mean.lerp_(gradient, 1 - DECAYS[0])
        self.square.lerp_(gradient.square(), 1 - DECAYS[1])
        mean = self.mean / (1 - DECAYS[0] ** self.steps)
        square = self.square / (1 - DECAYS[1] ** self.steps)
        self.variables = self.variables - self.lr * mean / (square.sqrt() + TINY)

    def only(self, rows: Tensor) -> None:
        """Goes on with the rows of this mask (N,)."""
        if not rows.all():
            self.variables, self.mean, self.square = self.variables[rows], self.mean[rows], self.square[rows]
