"""Checks that a robustness number must pass before it is believed: each a statistic, a threshold, and what it means.

After Carlini et al. 2019 (arXiv 1902.06705) and the warnings of AutoAttack. They judge shares, not single images:
random starts move a few images on honest models.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

from bundle.threats import Norm
from pipeline.attacks.margin import margin_pgd
from pipeline.attacks.pgd import pgd
from pipeline.attacks.starts import uniform_start
from pipeline.attacks.threat import Threat
from pipeline.evaluation.suite import Sample
from pipeline.params import AttackSettings

IMAGES = 200
#: An l∞ radius within which every image can become grey.
LARGE_EPS_255 = 128.0


def sanity_checks(network: nn.Module, sample: Sample, threat: Threat, settings: AttackSettings) -> list[dict[str, Any]]:
    """Runs the checks on up to 200 images of the sample, at one threat; returns the predicate's `sanity`."""
    part = next(sample.batches(IMAGES))
    # 0.2 points, or 2 images where that is more: with few images a point is less than one image.
    slack = max(0.002, 2 / len(part))
    few, many = (
        _pgd_accuracy(network, part, threat, settings, steps, restarts) for steps, restarts in ((50, 1), (100, 2))
    )
    noise = _accuracy(
        network, uniform_start(part.images, threat, seed=settings.seed + 1, index=part.index), part.labels
    )
    large = large_threat(threat.norm, part.images[0].numel())
    broken = margin_pgd(network, part.images, part.labels, threat=large, seed=settings.seed, index=part.index, steps=50)
    size = f"eps {large.size:g}/255" if large.norm == "linf" else f"{large.norm} eps {large.size:g}"
    return [
        _at_most(
            "deterministic", _repeat_difference(network, part), 0.0, "largest logit change between two forward passes"
        ),
        _at_most("gradients", _vanishing(network, part), 0.01, "share of images without any input gradient"),
        _at_most("large_eps", _accuracy(network, broken, part.labels), 0.05, f"accuracy under attack at {size}"),
        _at_most("more_steps", few - many, slack, "accuracy that PGD-100 with 2 restarts takes away from PGD-50"),
        _at_most("white_beats_noise", few - noise, slack, "accuracy under PGD-50 above that under random noise"),
    ]


def large_threat(norm: Norm, pixels: int) -> Threat:
    """A ball so large that attacks must break nearly everything: l∞ 128/255, and the l2 and l1 balls around that one."""
    if norm == "linf":
        return Threat(norm, LARGE_EPS_255)
    return Threat(norm, round(LARGE_EPS_255 / 255 * (pixels**0.5 if norm == "l2" else pixels), 3))


def _at_most(check: str, statistic: float, threshold: float, meaning: str) -> dict[str, Any]:
    return {
        "check": check,
        "statistic": statistic,
        "comparator": "<=",
        "threshold": threshold,
        "passed": statistic <= threshold,
        "meaning": meaning,
    }


def _pgd_accuracy(
    network: nn.Module, part: Sample, threat: Threat, settings: AttackSettings, steps: int, restarts: int
) -> float:
    found = pgd(
        network,
        part.images,
        part.labels,
        threat=threat,
        seed=settings.seed,
        index=part.index,
        steps=steps,
        restarts=restarts,
    )
    return _accuracy(network, found, part.labels)


@torch.no_grad()
def _accuracy(network: nn.Module, images: Tensor, labels: Tensor) -> float:
    return float((network(images).argmax(1) == labels).double().mean())


@torch.no_grad()
def _repeat_difference(network: nn.Module, part: Sample) -> float:
    return float((network(part.images) - network(part.images)).abs().max())


def _vanishing(network: nn.Module, part: Sample) -> float:
    images = part.images.clone().requires_grad_()
    with torch.enable_grad():
        (gradient,) = torch.autograd.grad(
            functional.cross_entropy(network(images), part.labels, reduction="sum"), images
        )
    return float((gradient.flatten(1).abs().sum(1) == 0).double().mean())
