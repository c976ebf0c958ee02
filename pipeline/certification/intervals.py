"""Interval bound propagation (Gowal et al. 2018, arXiv 1810.12715): every value between two numbers, layer by layer."""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor

from pipeline.certification.layers import Affine
from pipeline.certification.program import Program
from pipeline.certification.rounding import INPUT, gamma, underflow


class Interval(NamedTuple):
    """Values between `lower` and `upper`, both (N, *shape)."""

    lower: Tensor
    upper: Tensor

    @property
    def centre(self) -> Tensor:
        return (self.lower + self.upper) / 2

    @property
    def radius(self) -> Tensor:
        return (self.upper - self.lower) / 2

    @property
    def size(self) -> Tensor:
        """The largest |value|."""
        return torch.maximum(self.lower.abs(), self.upper.abs())


class Bounds(NamedTuple):
    """An interval for every node of a program, and for every step what rounding may add to its values (None: nothing)."""

    nodes: list[Interval]
    rounding: list[Tensor | None]

    def of(self, image: int) -> Bounds:
        """Those of one image, (1, *shape)."""
        one = slice(image, image + 1)
        nodes = [Interval(interval.lower[one], interval.upper[one]) for interval in self.nodes]
        return Bounds(nodes, [None if added is None else added[one] for added in self.rounding])


def box(images: Tensor, eps: Tensor, *, rounded: bool = True) -> Interval:
    """The pixels within eps of the images and within [0, 1].

    Parameters: images (N, C, H, W) in [0, 1], eps (N,) for images in [0, 1]. With `rounded`, the float32 images next to
    the box are in it too.
    """
    reach = (eps + INPUT if rounded else eps).view(-1, 1, 1, 1)
    return Interval((images - reach).clamp_min(0), (images + reach).clamp_max(1))


def rounding_of(layer: Affine, size: Tensor) -> Tensor | None:
    """The most that float32 may differ from W x + b where |x| ≤ size; see pipeline.certification.rounding."""
    if layer.terms == 0:
        return None
    total, bias = layer.linear(size, absolute=True), layer.bias_size(size)
    return gamma(layer.terms) * (total if bias is None else total + bias) + underflow(layer.terms)


def through(layer: Affine, interval: Interval, rounding: Tensor | None = None) -> Interval:
    """The interval after an affine map, `rounding` wider on both sides."""
    centre, radius = layer(interval.centre), layer.linear(interval.radius, absolute=True)
    radius = radius if rounding is None else radius + rounding
    return Interval(centre - radius, centre + radius)


def propagate(program: Program, start: Interval, *, rounded: bool = True) -> Bounds:
    """Intervals through a whole network; with `rounded` they hold for float32 evaluation too.

    Differentiable in the network's weights and in `start`; without `rounded` this is what training needs.
    """
    nodes, rounding = [start], list[Tensor | None]()
    for step in program.steps:
        interval, added = after(step.layer, [nodes[number] for number in step.inputs], rounded=rounded)
        nodes.append(interval)
        rounding.append(added)
    return Bounds(nodes, rounding)


def after(layer: object, inputs: list[Interval], *, rounded: bool) -> tuple[Interval, Tensor | None]:
    """The interval after one step, and what rounding may have added there."""
    if isinstance(layer, Affine):
        rounding = rounding_of(layer, inputs[0].size) if rounded else None
        return through(layer, inputs[0], rounding), rounding
    if layer is None:
        one, other = inputs
        rounding = gamma(1) * (one.size + other.size) if rounded else None
        added = 0.0 if rounding is None else rounding
        return Interval(one.lower + other.lower - added, one.upper + other.upper + added), rounding
    assert callable(layer)
    return Interval(layer(inputs[0].lower), layer(inputs[0].upper)), None
