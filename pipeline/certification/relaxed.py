"""Linear bound propagation, forwards and backwards, over relaxations of ReLU.

Forwards every value is a linear function of the pixels, plus or minus a rest: the parallel relaxation of Fast-Lin (Weng
et al. 2018, arXiv 1804.09699) and DeepZ (Singh et al. 2018): max(x, 0) lies within t of s x + t with s = u / (u − l) and
t = −s l / 2. It costs one pass for all pixels of an image, where CROWN's own intermediate bounds cost one for every
neuron; it pays for small images.

Backwards, from the logits to the image, goes CROWN (Zhang et al. 2018, arXiv 1811.00866). Rows of coefficients may be
float64, or float32 where there are many. Either way the bounds hold: what the rows' own arithmetic may lose is
subtracted. A row times W is wrong by at most gamma_n |row| |W|, n the products that an entry sums, which moves the bound
by at most gamma_n |row| (|W| |x|): so many times the float32 term of the layer (see intervals.py). What sums, products
with slopes and underflow may lose is collected in `lost`.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import torch
from torch import Tensor

from pipeline.certification.intervals import SLACK, SUMS, Bounds, Interval, after, gamma, rounding_of
from pipeline.certification.layers import Affine
from pipeline.certification.program import Program, Step

#: Unit roundoff by type; fraction of u − l by which the line above a ReLU is lifted, so that its rounded slope stays above.
UNITS = {torch.float64: 2.0**-53, torch.float32: 2.0**-24}
LIFTS = {torch.float64: 2.0**-40, torch.float32: 2.0**-21}
#: Nodes hold less than 2^20 values of less than 2^40: float32 rows below 2^-126 lose less than this.
FLUSHED = {torch.float64: 0.0, torch.float32: 2.0**-60}


def relaxation(before: Interval, dtype: torch.dtype = torch.float64) -> tuple[Tensor, Tensor, Tensor]:
    """Lines around ReLU on [l, u]: a x ≤ max(x, 0) ≤ s x + t. Returns a, s and t in `dtype`.

    s = u / (u − l) and t = −s l where l < 0 < u; a is 1 where u > −l and 0 elsewhere, the smaller of the two areas.
    """
    lower, upper = before
    active, crossing = lower >= 0, (lower < 0) & (upper > 0)
    slope = torch.where(crossing, upper / torch.where(crossing, upper - lower, 1), active.to(lower.dtype))
    lift = torch.where(crossing, -slope * lower + LIFTS[dtype] * (upper - lower), 0)
    below = torch.where(crossing, (upper > -lower).to(lower.dtype), active.to(lower.dtype))
    return below.to(dtype), slope.to(dtype), lift.to(dtype)


class Backward:
    """Linear functions of a node's values, carried from it towards the image; each stays below the one it came from.

    `rows` (N, R, *shape) are the coefficients of what is bounded, R for each image, in the values of node `last`.
    `constant` (N, R) collects in float64 what does not depend on any node any more, less what rounding may have taken.
    """

    def __init__(self, program: Program, bounds: Bounds, rows: Tensor, last: int) -> None:
        self.program, self.bounds, self.last = program, bounds, last
        self.rows: dict[int, Tensor] = {last: rows}
        self.dtype = rows.dtype
        self.constant = torch.full(rows.shape[:2], -FLUSHED[self.dtype], dtype=torch.float64, device=rows.device)

    def run(self, down_to: int) -> Tensor:
        """Lower bounds (N, R), float64, with every node above `down_to` put through its step; 0: down to the image."""
        for number in range(self.last, down_to, -1):
            if number in self.rows:
                self._back(self.program.steps[number - 1], self.bounds.rounding[number - 1], self.rows.pop(number))
        for node, rows in self.rows.items():
            interval = self.bounds.nodes[node]
            self._collect(rows, interval.centre, interval.radius)
        return self.constant

    def _back(self, step: Step, rounding: Tensor | None, rows: Tensor) -> None:
        if isinstance(step.layer, Affine):
            bias = step.layer.bias(rows)
            bias = None if bias is None else bias.expand(step.shape)[None]
            self._collect(rows, bias, None if rounding is None else self._times(step.layer) * rounding)
            shape = self.program.shape(step.inputs[0])
            moved = step.layer.transposed(rows.flatten(0, 1), shape)
            self._give(step.inputs[0], moved.view(*rows.shape[:2], *shape))
        elif step.layer is None:
            assert rounding is not None
            self._collect(rows, None, self._times(None) * rounding)
            for node in step.inputs:
                self._give(node, rows)
        else:
            assert step.layer is torch.relu  # read() lets nothing else through
            self._relu(step.inputs[0], rows)

    def _relu(self, node: int, rows: Tensor) -> None:
        before = self.bounds.nodes[node]
        below, slope, lift = relaxation(before, self.dtype)
        # min(row, 0) t = (row − |row|) t / 2. Products with slopes round too, and branches that meet may cancel, so
        # that later terms do not tell their sizes.
        self._collect(rows, lift / 2, lift / 2 + self._share(rows) * before.size)
        self._give(node, rows * torch.where(rows > 0, below[:, None], slope[:, None]))

    def _collect(self, rows: Tensor, values: Tensor | None, sizes: Tensor | None) -> None:
        """Adds Σ row · values − Σ |row| sizes, less what these sums may be off; values and sizes (N or 1, *shape)."""
        if values is not None:
            self.constant += _dot(rows, values)
            own = self._share(rows) * values.abs()
            sizes = own if sizes is None else sizes + own
        if sizes is not None:
            self.constant -= (1 + self._share(rows)) * _dot(rows.abs(), sizes)

    def _times(self, layer: Affine | None) -> float:
        """How many times the float32 term of a layer is taken: once for the network's rounding, and for the rows' own."""
        if self.dtype is torch.float64:
            return 1.0  # the term is larger by OWN already
        return 2.1 if layer is None else 1.1 + 1.1 * (layer.terms_back + SLACK) / (layer.terms + SLACK)

    def _share(self, rows: Tensor) -> float:
        """The fraction of Σ |row| |value| that the computed Σ row · value may be off."""
        return 2 * UNITS[self.dtype] * (rows[0, 0].numel() + 16)

    def _give(self, node: int, rows: Tensor) -> None:
        self.rows[node] = self.rows[node] + rows if node in self.rows else rows


def _dot(rows: Tensor, values: Tensor) -> Tensor:
    """Σ row · values: (N, R, *shape) and (N or 1, *shape) to (N, R), float64 from there on."""
    return (rows.flatten(2) @ values.to(rows.dtype).flatten(1)[..., None]).squeeze(2).double()


#: The form's own arithmetic in float64 is wrong by less than this fraction of its size times what rounding is allowed.
OWN_FRACTION = 2.0**-20
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
        rounding = gamma(1) * (intervals[0].size + intervals[1].size + OWN_FRACTION * (one.size + other.size))
        return Form(one.slopes + other.slopes, one.centre + other.centre, one.rest + other.rest + rounding), rounding
    return _clipped(form, intervals[0]), None


def _mapped(layer: Affine, form: Form, interval: Interval) -> tuple[Form, Tensor | None]:
    images, pixels = form.slopes.shape[:2]
    slopes = layer.linear(form.slopes.flatten(0, 1))
    rounding = rounding_of(layer, interval.size + OWN_FRACTION * form.size)
    rest = layer.linear(form.rest, absolute=True)
    rest = rest if rounding is None else rest + rounding
    return Form(slopes.view(images, pixels, *slopes.shape[1:]), layer(form.centre), rest), rounding


def _clipped(form: Form, before: Interval) -> Form:
    _, slope, lift = relaxation(before)
    half = lift / 2
    rest = slope * form.rest + half + torch.where(slope > 0, SUMS * form.size, 0)
    return Form(form.slopes * slope[:, None], slope * form.centre + half, rest)
