"""Whether attacks were hard enough: gradients with a slope, many steps against one, larger balls, more steps and starts.

Rounding and saturation take a loss's slope away without any robustness. PGD that one step beats is broken, and so is a
network that resists exactly one step. An attack that knows more must find more.
"""

from __future__ import annotations

from collections.abc import Iterator

import torch
from torch import Tensor, nn
from torch.nn import functional

from bundle.table.threats import Norm
from pipeline.attacks.pgd import fgsm, margin, margin_pgd, pgd
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
    """Margin PGD-100 from 2 further starts on the images that stood under every attack (`right`, one verdict per image).

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
TEMPERATURE_STEPS = 50


def gradient_checks(network: nn.Module, part: Sample) -> Iterator[Item]:
    """One forward and backward pass on the clean images."""
    yield at_most(
        "gradients",
        _vanishing(network, part),
        fail=accuracy_of(VANISHING_FAIL, len(part)),
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
        warn=accuracy_of(TEMPERATURE_WARN, len(part)),
        fail=accuracy_of(TEMPERATURE_FAIL, len(part)),
        meaning=f"accuracy that PGD-{TEMPERATURE_STEPS} takes away when the logits are scaled to a median margin of {MARGIN:g}",
    )


def _right_under_pgd(network: nn.Module, part: Sample, threat: Threat, *, seed: int, scale: float) -> int:
    def scaled(images: Tensor) -> Tensor:
        return scale * network(images)

    found = pgd(scaled, part.images, part.labels, threat=threat, seed=seed, index=part.index, steps=TEMPERATURE_STEPS)
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
    start, end = (_gradients(network, images, part.labels) for images in (part.images, found))
    return max(0.0, float(functional.cosine_similarity(start, end).median()))


def _gradients(network: nn.Module, images: Tensor, labels: Tensor) -> Tensor:
    """Input gradients of the cross-entropy, each divided by its largest entry, (N, D)."""
    point = images.detach().requires_grad_()
    with torch.enable_grad():
        (gradient,) = torch.autograd.grad(functional.cross_entropy(network(point), labels, reduction="sum"), point)
    flat = gradient.flatten(1)
    return flat / flat.abs().amax(1, keepdim=True).clamp_min(torch.finfo(flat.dtype).tiny)
