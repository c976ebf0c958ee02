"""What is proved: for one eps an image, a lower bound of the label's logit minus every other one."""

from __future__ import annotations

from typing import Literal, NamedTuple

import torch
from torch import Tensor

from pipeline.certification import forms, intervals
from pipeline.certification.intervals import Bounds, Interval
from pipeline.certification.layers import Affine
from pipeline.certification.linear import Backward
from pipeline.certification.program import Program

#: How wide the intervals before each ReLU are: from intervals alone, from affine forms in the pixels, or from CROWN.
Intermediate = Literal["interval", "forms", "crown"]
#: Rows of one backward pass of `crown` intermediate bounds, so that memory stays small.
ROWS = 1024


class Margins(NamedTuple):
    """Lower bounds (N, K − 1) of the label's logit minus the other classes', by interval bounds and by CROWN.

    `crown` is nowhere below `ibp`: the larger of the two bounds is a bound.
    """

    ibp: Tensor
    crown: Tensor


def differences(labels: Tensor, classes: int) -> Tensor:
    """Rows (N, K − 1, K) that take every other class's logit from the label's; labels (N,)."""
    one_hot = torch.eye(classes, dtype=torch.float64, device=labels.device)
    others = torch.arange(classes - 1, device=labels.device)[None]
    others = others + (others >= labels[:, None])
    return one_hot[labels][:, None] - one_hot[others]


@torch.no_grad()
def margins(
    program: Program, images: Tensor, labels: Tensor, eps: Tensor, *, intermediate: Intermediate = "forms"
) -> Margins:
    """Margins that hold for every image within eps (l∞) of the given ones and within [0, 1].

    Parameters: images float64 (N, C, H, W) in [0, 1], labels (N,), eps (N,) for images in [0, 1]. They hold as
    pipeline.certification.rounding says: in real arithmetic and in float32.
    """
    start = intervals.box(images, eps)
    plain = intervals.propagate(program, start)
    ibp = _margins(program, plain, labels, _before_last(program))
    if intermediate == "interval":
        bounds = plain
    else:
        bounds = forms.propagate(program, start, tighten=_tightened if intermediate == "crown" else None)
    return Margins(ibp, torch.maximum(ibp, _margins(program, bounds, labels, 0)))


def _margins(program: Program, bounds: Bounds, labels: Tensor, down_to: int) -> Tensor:
    last = len(program.steps)
    rows = differences(labels, program.shape(last)[0])
    owners = torch.arange(len(labels), device=labels.device).repeat_interleave(rows.shape[1])
    return Backward(program, bounds, rows.flatten(0, 1), owners, last).run(down_to).view(rows.shape[:2])


def _tightened(program: Program, bounds: Bounds, node: int) -> Interval:
    """The interval of a node before a ReLU, by CROWN where its sign is open: elsewhere nothing would change."""
    lower, upper = bounds.nodes[node]
    open_sign = ((lower < 0) & (upper > 0)).flatten(1)
    owners, units = open_sign.nonzero(as_tuple=True)
    below, above = lower.flatten(1).clone(), upper.flatten(1).clone()
    for part, unit in zip(owners.split(ROWS), units.split(ROWS), strict=True):
        rows = torch.zeros(len(part), lower[0].numel(), dtype=lower.dtype, device=lower.device)
        rows = rows.scatter(1, unit[:, None], 1).view(-1, *program.shape(node))
        found = Backward(program, bounds, rows, part, node).run(0)
        below[part, unit] = torch.maximum(below[part, unit], found)
        found = -Backward(program, bounds, -rows, part, node).run(0)
        above[part, unit] = torch.minimum(above[part, unit], found)
    return Interval(below.view_as(lower), above.view_as(upper))


def _before_last(program: Program) -> int:
    """The node before the last affine step, so that the differences are merged into it."""
    last = program.steps[-1]
    return last.inputs[0] if isinstance(last.layer, Affine) else len(program.steps)
