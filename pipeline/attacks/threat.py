"""The ball in torch: projection of float images, the steepest step, and the way from float images to the 8-bit grid.

Random starts that belong to an image: drawn from (seed, index, restart), whatever batch the image is in.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from bundle.table.threats import Norm, Threat

__all__ = ["Threat", "project", "steepest", "to_grid"]

#: Coordinates that an l1 step moves, for each unit of eps. A ball of radius eps holds eps pixel values changed in full,
#: so that a number fits where a share of the image does not: 3 of the digits' 64 at eps 2, 18 of CIFAR-10's 3072 at 12
#: (SLIDE takes 31 of them, MSD 5 to 20).
L1_COORDINATES = 1.5
#: Halvings of the interval that holds a projection's multiplier; float32 resolves no more.
HALVINGS = 32
#: An l1 step leaves out pixels that have less room than this: rounding leaves some a hair below their limit.
NO_ROOM = 1e-6


def project(images: Tensor, clean: Tensor, threat: Threat) -> Tensor:
    """The nearest point (in l2) of the ball around `clean` and of [0, 1]; all (N, C, H, W).

    l∞ and the box are both boxes, so clipping is exact. For l2 and l1 the projection on the ball and the box together
    has one multiplier for each image, which bisection finds from the inside (l1: Croce and Hein 2021, arXiv
    2103.01208, proposition 2.1). `clean` is in [0, 1]; measured norms are at most eps, because results are rounded
    towards `clean`. An image that is in both already stays as it is.
    """
    if threat.norm == "linf":
        return torch.minimum(torch.maximum(images, clean - threat.eps), clean + threat.eps).clamp(0, 1)
    moves = (images - clean).flatten(1)
    room = torch.where(moves > 0, 1 - clean.flatten(1), clean.flatten(1)).clamp_min(0)
    radius = threat.eps * (1 - 8 * torch.finfo(moves.dtype).eps)
    kept = (_l2_lengths if threat.norm == "l2" else _l1_lengths)(moves.abs(), room, radius)
    moved = _rounded_towards(clean, (moves.sign() * kept).view_as(clean))
    return torch.where((kept == moves.abs()).view_as(clean), images, moved).clamp(0, 1)


def _l2_lengths(lengths: Tensor, room: Tensor, radius: float) -> Tensor:
    """min(t · |δ|, room) with the largest t ≤ 1 whose l2 norm is at most the radius; all (N, D)."""
    norms = lengths.norm(dim=1, keepdim=True)
    inside = torch.where(norms > radius, radius / norms, 1)
    return _bisected(lambda share: torch.minimum(share * lengths, room), inside, torch.ones_like(inside), 2, radius)


def _l1_lengths(lengths: Tensor, room: Tensor, radius: float) -> Tensor:
    """min(max(|δ| − λ, 0), room) with the smallest λ ≥ 0 whose l1 norm is at most the radius; all (N, D)."""
    inside = lengths.amax(dim=1, keepdim=True)
    return _bisected(
        lambda less: torch.minimum((lengths - less).clamp_min(0), room), inside, torch.zeros_like(inside), 1, radius
    )


def _bisected(kept: Callable[[Tensor], Tensor], inside: Tensor, outside: Tensor, order: int, radius: float) -> Tensor:
    """`kept` at the multiplier closest to `outside`, each (N, 1), that has a norm of at most the radius."""
    inside = torch.where(kept(outside).norm(order, dim=1, keepdim=True) <= radius, outside, inside)
    for _ in range(HALVINGS):
        middle = (inside + outside) / 2
        fits = kept(middle).norm(order, dim=1, keepdim=True) <= radius
        inside, outside = torch.where(fits, middle, inside), torch.where(fits, outside, middle)
    return kept(inside)


def _rounded_towards(clean: Tensor, moves: Tensor) -> Tensor:
    """clean + moves, where rounding makes no move longer."""
    moved = clean + moves
    return torch.where((moved - clean).abs() > moves.abs(), torch.nextafter(moved, clean), moved)


def steepest(gradient: Tensor, images: Tensor, threat: Threat) -> Tensor:
    """The direction of size 1 in the threat's norm along which the objective grows most; (N, C, H, W).

    l∞: the gradient's sign (size 1 in every pixel). l2: the gradient over its norm. l1: equal steps in the few
    coordinates with the largest gradients, among those that can still move within [0, 1] at `images` (SLIDE, Tramèr and
    Boneh 2019, arXiv 1904.13000; the room as in Croce and Hein 2021): one coordinate alone would be steepest, but a step
    of that kind overshoots. Zero where nothing has a gradient.
    """
    if threat.norm == "linf":
        return gradient.sign()
    flat = gradient.flatten(1)
    # By the largest entry first: squares of small gradients would vanish in float32.
    flat = flat / flat.abs().amax(dim=1, keepdim=True).clamp_min(torch.finfo(flat.dtype).tiny)
    if threat.norm == "l2":
        return (flat / flat.norm(dim=1, keepdim=True).clamp_min(1)).view_as(gradient)
    room = torch.where(flat > 0, 1 - images.flatten(1), images.flatten(1))
    largest = torch.where(room > NO_ROOM, flat.abs(), 0).topk(_coordinates(threat, flat.shape[1]), dim=1)
    chosen = torch.zeros_like(flat).scatter(1, largest.indices, (largest.values > 0).to(flat))
    return (chosen * flat.sign() / chosen.sum(dim=1, keepdim=True).clamp_min(1)).view_as(gradient)


def _coordinates(threat: Threat, dimensions: int) -> int:
    return min(dimensions, max(1, round(L1_COORDINATES * threat.eps)))


def to_grid(images: Tensor, clean: Tensor, threat: Threat) -> Tensor:
    """The 8-bit images next to float ones, inside the ball on the grid.

    Parameters: `images` float (N, C, H, W) in [0, 1]; `clean` uint8 of the same shape. Returns uint8: for l∞ the nearest
    such image. For l2 and l1 each difference is rounded towards zero, which cannot leave the ball, and then away from
    zero where that is nearer, the largest fractions first, as long as the threat's budget of whole levels lasts.
    """
    center = clean.to(torch.int16)
    if threat.norm == "linf":
        nearest = (images * 255).round().to(torch.int16)
        inside = torch.minimum(torch.maximum(nearest, center - threat.levels), center + threat.levels)
        return inside.clamp(0, 255).to(torch.uint8)
    exact = project(images.to(torch.float64), clean.to(torch.float64) / 255, threat)
    moves = (exact * 255 - clean).flatten(1)
    levels = _rounded_levels(moves.abs(), threat)
    return (center + (moves.sign() * levels).view(clean.shape).to(torch.int16)).to(torch.uint8)


def _rounded_levels(lengths: Tensor, threat: Threat) -> Tensor:
    """Whole levels (N, D) next to `lengths`, which are in levels too, within the budget of an l2 or l1 threat."""
    whole = lengths.floor()
    fractions, order = (lengths - whole).sort(dim=1, descending=True, stable=True)
    spent, price = (whole, torch.ones_like(whole)) if threat.norm == "l1" else (whole**2, 2 * whole + 1)
    bill = spent.sum(dim=1, keepdim=True) + price.gather(1, order).cumsum(dim=1)
    more = (fractions > 0.5) & (bill <= threat.levels)
    return whole + torch.zeros_like(whole).scatter(1, order, more.to(whole))


def uniform_start(images: Tensor, threat: Threat, *, seed: int, index: Tensor, restart: int = 0) -> Tensor:
    """Images moved uniformly at random inside the ball, then projected on it and on [0, 1].

    Parameters: `images` (N, C, H, W) in [0, 1]; `index` (N,), each image's row in its split.
    """
    shape = images.shape[1:]
    noise = np.stack(
        [
            _unit_noise(np.random.default_rng([seed, restart, int(row)]), shape, threat.norm).astype(np.float32)
            for row in index.tolist()
        ]
    )
    moved = images + threat.eps * torch.from_numpy(noise).to(images)
    return project(moved, images, threat)


def _unit_noise(generator: np.random.Generator, shape: tuple[int, ...], norm: Norm) -> NDArray[np.float64]:
    """A uniform draw from the ball of radius 1 around 0.

    l2 and l1: a direction uniform on the sphere, at the distance U^(1/d) from its centre.
    """
    if norm == "linf":
        return generator.uniform(-1, 1, shape)
    direction = generator.standard_normal(shape) if norm == "l2" else generator.laplace(size=shape)
    length = np.linalg.norm(direction.ravel(), 2 if norm == "l2" else 1)
    return direction / length * generator.uniform() ** (1 / direction.size)
