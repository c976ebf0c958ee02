"""AutoAttack standard (Croce and Hein 2020, arXiv 2003.01690; for l1 2021, arXiv 2103.01208) through pyautoattack.

pyautoattack reseeds torch's global generator, switches the tracer off, writes its warnings to a logger, and needs ten
classes. Here its side effects are contained: the generators and the tracer are put back, the warnings come back as
data, and the targets are min(9, K − 1), for l1's targeted APGD min(5, K − 1); below four classes the targeted
difference-of-logits-ratio loss does not exist, so a named reduced set runs. Square's pattern in l2 and l1 needs images
of 5 pixels a side.
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

from bundle.threats import Norm
from pipeline.attacks.threat import Threat, project

#: Square's warning starts at 0.2 points, but not below this many images: with few images that is less than one image.
SQUARE_SHARE, SQUARE_IMAGES = 0.002, 2
#: The smallest side of an image that Square's starting pattern fits in, for l2 and l1.
SQUARE_SIDE = 5
NORMS = {"linf": "Linf", "l2": "L2", "l1": "L1"}
#: What the standard version does otherwise for l1: APGD comes from balls of 3, 2 and 1 eps, 30, 30 and 40 steps each.
L1_SETTINGS = {"apgdRestarts": 5, "apgdRadii": [3, 2, 1]}


@dataclass(frozen=True)
class AutoAttackResult:
    """Adversarial images (N, C, H, W), and the warnings that AutoAttack raised about the model or itself.

    `square_broken` counts the images that only Square broke. It is no flag yet, so that an evaluation in parts can add
    it up: see square_flags.
    """

    images: Tensor
    flags: list[str]
    square_broken: int


def settings(classes: int, norm: Norm = "linf", side: int = 32) -> dict[str, Any]:
    """What is run for this number of classes and norm, as the attestation records it; `side` is the image's shorter."""
    reduced = [
        *(["fewer than 4 classes"] if classes < 4 else []),
        *([f"images under {SQUARE_SIDE} pixels"] if norm != "linf" and side < SQUARE_SIDE else []),
    ]
    attacks = [
        "apgd-ce",
        *(["apgd-t"] if classes >= 4 else []),
        "fab-t",
        *(["square"] if norm == "linf" or side >= SQUARE_SIDE else []),
    ]
    adapted = "standard" if classes >= 10 else "standard, targets adapted"
    return {
        "version": f"reduced: {', '.join(reduced)}" if reduced else adapted,
        "attacks": attacks,
        "targets": min(9, classes - 1),
        "queries": 5000,
        "steps": 100,
        **(L1_SETTINGS | {"apgdTargets": min(5, classes - 1)} if norm == "l1" else {}),
    }


def square_flags(broken: int, images: int) -> list[str]:
    """AutoAttack's warning where Square broke more than 0.2 points, and more than 2, of the images after all others."""
    if broken <= max(SQUARE_SHARE * images, SQUARE_IMAGES):
        return []
    return [
        f"Square Attack has decreased the robust accuracy of {broken / images:.2%}. This might indicate that the "
        "robustness evaluation using AutoAttack is unreliable. Consider running Square Attack with more iterations and "
        "restarts or an adaptive attack. See flags_doc.md for details."
    ]


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

    Returns images inside the ball and [0, 1] (the clean image where nothing was found), flags, and what Square added.
    """
    from pyautoattack import AutoAttack

    chosen = settings(classes, threat.norm, min(images.shape[2:]))
    with _contained(images.device), _log_lines(progress) as lines:
        attack = AutoAttack(
            model, norm=NORMS[threat.norm], eps=threat.eps, seed=seed, version="standard", device=images.device
        )
        attack.attacks_to_run = list(chosen["attacks"])
        attack.apgd_targeted.n_target_classes = chosen.get("apgdTargets", chosen["targets"])
        attack.fab.n_target_classes = chosen["targets"]
        adversarial, _ = attack.run_standard_evaluation(images, labels, batch_size=batch_size)
    return AutoAttackResult(project(adversarial, images, threat), lines.flags, lines.square_broken)


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


class _Lines(logging.Handler):
    """Keeps what AutoAttack's log says about the model, and passes its progress on."""

    def __init__(self, progress: Callable[[str], None] | None) -> None:
        super().__init__()
        self.progress = progress
        self.flags: list[str] = []
        self.square_broken = 0

    def emit(self, record: logging.LogRecord) -> None:
        line = " ".join(record.getMessage().split())
        if record.levelno >= logging.WARNING:
            # Square's warning is a share of all images, which square_flags judges.
            if line not in self.flags and not line.startswith("Square Attack has decreased"):
                self.flags.append(line)
            return
        if found := re.fullmatch(r"square - \d+/\d+ - (\d+) out of \d+ successfully perturbed", line):
            self.square_broken += int(found[1])
        if self.progress is not None:
            self.progress(line)


@contextmanager
def _log_lines(progress: Callable[[str], None] | None) -> Iterator[_Lines]:
    """Listens to AutoAttack's logger, and to nobody else's."""
    logger = logging.getLogger("auto-attack")
    lines, before = _Lines(progress), (logger.level, logger.propagate)
    logger.addHandler(lines)
    logger.setLevel(logging.DEBUG)
    logger.propagate = False
    try:
        yield lines
    finally:
        logger.removeHandler(lines)
        logger.setLevel(before[0])
        logger.propagate = before[1]
