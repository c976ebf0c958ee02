"""What is proved: for one eps an image, a lower bound of the label's logit minus every other one."""

from __future__ import annotations

from typing import Literal

import torch
from torch import Tensor

from pipeline.certification import forms, intervals
from pipeline.certification.intervals import Bounds, Interval
from pipeline.certification.layers import Affine
from pipeline.certification.linear import Backward
from pipeline.certification.program import Program

#: From the cheapest to the tightest. ibp: intervals up to the affine layers at the end. The others end with CROWN's
#: backward pass, and differ in what bounds the values before each ReLU: intervals, affine forms in the pixels, or CROWN
#: itself for every unit whose sign the forms leave open.
Technique = Literal["ibp", "crown-ibp", "crown-forward", "crown"]
#: Units of one backward pass of `crown` intermediate bounds, so that memory stays small.
ROWS = 512


def differences(labels: Tensor, classes: int) -> Tensor:
    """Rows (N, K − 1, K) that take every other class's logit from the label's; labels (N,)."""
    one_hot = torch.eye(classes, dtype=torch.float64, device=labels.device)
    others = torch.arange(classes - 1, device=labels.device)[None]
    others = others + (others >= labels[:, None])
    return one_hot[labels][:, None] - one_hot[others]


@torch.no_grad()
def margins(program: Program, images: Tensor, labels: Tensor, eps: Tensor, *, technique: Technique) -> Tensor:
    """Lower bounds (N, K − 1) of the label's logit minus each other class's, over a ball around each image.

    Parameters: images float64 (N, C, H, W) in [0, 1], labels (N,), eps (N,) in the same unit. The ball is all images
    within eps (l∞) and within [0, 1]. The bounds hold as pipeline.certification.rounding says: in real arithmetic and in
    float32. None is below that of `ibp`, which they are the larger of.
    """
    start = intervals.box(images, eps)
    bounds = intervals.propagate(program, start)
    ibp = _margins(program, bounds, labels, _before_last(program))
    if technique == "ibp":
        return ibp
    if technique != "crown-ibp":
        bounds = forms.propagate(program, start, tighten=_tightened if technique == "crown" else None)
    return torch.maximum(ibp, _margins(program, bounds, labels, 0))


def _margins(program: Program, bounds: Bounds, labels: Tensor, down_to: int) -> Tensor:
    last = len(program.steps)
    return Backward(program, bounds, differences(labels, program.shape(last)[0]), last).run(down_to)


def _tightened(program: Program, bounds: Bounds, node: int) -> Interval:
    """The interval of a node before a ReLU, by CROWN where its sign is open: elsewhere nothing would change."""
    interval = bounds.nodes[node]
    lower, upper = interval.lower.flatten(1).clone(), interval.upper.flatten(1).clone()
    for image in range(len(lower)):
        own = bounds.of(image)
        units = ((lower[image] < 0) & (upper[image] > 0)).nonzero().squeeze(1)
        for part in units.split(ROWS) if len(units) else ():
            rows = torch.zeros(2, len(part), lower.shape[1], device=lower.device)
            rows[0].scatter_(1, part[:, None], 1.0)
            rows[1] -= rows[0]
            found = Backward(program, own, rows.view(1, -1, *program.shape(node)), node).run(0).view(2, -1)
            lower[image, part] = torch.maximum(lower[image, part], found[0])
            upper[image, part] = torch.minimum(upper[image, part], -found[1])
    return Interval(lower.view_as(interval.lower), upper.view_as(interval.upper))


def _before_last(program: Program) -> int:
    """The node before the affine steps at the end, so that the differences are merged into them."""
    node = len(program.steps)
    while node and isinstance(program.steps[node - 1].layer, Affine):
        (node,) = program.steps[node - 1].inputs
    return node
