"""AutoAttack standard (Croce and Hein 2020, arXiv 2003.01690) through pyautoattack, with its side effects contained.

pyautoattack reseeds torch's global generator, switches the tracer off, writes its warnings to a logger, and needs ten
classes. Here the generators and the tracer are put back, the warnings come back as data, and the targets are
min(9, K − 1); below four classes the targeted difference-of-logits-ratio loss does not exist, so a named reduced set
runs.
"""

from __future__ import annotations

import logging
import re
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from pipeline.attacks.threat import Threat, project

#: pyautoattack warns when Square finds more than 0.2 points; with few images that is less than one image.
SQUARE_IMAGES = 2


@dataclass(frozen=True)
class AutoAttackResult:
    """Adversarial images (N, C, H, W), and the warnings that AutoAttack raised about the model or itself."""

    images: Tensor
    flags: list[str]


def settings(classes: int) -> dict[str, Any]:
    """What is run for this number of classes, as the attestation records it."""
    attacks = ["apgd-ce", "apgd-t", "fab-t", "square"] if classes >= 4 else ["apgd-ce", "fab-t", "square"]
    version = (
        "standard"
        if classes >= 10
        else "standard, targets adapted"
        if classes >= 4
        else "reduced: fewer than 4 classes"
    )
    return {"version": version, "attacks": attacks, "targets": min(9, classes - 1), "queries": 5000, "steps": 100}


def autoattack(
    model: nn.Module,
    images: Tensor,
    labels: Tensor,
    *,
    threat: Threat,
    seed: int,
    classes: int,
    batch_size: int = 250,
    progress: Callable[[str], None] | None = None,
) -> AutoAttackResult:
    """AutoAttack standard, each attack on the survivors of the one before.

    Parameters
    ----------
    model : images (N, C, H, W) in [0, 1] to logits (N, K), in eval mode, deterministic.
    images, labels : (N, C, H, W) float in [0, 1], and (N,).
    seed, batch_size : the result depends on both; same values, same images as pyautoattack by itself.
    progress : is told AutoAttack's own progress lines.

    Returns images inside the ball and [0, 1] (the clean image where nothing was found), and flags.
    """
    from pyautoattack import AutoAttack

    chosen = settings(classes)
    with _contained(images.device), _log_lines(progress) as flags:
        attack = AutoAttack(model, norm="Linf", eps=threat.eps, seed=seed, version="standard", device=images.device)
        attack.attacks_to_run = list(chosen["attacks"])
        attack.apgd_targeted.n_target_classes = chosen["targets"]
        attack.fab.n_target_classes = chosen["targets"]
        adversarial, _ = attack.run_standard_evaluation(images, labels, batch_size=batch_size)
    return AutoAttackResult(project(adversarial, images, threat), _gated(flags, len(images)))


def _gated(flags: list[str], images: int) -> list[str]:
    """Square's warning counts from 2 images on: the larger of that and 0.2 points (which pyautoattack has checked)."""
    kept = []
    for flag in flags:
        found = re.search(r"Square Attack has decreased the robust accuracy of ([\d.]+)%", flag)
        if found is None or round(float(found[1]) / 100 * images) > SQUARE_IMAGES:
            kept.append(" ".join(flag.split()))
    return kept


@contextmanager
def _contained(device: torch.device) -> Iterator[None]:
    """Puts torch's generators and the tracer back as they were."""
    tracer = sys.gettrace()
    devices = [device] if device.type == "cuda" else []
    try:
        with torch.random.fork_rng(devices):
            yield
    finally:
        sys.settrace(tracer)


@contextmanager
def _log_lines(progress: Callable[[str], None] | None) -> Iterator[list[str]]:
    """Collects the warnings of AutoAttack's logger and passes its progress lines on."""
    flags: list[str] = []

    class Collector(logging.Handler):
        def emit(self, record: logging.LogRecord) -> None:
            message = record.getMessage()
            if record.levelno >= logging.WARNING:
                if message not in flags:
                    flags.append(message)
            elif progress is not None:
                progress(message)

    logger = logging.getLogger("auto-attack")
    handler, before = Collector(), (logger.level, logger.propagate)
    logger.addHandler(handler)
    logger.setLevel(logging.DEBUG)
    logger.propagate = False
    try:
        yield flags
    finally:
        logger.removeHandler(handler)
        logger.setLevel(before[0])
        logger.propagate = before[1]
