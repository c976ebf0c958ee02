"""Attacks that are given more: a ball in which nothing can stand, more steps, more starts."""

from __future__ import annotations

import torch
from torch import nn

from bundle.threats import Norm
from pipeline.attacks.margin import margin_pgd
from pipeline.attacks.threat import Threat
from pipeline.evaluation.sanity.item import FAIL_FACTOR, Item, at_most, slack
from pipeline.evaluation.sanity.measured import Right
from pipeline.evaluation.victim import Sample

#: An l∞ radius within which every image can become grey.
LARGE_EPS_255 = 128.0
#: There nothing can stand: honest and undefended networks measured 0.0. The rest is for steps that end too early on an
#: image or two.
LARGE_EPS_FAIL = 0.05
STEPS, RESTARTS = 100, 2


def large_eps(network: nn.Module, part: Sample, threat: Threat, *, seed: int) -> Item:
    """Margin PGD in a ball so large that it must break nearly everything: 10 steps, and 50 where those failed."""
    large = large_threat(threat.norm, part.images[0].numel())
    size = f"eps {large.size:g}/255" if large.norm == "linf" else f"{large.norm} eps {large.size:g}"
    standing = part
    for steps in (10, 50):
        standing = _standing(network, standing, large, seed=seed, steps=steps)
    return at_most(
        "large_eps", len(standing) / len(part), fail=LARGE_EPS_FAIL, meaning=f"accuracy under attack at {size}"
    )


def more_steps(network: nn.Module, part: Sample, right: Right, threat: Threat, *, seed: int) -> Item:
    """Margin PGD-100 from 2 further starts on the images that stood under every attack (`right`, one verdict an image).

    The starts are others than the suite's, which draws its own from `seed`.
    """
    stood = _rows(part, torch.from_numpy(right))
    standing = _standing(network, stood, threat, seed=seed + 1, steps=STEPS, restarts=RESTARTS)
    limit = slack(len(part))
    return at_most(
        "more_steps",
        (len(stood) - len(standing)) / len(part),
        warn=limit,
        fail=FAIL_FACTOR * limit,
        meaning=f"share of images that stood under every attack and fall to {STEPS} steps of margin PGD from {RESTARTS} "
        "further starts",
    )


def large_threat(norm: Norm, pixels: int) -> Threat:
    """A ball so large that attacks must break nearly everything: l∞ 128/255, and the l2 and l1 balls around that one."""
    if norm == "linf":
        return Threat(norm, LARGE_EPS_255)
    return Threat(norm, round(LARGE_EPS_255 / 255 * (pixels**0.5 if norm == "l2" else pixels), 3))


def _standing(network: nn.Module, part: Sample, threat: Threat, *, seed: int, steps: int, restarts: int = 1) -> Sample:
    """The images that margin PGD does not break."""
    if not len(part):
        return part
    found = margin_pgd(
        network,
        part.images,
        part.labels,
        threat=threat,
        seed=seed,
        index=part.index,
        steps=steps,
        restarts=restarts,
    )
    with torch.no_grad():
        return _rows(part, network(found).argmax(1) == part.labels)


def _rows(part: Sample, chosen: torch.Tensor) -> Sample:
    device = part.labels.device
    return Sample(
        part.images[chosen.to(device)], part.labels[chosen.to(device)], part.index[chosen.to(part.index.device)]
    )
