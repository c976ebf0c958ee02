"""Attacks that are given more: a ball in which nothing can stand, more steps, more starts.

What the suite's own verdicts say about its attacks: an attack that knows more must find more.
"""

from __future__ import annotations

from collections.abc import Iterator

import torch
from torch import nn

from bundle.table.threats import Norm
from pipeline.attacks.pgd import margin_pgd
from pipeline.attacks.threat import Threat
from pipeline.evaluation.sanity.measured import FAIL_FACTOR, Item, Measured, Right, accuracy_of, at_most, slack
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


#: PGD-50 and margin PGD against AutoAttack. On honest models the best of both is 0 to 4 points above AutoAttack; where
#: it is 15 above, gradients mislead PGD, and AutoAttack's own gradient attacks are in doubt with it.
GAP_WARN, GAP_FAIL = 0.05, 0.15


def comparisons(measured: Measured) -> Iterator[Item]:
    """Every check that the verdicts at hand allow; images are counted one by one, not by accuracies alone."""
    count = len(measured.clean)
    limits = {"warn": slack(count), "fail": FAIL_FACTOR * slack(count)}
    white = measured.white_box
    if white and "noise" in measured.right:
        yield at_most(
            "white_beats_noise",
            measured.only(white, ["noise"]),
            **limits,
            meaning="share of images that random noise breaks and no attack with gradients does",
        )
    if white and measured.black_box:
        yield at_most(
            "black_box",
            measured.only(white, measured.black_box),
            **limits,
            meaning=f"share of images that {' or '.join(measured.black_box)} breaks, without gradients of the network, "
            "and no attack with them does",
        )
    if longest := measured.longest_pgd:
        yield at_most(
            "converged",
            measured.only([name for name in measured.right if name != longest], [longest]),
            **limits,
            meaning=f"share of images that fall to {longest} and to nothing else",
        )
    yield from _autoattack(measured)


def _autoattack(measured: Measured) -> Iterator[Item]:
    if not measured.autoattack:
        return
    count = len(measured.clean)
    if measured.pgd:
        yield at_most(
            "pgd_vs_autoattack",
            measured.lost(measured.pgd, measured.autoattack),
            warn=accuracy_of(GAP_WARN, count),
            fail=accuracy_of(GAP_FAIL, count),
            meaning="accuracy under PGD and margin above that under AutoAttack",
        )
    yield at_most(
        "autoattack_flags",
        float(len(measured.flags)),
        fail=0.0,
        meaning="warnings that AutoAttack raised about the model",
    )
