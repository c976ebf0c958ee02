"""Linear bound propagation (CROWN, Zhang et al. 2018, arXiv 1811.00866), backwards from the logits to the image.

Rows of coefficients may be float64, or float32 where there are many. Either way the bounds hold: what the rows' own
arithmetic may lose is subtracted. A row times W is wrong by at most gamma_n |row| |W|, n the products that an entry
sums, which moves the bound by at most gamma_n |row| (|W| |x|): so many times the float32 term of the layer (see
rounding.py). What sums, products with slopes and underflow may lose is collected in `lost`.
"""

from __future__ import annotations

import torch
from torch import Tensor

from pipeline.certification.intervals import SLACK, Bounds, Interval
from pipeline.certification.layers import Affine
from pipeline.certification.program import Program, Step

#: Unit roundoff by type; share of u − l by which the line above a ReLU is lifted, so that its rounded slope stays above.
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
        """The share of Σ |row| |value| that the computed Σ row · value may be off."""
        return 2 * UNITS[self.dtype] * (rows[0, 0].numel() + 16)

    def _give(self, node: int, rows: Tensor) -> None:
        self.rows[node] = self.rows[node] + rows if node in self.rows else rows


def _dot(rows: Tensor, values: Tensor) -> Tensor:
    """Σ row · values: (N, R, *shape) and (N or 1, *shape) to (N, R), float64 from there on."""
    return (rows.flatten(2) @ values.to(rows.dtype).flatten(1)[..., None]).squeeze(2).double()
