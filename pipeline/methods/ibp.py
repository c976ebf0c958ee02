"""Certified training by interval bound propagation (Gowal et al. 2018, arXiv 1810.12715)."""

from __future__ import annotations

from functools import cached_property
from typing import Any, ClassVar

import torch
from pydantic import Field
from torch import Tensor
from torch.nn import functional

from pipeline.attacks.divergence import at_least_float32
from pipeline.certification.intervals import Interval, box, propagate
from pipeline.certification.layers import Affine
from pipeline.certification.program import Program, read
from pipeline.methods.method import Batch, Method, classes_of, full_precision
from pipeline.params import Section
from pipeline.params.defaults import COMMON_SCHEDULE, DIGITS_SCHEDULE


class IBPSettings(Section):
    """IBP's own."""

    kappa: float = Field(default=0.5, ge=0, le=1, description="weight of the clean loss once eps has its full size")


class IBP(Method):
    """κ · CE(f(x), y) + (1 − κ) · CE(ẑ, y), ẑ the worst logits that interval bounds admit in the ball (eq. 8 and 9).

    ẑ is 0 for the label, and for every other class the upper bound of its logit minus the label's, with the last layer
    merged into the difference. The radius rises in a straight line over the schedule's `eps_warmup`, and κ falls with it
    from 1 to `kappa`, as in the paper. Where labels are mixed, the bounds are those of the largest class.

    BatchNorm, where a network has it, is bounded with its running statistics. The weights start as the network's own
    do: with those of Shi et al. 2021 (arXiv 2103.17233, section 3.1) the digits network was certified no better.
    """

    name = "ibp"
    title = "IBP"
    paper = "Gowal et al. 2018, arXiv 1810.12715"
    #: The bounds' centres and radii are a pass each.
    passes = (3, 3)
    for_certificates = True
    trains_in = ("linf",)
    paper_schedule: ClassVar[dict[str, Any]] = {**COMMON_SCHEDULE, "lr": 0.02, "eps_warmup": 0.5, "gradient_clip": 10.0}

    Settings = IBPSettings

    @classmethod
    def schedule(cls, name: str) -> dict[str, Any]:
        if name == "digits":
            return {
                **DIGITS_SCHEDULE,
                "epochs": 60,
                "lr": 0.05,
                "warmup": 0.1,
                "eps_warmup": 0.5,
                "gradient_clip": 10.0,
            }
        return super().schedule(name)

    @classmethod
    def sections(cls, data: str) -> dict[str, dict[str, Any]]:
        """Intervals explode in the residual networks; shifted digits cost 20 points of certified accuracy at 25/255."""
        small = {"network": {"name": "plain4"}}
        return {**small, "train": {"augment": "none"}} if data == "digits" else small

    def perturb(self, batch: Batch) -> Tensor:
        return batch.images

    def losses(self, batch: Batch, perturbed: Tensor) -> dict[str, Tensor]:
        kappa = 1 - (1 - self.settings.kappa) * self.radius_share
        clean = at_least_float32(self.target(perturbed))
        with full_precision(perturbed.device):
            worst = self.worst_logits(at_least_float32(perturbed), classes_of(batch.labels))
        return {
            "cross_entropy": kappa * functional.cross_entropy(clean, batch.labels),
            "interval": (1 - kappa) * functional.cross_entropy(worst, batch.labels),
        }

    @cached_property
    def program(self) -> Program:
        """The target's steps; raises UnprovableError for a network through which no intervals are known."""
        return read(self.target, self.task.shape, relu_only=False)

    def worst_logits(self, images: Tensor, labels: Tensor) -> Tensor:
        """ẑ (N, K) of images (N, C, H, W) in [0, 1] and their classes (N,): 0 for the class itself."""
        eps = torch.full((len(images),), self.threat.eps, dtype=images.dtype, device=images.device)
        return self.worst_inside(box(images, eps, rounded=False), labels)

    def worst_inside(self, start: Interval, labels: Tensor) -> Tensor:
        """ẑ (N, K) over all images within bounds (N, C, H, W) for their pixels."""
        *before, last = self.program.steps
        bounds = propagate(Program(before, self.program.image), start, rounded=False)
        assert isinstance(last.layer, Affine)
        return _worst_differences(last.layer, bounds.nodes[last.inputs[0]], labels)


def _worst_differences(last: Affine, features: Interval, labels: Tensor) -> Tensor:
    """The upper bounds (N, K) of each logit minus the label's, for features (N, D) in their intervals."""
    units = torch.eye(features.lower.shape[1], dtype=features.lower.dtype, device=features.lower.device)
    weight = last.linear(units).T
    rows = weight[None] - weight[labels][:, None]
    bias = last.bias(features.lower)
    centre = (rows @ features.centre[..., None]).squeeze(2) + (rows.abs() @ features.radius[..., None]).squeeze(2)
    return centre if bias is None else centre + bias - bias[labels][:, None]
