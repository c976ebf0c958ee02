"""Accuracy on the validation split, on which every choice is made."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from pipeline.attacks.pgd import pgd
from pipeline.attacks.threat import Threat, to_unit
from pipeline.methods.method import crafting

PGD_STEPS = 10


def validate(
    network: nn.Module, images: Tensor, labels: Tensor, *, threat: Threat, seed: int = 0, batch_size: int = 500
) -> tuple[float, float]:
    """Clean and PGD-10 accuracy, in float32, with the same random starts every time.

    Parameters: `images` uint8 (N, C, H, W), `labels` (N,). Returns two shares in [0, 1].
    """
    clean = robust = 0
    with crafting(network), torch.autocast(images.device.type, enabled=False):
        for start in range(0, len(images), batch_size):
            rows = torch.arange(start, min(start + batch_size, len(images)))
            unit, label = to_unit(images[rows]), labels[rows]
            adversarial = pgd(network, unit, label, threat=threat, seed=seed, index=rows, steps=PGD_STEPS)
            with torch.no_grad():
                right = network(unit).argmax(1) == label
                clean += int(right.sum())
                robust += int((right & (network(adversarial).argmax(1) == label)).sum())
    return clean / len(images), robust / len(images)
