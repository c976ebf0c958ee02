"""The loss around an image, over one adversarial and one random direction, and how rough it is."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn import functional

from bundle.table.threats import Norm
from pipeline.attacks.pgd import cross_entropy
from pipeline.attacks.threat import Threat
from pipeline.evaluation.victim import Sample

SPAN = 1.0
STEPS = 21
IMAGES = 8
MEANING = (
    "mean over {images} images of the sum of the absolute second differences of the loss over the sum of its absolute "
    "first differences, along both directions of the grid: 0 where the loss is linear, about 2 where it climbs in "
    "steps; the loss's scale does not count, the grid's does"
)


def loss_surface(
    network: nn.Module,
    sample: Sample,
    *,
    threat: Threat,
    seed: int,
    span: float = SPAN,
    steps: int = STEPS,
    images: int = IMAGES,
    batch_size: int = 250,
) -> dict[str, Any]:
    """Cross-entropy at x + a·eps·d1 + b·eps·d2, clipped to [0, 1], over a square grid of a and b.

    Parameters
    ----------
    network : images (N, C, H, W) in [0, 1] to logits (N, K), in eval mode, on the sample's device.
    sample : its first `images` are used. threat : gives eps and the norm in which both directions have size 1.
    seed : the random direction of an image is drawn from (seed, its row in the split).
    span : a and b run from −span to span, in units of eps; the same for every network, so that surfaces can be compared.
    steps : points along each side, odd, at least 3.

    d1 is the steepest direction at x: the gradient's sign for l∞, the gradient over its norm (l2 or l1) otherwise. d2 is
    a random one: signs for l∞, a normal draw over its norm otherwise.

    Returns the predicate's `surface`: losses of the first image (rows along d1, columns along d2, 4 decimals) and the
    roughness over all. Raises ValueError where `steps` is even or below 3, or the sample is empty.
    """
    if steps < 3 or steps % 2 == 0:
        raise ValueError(f"steps: must be odd and at least 3, so that the image itself is in the grid; got {steps}")
    if not len(sample):
        raise ValueError("surface: the sample has no image")
    part = Sample(sample.images[:images], sample.labels[:images], sample.index[:images])
    first = _adversarial_directions(network, part, threat.norm)
    second = _random_directions(part, threat.norm, seed)
    offsets = torch.linspace(-span, span, steps, dtype=part.images.dtype, device=part.images.device) * threat.eps
    grids = [
        _losses(network, image, label, offsets, one, other, batch_size)
        for image, label, one, other in zip(part.images, part.labels, first, second, strict=True)
    ]
    return {
        "threat": threat.name,
        "rows": [int(row) for row in part.index.tolist()],
        "span": span,
        "steps": steps,
        "losses": [[round(float(loss), 4) + 0.0 for loss in row] for row in grids[0]],
        "roughness": round(float(np.mean([roughness(grid) for grid in grids])), 4),
        "roughnessMeaning": MEANING.format(images=len(part)),
    }


def roughness(losses: NDArray[np.floating[Any]]) -> float:
    """How much of a loss's change is bending, from 0 to 2; `losses` (rows, columns), each at least 3.

    The sum of the absolute second differences along both axes over that of the absolute first differences: the change
    of the slope for each unit of change in height. A raw second difference would call a network rough because its
    logits are large, and dividing by the range would call one smooth because its loss has a cliff; here a factor on
    the loss cancels. Linear: 0. Smooth: small, in proportion to the curvature and to the grid's step, which is the same
    for all networks. In steps, as behind rounded inputs, or noisy: each jump is bent twice, so near 2, which the
    triangle inequality makes the largest value. A constant loss has no bend: 0.
    """
    losses = np.asarray(losses, np.float64)
    bends = sum(np.abs(np.diff(losses, n=2, axis=axis)).sum() for axis in (0, 1))
    climbs = sum(np.abs(np.diff(losses, axis=axis)).sum() for axis in (0, 1))
    # What is left of a constant or linear loss in float64 is no bend.
    noise = losses.size * 8 * np.finfo(np.float64).eps * np.abs(losses).max()
    return float(bends / climbs) if climbs > noise else 0.0


def _adversarial_directions(network: nn.Module, part: Sample, norm: Norm) -> Tensor:
    point = part.images.detach().clone().requires_grad_()
    with torch.enable_grad():
        loss = cross_entropy(network(point), part.labels).sum()
        (gradient,) = torch.autograd.grad(loss, point)
    return gradient.sign() if norm == "linf" else _unit(gradient, norm)


def _random_directions(part: Sample, norm: Norm, seed: int) -> Tensor:
    drawn = [_draw(np.random.default_rng([seed, int(row)]), part.images.shape[1:], norm) for row in part.index.tolist()]
    directions = torch.from_numpy(np.stack(drawn)).to(part.images)
    return directions if norm == "linf" else _unit(directions, norm)


def _draw(generator: np.random.Generator, shape: tuple[int, ...], norm: Norm) -> NDArray[np.float64]:
    return generator.choice([-1.0, 1.0], shape) if norm == "linf" else generator.standard_normal(shape)


def _unit(directions: Tensor, norm: Norm) -> Tensor:
    """Each direction over its l2 or l1 norm; zero stays zero."""
    flat = directions.flatten(1)
    # By the largest entry first: squares of small gradients would vanish in float32.
    flat = flat / flat.abs().amax(dim=1, keepdim=True).clamp_min(torch.finfo(flat.dtype).tiny)
    sizes = flat.norm(2 if norm == "l2" else 1, dim=1, keepdim=True)
    return (flat / sizes.clamp_min(1)).view_as(directions)


@torch.no_grad()
def _losses(
    network: nn.Module, image: Tensor, label: Tensor, offsets: Tensor, first: Tensor, second: Tensor, batch_size: int
) -> NDArray[np.float64]:
    """The losses of one image's grid, (steps, steps), in float64: confident answers have losses below float32's step."""
    a, b = torch.meshgrid(offsets, offsets, indexing="ij")
    parts = []
    for one, other in zip(a.flatten().split(batch_size), b.flatten().split(batch_size), strict=True):
        moved = image + one[:, None, None, None] * first + other[:, None, None, None] * second
        logits = network(moved.clamp(0, 1)).double()
        parts.append(functional.cross_entropy(logits, label.expand(len(logits)), reduction="none").cpu().numpy())
    return np.concatenate(parts).reshape(len(offsets), len(offsets))
