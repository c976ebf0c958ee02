"""One step against many: PGD that one step beats is broken, and so is a network that resists exactly one step."""

from __future__ import annotations

from collections.abc import Iterator

import torch
from torch import Tensor, nn
from torch.nn import functional

from pipeline.attacks.fgsm import fgsm
from pipeline.attacks.threat import Threat
from pipeline.evaluation.sanity.item import FAIL_FACTOR, Item, at_most, slack
from pipeline.evaluation.sanity.measured import Measured
from pipeline.evaluation.victim import Sample

#: Measured on the digits: 0.01 for an honest network at the radius it was trained for, 0.2 to 0.35 for one far beyond
#: it, where a straight step overshoots, 0.05 for undefended ones; 0.6 and 0.8 after catastrophic overfitting, and near
#: 1 by the published accuracies of 80 and 0 %.
COLLAPSE_WARN, COLLAPSE_FAIL = 0.25, 0.45


def single_step(network: nn.Module, part: Sample, threat: Threat, measured: Measured) -> Iterator[Item]:
    """Two forward and backward passes on `part`; `measured` holds its verdicts, PGD's among them."""
    if not measured.pgd:
        return
    found = fgsm(network, part.images, part.labels, threat=threat)
    with torch.no_grad():
        one_step = (network(found).argmax(1) == part.labels).cpu().numpy()
    stands, many_steps = measured.clean & one_step, measured.under(measured.pgd)
    limit = slack(len(part))
    yield at_most(
        "many_steps_beat_one",
        float((many_steps & ~stands).mean()),
        warn=limit,
        fail=FAIL_FACTOR * limit,
        meaning="share of images that one step breaks and PGD does not",
    )
    # One step that overshoots also leaves images to PGD. After catastrophic overfitting the gradient has another
    # direction where the step ends (Andriushchenko and Flammarion 2020, arXiv 2007.02617).
    fallen = (float(stands.mean()) - float(many_steps.mean())) / max(float(measured.clean.mean()), 1 / len(part))
    turned = 1 - _alignment(network, part, found)
    yield at_most(
        "catastrophic_overfitting",
        fallen * turned,
        warn=COLLAPSE_WARN,
        fail=COLLAPSE_FAIL,
        meaning=f"accuracy that PGD takes away after one step, as a share of clean accuracy ({fallen:.2f}), times how far "
        f"the gradient turns on that step (1 - cosine: {turned:.2f})",
    )


def _alignment(network: nn.Module, part: Sample, found: Tensor) -> float:
    """The median over images of the cosine between the gradients at both ends of the step, not below 0."""
    ends = (_gradients(network, images, part.labels) for images in (part.images, found))
    return max(0.0, float(functional.cosine_similarity(*ends).median()))


def _gradients(network: nn.Module, images: Tensor, labels: Tensor) -> Tensor:
    """Input gradients of the cross-entropy, each divided by its largest entry, (N, D)."""
    point = images.detach().requires_grad_()
    with torch.enable_grad():
        (gradient,) = torch.autograd.grad(functional.cross_entropy(network(point), labels, reduction="sum"), point)
    flat = gradient.flatten(1)
    return flat / flat.abs().amax(1, keepdim=True).clamp_min(torch.finfo(flat.dtype).tiny)
