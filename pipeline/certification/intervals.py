"""Interval bound propagation (Gowal et al. 2018, arXiv 1810.12715): every value between two numbers, layer by layer.

How far float32 arithmetic can be from the real numbers is a perturbation of every layer. The float32 network is the real
network whose layers each add a small vector d: its value at a layer is W x + b + d, with x the float32 values before it.
Bounds over all admissible d, layer by layer, therefore hold for the real network (d = 0) and for every float32 evaluation
that follows the model below.

The model. Each operation rounds once, fl(a op b) = (a op b)(1 + t), |t| <= u = 2^-24, or flushes a result below
2^-126. A value that is a sum of n products is then a sum of the same products, each times at most n + SLACK factors
(1 + t), whatever the order of the sum and with or without fused multiply-add. SLACK covers what else may be rounded:
the variance plus its epsilon, the root, the division, the scale times the weight, the bias, where a BatchNorm is
folded into the convolution before it. With K = n + SLACK and gamma_K = K u / (1 - K u) (Higham, Accuracy and Stability
of Numerical Algorithms, 2002, lemma 3.1),

    |d| <= gamma_K (|W| |x| + |b|) + K 2^-125.

Not covered: convolutions by Winograd or FFT transforms, TF32, and types shorter than float32.

The bounds themselves are computed in float64. Where they compute W c + b, |W| r or a row times W, that is wrong by at
most gamma_K of float64 times the same |W| |x| + |b|, less than 2^-28 of the d that is allowed for anyway; OWN makes
each d larger by 2^-20 of itself, which covers it and the few roundings beside it.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import torch
from torch import Tensor

from pipeline.certification.layers import Affine
from pipeline.certification.program import Program


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
    """The most that float32 may differ from W x + b where |x| ≤ size; see pipeline.certification.intervals."""
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


def after(
    layer: Affine | Callable[[Tensor], Tensor] | None, inputs: list[Interval], *, rounded: bool
) -> tuple[Interval, Tensor | None]:
    """The interval after one step, and what rounding may have added there."""
    if isinstance(layer, Affine):
        rounding = rounding_of(layer, inputs[0].size) if rounded else None
        return through(layer, inputs[0], rounding), rounding
    if layer is None:
        one, other = inputs
        rounding = gamma(1) * (one.size + other.size) if rounded else None
        added = 0.0 if rounding is None else rounding
        return Interval(one.lower + other.lower - added, one.upper + other.upper + added), rounding
    return Interval(layer(inputs[0].lower), layer(inputs[0].upper)), None


#: Unit roundoff of float32.
UNIT = 2.0**-24
SLACK = 24
UNDERFLOW = 2.0**-125
#: For the float64 arithmetic of the bounds, as a fraction of the float32 term.
OWN = 1 + 2.0**-20
#: For sums in float64 of up to 2^20 terms, as a fraction of the sum of their sizes: gamma of 2^20 terms is 2^-33.
SUMS = 2.0**-32
#: The image on its way in: k/255 and the ball's edge rounded to float32 (a few units in the last place of 1).
INPUT = 2.0**-22

ARITHMETIC = (
    "Holds in real arithmetic and for float32 evaluation with IEEE rounding, sums in any order, with or without fused "
    "multiply-add and with BatchNorm folded; not for Winograd or FFT convolutions, TF32 or shorter types. Bounds are "
    "computed in float64 with an a-priori rounding term in every layer."
)


def gamma(terms: int) -> float:
    """The largest relative error of a sum of `terms` products, each a float32 number times another, times OWN."""
    factors = (terms + SLACK) * UNIT
    return OWN * factors / (1 - factors)


def underflow(terms: int) -> float:
    """What products below float32's normal range can lose in such a sum."""
    return OWN * (terms + SLACK) * UNDERFLOW
