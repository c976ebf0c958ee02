"""Whether the loss that attacks climb has a slope: rounding and saturation take it away without any robustness."""

from __future__ import annotations

from collections.abc import Iterator

import torch
from torch import Tensor, nn
from torch.nn import functional

from pipeline.attacks.pgd import margin, pgd
from pipeline.attacks.threat import Threat
from pipeline.evaluation.sanity.item import Item, at_most, share_of
from pipeline.evaluation.victim import Sample

#: An image whose units are all inactive happens on honest networks; one of a hundred is already many.
VANISHING_FAIL = 0.01
#: A softmax that is exactly 1 needs logits 17 apart: rare on robust networks, and common on undefended ones, whose
#: gradients are small but there. So it only warns; what it costs the attack is measured by `temperature`.
SATURATED_WARN = 0.1
#: The median margin that logits are scaled to: the answered class has a softmax of about 0.9, and cross-entropy a slope.
MARGIN = 4.0
#: Cross-entropy at another scale is another loss: a point or two on honest models. Where it finds ten points more, the
#: scale of the logits hid them.
TEMPERATURE_WARN, TEMPERATURE_FAIL = 0.03, 0.1
STEPS = 50


def gradient_checks(network: nn.Module, part: Sample) -> Iterator[Item]:
    """One forward and backward pass on the clean images."""
    yield at_most(
        "gradients",
        _vanishing(network, part),
        fail=share_of(VANISHING_FAIL, len(part)),
        meaning="share of images where cross-entropy has no input gradient that float32 can hold",
    )
    yield at_most(
        "saturated",
        _saturated(network, part),
        warn=SATURATED_WARN,
        fail=1.0,
        meaning="share of images whose softmax is exactly 1 for the answered class in float32",
    )


def temperature(network: nn.Module, part: Sample, threat: Threat, *, seed: int) -> Item:
    """PGD-50 on logits as they are against PGD-50 on the same logits scaled to a median margin of 4."""
    scale = MARGIN / _median_margin(network, part)
    as_they_are, scaled = (_right_under_pgd(network, part, threat, seed=seed, scale=factor) for factor in (1.0, scale))
    return at_most(
        "temperature",
        (as_they_are - scaled) / len(part),
        warn=share_of(TEMPERATURE_WARN, len(part)),
        fail=share_of(TEMPERATURE_FAIL, len(part)),
        meaning=f"accuracy that PGD-{STEPS} takes away when the logits are scaled to a median margin of {MARGIN:g}",
    )


def _right_under_pgd(network: nn.Module, part: Sample, threat: Threat, *, seed: int, scale: float) -> int:
    def scaled(images: Tensor) -> Tensor:
        return scale * network(images)

    found = pgd(scaled, part.images, part.labels, threat=threat, seed=seed, index=part.index, steps=STEPS)
    with torch.no_grad():
        return int((network(found).argmax(1) == part.labels).sum())


@torch.no_grad()
def _median_margin(network: nn.Module, part: Sample) -> float:
    logits = network(part.images)
    return float(margin(logits, logits.argmax(1)).median().clamp_min(torch.finfo(logits.dtype).tiny))


def _vanishing(network: nn.Module, part: Sample) -> float:
    images = part.images.clone().requires_grad_()
    with torch.enable_grad():
        loss = functional.cross_entropy(network(images), part.labels, reduction="sum")
        (gradient,) = torch.autograd.grad(loss, images)
    return float((gradient.flatten(1).abs().amax(1) < torch.finfo(gradient.dtype).tiny).double().mean())


@torch.no_grad()
def _saturated(network: nn.Module, part: Sample) -> float:
    return float((network(part.images).float().softmax(1).amax(1) == 1).double().mean())
