"""From float images to the 8-bit grid without losing what an attack achieved.

Rounding may undo a success by a hair. Where it does, neighbouring grid points are searched, each pixel value at most
one level away in a round, inside the ball counted in whole levels. What one level up or down gains is estimated by the
margin's gradient, and what it costs is counted in the norm's budget: in l2 and l1 a level taken back pays for another.
The levels with the most gain for their price are bought first, as in a knapsack.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from pipeline.attacks.pgd import Model, margin
from pipeline.attacks.threat import Threat, to_grid
from pipeline.networks.blocks import to_unit

#: Times that what is left of a budget is spent on items that still fit.
SHOPPING = 3


@dataclass(frozen=True)
class GridSearch:
    """Images uint8 (N, C, H, W) inside the ball, and how many successes of the float images were not kept."""

    images: Tensor
    lost: int


def search_grid(
    model: Model,
    images: Tensor,
    clean: Tensor,
    labels: Tensor,
    threat: Threat,
    rounds: int = 20,
) -> GridSearch:
    """Images on the 8-bit grid, as wrong as the float ones wherever the search succeeds.

    Parameters
    ----------
    model : float32 images (N, C, H, W) in [0, 1] to logits (N, K), in eval mode.
    images, clean, labels : float candidates (N, C, H, W) in [0, 1]; the clean images, uint8 of the same shape; (N,).
    threat : the ball. rounds : looks at the gradient, for the images whose success rounding undid; 0 only counts.

    All images go through the network at once, and none depends on the others: split what does not fit into memory.
    An image whose float candidate is answered right, or whose nearest grid image is wrong as well, is to_grid's. Where
    the search fails, too.
    """
    found = to_grid(images, clean, threat)
    rows = (_wrong(model, images, labels) & ~_wrong(model, to_unit(found), labels)).nonzero().flatten()
    if rounds and len(rows):
        searched, kept = _searched(model, found[rows], clean[rows], labels[rows], threat, rounds)
        found[rows[kept]] = searched[kept]
        rows = rows[~kept]
    return GridSearch(found, len(rows))


@torch.no_grad()
def _wrong(model: Model, images: Tensor, labels: Tensor) -> Tensor:
    return model(images).argmax(dim=1) != labels


def _searched(
    model: Model, found: Tensor, clean: Tensor, labels: Tensor, threat: Threat, rounds: int
) -> tuple[Tensor, Tensor]:
    """The images after the search, and which of them are wrong now, (N,).

    Every round starts from the best image so far. Where it brought nothing, half as many pixels may change in the next.
    """
    center = clean.flatten(1).to(torch.float64)
    moves, share = found.flatten(1).to(torch.float64) - center, torch.ones(len(found), 1, device=found.device)
    reached, gradient, wrong = _look(model, center + moves, clean, labels)
    for _ in range(rounds):
        if wrong.all():
            break
        candidate = moves + _steps(gradient, moves, center, share, threat)
        after, slope, broken = _look(model, center + candidate, clean, labels)
        better = ((after < reached) | broken) & ~wrong
        share = torch.where(better[:, None], share, share / 2)
        moves, gradient = (torch.where(better[:, None], *pair) for pair in ((candidate, moves), (slope, gradient)))
        reached, wrong = torch.where(better, after, reached), wrong | (better & broken)
    return (center + moves).to(torch.uint8).view_as(clean), wrong


def _look(model: Model, levels: Tensor, clean: Tensor, labels: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """At images in levels (N, D): the margin (N,), its gradient (N, D), and where the answer is wrong (N,)."""
    point = to_unit(levels.to(torch.uint8).view_as(clean)).requires_grad_()
    with torch.enable_grad():
        logits = model(point)
        reached = margin(logits, labels)
        (gradient,) = torch.autograd.grad(reached.sum(), point)
    return reached.detach(), gradient.flatten(1).to(levels), logits.argmax(dim=1) != labels


def _steps(gradient: Tensor, moves: Tensor, center: Tensor, share: Tensor, threat: Threat) -> Tensor:
    """One level down the margin, or back, or nothing, for each pixel value (N, D), within the ball and [0, 255].

    First every level that costs something and gains nothing is given back; the budget then buys steps, and levels that
    were given back, by gain for a level's price. Only the `share` (N, 1) of the values with the largest gradients steps.
    """
    towards = torch.where(gradient == 0, moves.sign(), -gradient.sign())
    spent, up, down = (_spent(moves + step, threat) for step in (0, towards, -towards))
    gain, price, refund = gradient.abs(), up - spent, spent - down
    stepping = (gain > 0) & _largest(gain, share) & _allowed(center, moves + towards, threat)
    free, bought, backed = stepping & (price <= 0), stepping & (price > 0), refund > 0
    budget = threat.levels - spent.sum(dim=1, keepdim=True) - torch.where(free, price, 0).sum(dim=1, keepdim=True)
    budget = budget + torch.where(backed, refund, 0).sum(dim=1, keepdim=True)
    kept, taken = _bought(
        torch.cat([gain, gain], dim=1),
        torch.cat([refund, price], dim=1),
        torch.cat([backed, bought], dim=1),
        budget,
    ).chunk(2, dim=1)
    return towards * ((free | taken).to(moves) - (backed & ~kept).to(moves))


def _spent(moves: Tensor, threat: Threat) -> Tensor:
    """What moves in levels (N, D) take from the budget: in l∞ nothing, since every value has a budget of its own."""
    match threat.norm:
        case "linf":
            return torch.zeros_like(moves)
        case "l1":
            return moves.abs()
        case "l2":
            return moves.square()


def _allowed(center: Tensor, moves: Tensor, threat: Threat) -> Tensor:
    inside = (center + moves >= 0) & (center + moves <= 255)
    return inside & (moves.abs() <= threat.levels) if threat.norm == "linf" else inside


def _largest(gain: Tensor, share: Tensor) -> Tensor:
    """The share of each row's values with the largest gains, at least one."""
    count = (share * gain.shape[1]).round().clamp_min(1).long()
    order = gain.sort(dim=1, descending=True, stable=True).values
    return gain >= order.gather(1, count - 1)


def _bought(gain: Tensor, price: Tensor, offered: Tensor, budget: Tensor) -> Tensor:
    """What the budget (N, 1) buys of the offered items (N, D), the most gain for the price first."""
    bought = torch.zeros_like(offered)
    for _ in range(SHOPPING):
        affordable = offered & ~bought & (price <= budget)
        worth = torch.where(affordable, gain / price.clamp_min(1), -1)
        order = worth.sort(dim=1, descending=True, stable=True).indices
        bill = torch.where(affordable, price, 0).gather(1, order).cumsum(dim=1)
        taken = torch.zeros_like(offered).scatter(1, order, bill <= budget) & affordable
        bought, budget = bought | taken, budget - torch.where(taken, price, 0).sum(dim=1, keepdim=True)
    return bought
