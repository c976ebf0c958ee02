"""Linear bound propagation forwards: every value as a linear function of the pixels, plus or minus a rest.

The relaxation of ReLU is the parallel one of Fast-Lin (Weng et al. 2018, arXiv 1804.09699) and DeepZ (Singh et al.
2018): max(x, 0) lies within t of s x + t with s = u / (u − l) and t = −s l / 2. It costs one pass for all pixels of an
image, where CROWN's own intermediate bounds cost one for every neuron; it pays for small images.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import torch
from torch import Tensor

from pipeline.certification.intervals import SUMS, Bounds, Interval, after, gamma, rounding_of
from pipeline.certification.layers import Affine
from pipeline.certification.linear import relaxation
from pipeline.certification.program import Program, Step

#: The form's own arithmetic in float64 is wrong by less than this share of its size times what rounding is allowed.
OWN_SHARE = 2.0**-20
Tighten = Callable[[Program, Bounds, int], Interval]


class Form(NamedTuple):
    """Values within `rest` of centre + Σ_d slopes_d z_d with every z_d in [−1, 1].

    slopes (N, D, *shape), D pixels; centre and rest (N, *shape).
    """

    slopes: Tensor
    centre: Tensor
    rest: Tensor

    def interval(self) -> Interval:
        """The smallest and largest value that the form admits."""
        spread = self.slopes.abs().sum(dim=1) + self.rest
        own = SUMS * (self.centre.abs() + spread)
        return Interval(self.centre - spread - own, self.centre + spread + own)

    @property
    def size(self) -> Tensor:
        return self.interval().size


def of_box(start: Interval) -> Form:
    """The pixels of a box, each its own z."""
    radius = start.radius
    slopes = torch.diag_embed(radius.flatten(1)).view(len(radius), -1, *radius.shape[1:])
    return Form(slopes, start.centre, SUMS * start.size)


def propagate(program: Program, start: Interval, tighten: Tighten | None = None) -> Bounds:
    """Bounds of every node, never wider than those of intervals alone; they hold for float32 evaluation too.

    `tighten` gives a better interval of a node before a ReLU, from the bounds of it and of the nodes before it.
    """
    bounds, found = Bounds([start], []), [of_box(start)]
    for step in program.steps:
        if step.layer is torch.relu and tighten is not None:
            before = step.inputs[0]
            bounds.nodes[before] = tighten(program, bounds, before)
        inputs = [bounds.nodes[number] for number in step.inputs]
        interval, _ = after(step.layer, inputs, rounded=True)
        form, rounding = _after(step, [found[number] for number in step.inputs], inputs)
        own = form.interval()
        bounds.nodes.append(
            Interval(torch.maximum(interval.lower, own.lower), torch.minimum(interval.upper, own.upper))
        )
        bounds.rounding.append(rounding)
        found.append(form)
    return bounds


def _after(step: Step, forms: list[Form], intervals: list[Interval]) -> tuple[Form, Tensor | None]:
    layer, form = step.layer, forms[0]
    if isinstance(layer, Affine):
        return _mapped(layer, form, intervals[0])
    if layer is None:
        one, other = forms
        rounding = gamma(1) * (intervals[0].size + intervals[1].size + OWN_SHARE * (one.size + other.size))
        return Form(one.slopes + other.slopes, one.centre + other.centre, one.rest + other.rest + rounding), rounding
    return _clipped(form, intervals[0]), None


def _mapped(layer: Affine, form: Form, interval: Interval) -> tuple[Form, Tensor | None]:
    images, pixels = form.slopes.shape[:2]
    slopes = layer.linear(form.slopes.flatten(0, 1))
    rounding = rounding_of(layer, interval.size + OWN_SHARE * form.size)
    rest = layer.linear(form.rest, absolute=True)
    rest = rest if rounding is None else rest + rounding
    return Form(slopes.view(images, pixels, *slopes.shape[1:]), layer(form.centre), rest), rounding


def _clipped(form: Form, before: Interval) -> Form:
    _, slope, lift = relaxation(before)
    half = lift / 2
    rest = slope * form.rest + half + torch.where(slope > 0, SUMS * form.size, 0)
    return Form(form.slopes * slope[:, None], slope * form.centre + half, rest)
