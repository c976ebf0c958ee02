"""Linear bound propagation (CROWN, Zhang et al. 2018, arXiv 1811.00866), backwards from the logits to the image."""

from __future__ import annotations

import torch
from torch import Tensor

from pipeline.certification.intervals import Bounds, Interval
from pipeline.certification.layers import Affine
from pipeline.certification.program import Program
from pipeline.certification.rounding import SUMS

#: Share of |l| + |u| by which the line above a ReLU is lifted, so that its rounded slope stays above.
LIFT = 2.0**-40


def relaxation(before: Interval) -> tuple[Tensor, Tensor, Tensor]:
    """Lines around ReLU on [l, u]: a x ≤ max(x, 0) ≤ s x + t. Returns a, s and t.

    s = u / (u − l) and t = −s l where l < 0 < u; a is 1 where u > −l and 0 elsewhere, the smaller of the two areas.
    """
    lower, upper = before
    active, crossing = lower >= 0, (lower < 0) & (upper > 0)
    slope = torch.where(crossing, upper / torch.where(crossing, upper - lower, 1), active.to(lower.dtype))
    lift = torch.where(crossing, -slope * lower + LIFT * (upper - lower), 0)
    below = torch.where(crossing, (upper > -lower).to(lower.dtype), slope)
    return below, slope, lift


class Backward:
    """Linear functions of a node's values, carried from it towards the image; each stays below the one it came from.

    `rows` (M, *shape) are the coefficients of what is bounded, in the values of node `last`; row m is about image
    `owners[m]`. `constant` (M,) collects what does not depend on any node any more, and `sizes` the sizes of all terms
    that were summed, which bound what float64 has lost.
    """

    def __init__(self, program: Program, bounds: Bounds, rows: Tensor, owners: Tensor, last: int) -> None:
        self.program, self.bounds, self.owners, self.last = program, bounds, owners, last
        self.rows: dict[int, Tensor] = {last: rows}
        self.constant = rows.new_zeros(len(rows))
        self.sizes = rows.new_zeros(len(rows))

    def run(self, down_to: int) -> Tensor:
        """Lower bounds (M,) with every node above `down_to` put through its step; 0 goes down to the image."""
        for number in range(self.last, down_to, -1):
            if number in self.rows:
                self._back(number, self.rows.pop(number))
        return self._concrete()

    def _back(self, number: int, rows: Tensor) -> None:
        step, rounding = self.program.steps[number - 1], self.bounds.rounding[number - 1]
        if rounding is not None:
            self._collect(-self._dot(rows.abs(), rounding))
        if isinstance(step.layer, Affine):
            bias = step.layer.bias(rows)
            if bias is not None:
                bias = bias.expand(step.shape).flatten()
                self._collect(rows.flatten(1) @ bias, rows.abs().flatten(1) @ bias.abs())
            self._give(step.inputs[0], step.layer.transposed(rows, self.program.shape(step.inputs[0])))
        elif step.layer is None:
            for node in step.inputs:
                self._give(node, rows)
        else:
            assert step.layer is torch.relu  # read() lets nothing else through
            before = self.bounds.nodes[step.inputs[0]]
            below, slope, lift = relaxation(before)
            negative = rows.clamp_max(0)
            # Products round too, and branches that meet may cancel, so that later terms do not tell their sizes.
            self._collect(self._dot(negative, lift), self._dot(rows.abs(), before.size + lift))
            self._give(step.inputs[0], rows.clamp_min(0) * below[self.owners] + negative * slope[self.owners])

    def _concrete(self) -> Tensor:
        """The smallest value of the linear function where every node that is left takes any value of its interval."""
        total, sizes = self.constant, self.sizes
        for node, rows in self.rows.items():
            interval, absolute = self.bounds.nodes[node], rows.abs()
            total = total + self._dot(rows, interval.centre) - self._dot(absolute, interval.radius)
            sizes = sizes + self._dot(absolute, interval.size)
        return total - SUMS * sizes

    def _dot(self, rows: Tensor, values: Tensor) -> Tensor:
        """Σ rows · values of the row's image; (M, *shape) and (N, *shape) to (M,)."""
        return torch.linalg.vecdot(rows.flatten(1), values.flatten(1)[self.owners])

    def _collect(self, value: Tensor, size: Tensor | None = None) -> None:
        self.constant = self.constant + value
        self.sizes = self.sizes + (value.abs() if size is None else size)

    def _give(self, node: int, rows: Tensor) -> None:
        self.rows[node] = self.rows[node] + rows if node in self.rows else rows
