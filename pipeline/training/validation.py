"""Accuracy on the validation split, on which every choice is made."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor, nn

from pipeline.attacks.fgsm import fgsm
from pipeline.attacks.pgd import pgd
from pipeline.attacks.threat import Threat, to_unit
from pipeline.methods.method import crafting

PGD_STEPS = 10


class Accuracy(NamedTuple):
    """Shares of the validation images, in [0, 1].

    `clean`: right. `robust`: right, and under PGD-10 of every threat too, image by image. `fgsm`: right, and under a
    single step of the first threat too.
    """

    clean: float
    robust: float
    fgsm: float


def validate(
    network: nn.Module,
    images: Tensor,
    labels: Tensor,
    *,
    threats: Sequence[Threat],
    seed: int = 0,
    batch_size: int = 500,
) -> Accuracy:
    """Clean, PGD-10 and single-step accuracy, in float32, with the same random starts every time.

    Parameters: `images` uint8 (N, C, H, W), `labels` (N,); `threats`, one or more. A threat's starts are the same
    whatever other threats are asked for.
    """
    counts = torch.zeros(3, dtype=torch.int64, device=images.device)
    with crafting(network), torch.autocast(images.device.type, enabled=False):
        for start in range(0, len(images), batch_size):
            rows = torch.arange(start, min(start + batch_size, len(images)))
            unit, label = to_unit(images[rows]), labels[rows]
            clean = robust = _right(network, unit, label)
            for threat in threats:
                adversarial = pgd(network, unit, label, threat=threat, seed=seed, index=rows, steps=PGD_STEPS)
                robust = robust & _right(network, adversarial, label)
            single = clean & _right(network, fgsm(network, unit, label, threat=threats[0]), label)
            counts += torch.stack([clean.sum(), robust.sum(), single.sum()])
    return Accuracy(*(count / len(images) for count in counts.tolist()))


@torch.no_grad()
def _right(network: nn.Module, images: Tensor, labels: Tensor) -> Tensor:
    return network(images).argmax(1) == labels
