"""What is measured while training runs, beside the losses."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from pipeline.methods.method import Batch, classes_of, crafting


class AttackSuccess:
    """Share of the images, right when clean, that the training attack breaks; of every tenth step of an epoch.

    An attack that breaks fewer and fewer images has stopped teaching; one that breaks none while PGD breaks them all is
    catastrophic overfitting. Measured in eval mode on the network in training, before its update. Counts stay on the
    device until the epoch ends.
    """

    EVERY = 10

    def __init__(self, device: torch.device) -> None:
        self._counts = torch.zeros(2, dtype=torch.int64, device=device)

    @torch.no_grad()
    def measure(self, network: nn.Module, batch: Batch, attacked: Tensor) -> None:
        """Counts images right when clean, and those of them that are wrong in `attacked` (N, C, H, W)."""
        classes = classes_of(batch.labels)
        with crafting(network):
            right = network(batch.images).argmax(1) == classes
            broken = right & (network(attacked).argmax(1) != classes)
        self._counts += torch.stack([right.sum(), broken.sum()])

    def take_share(self) -> float:
        """The share since it was last asked for, in [0, 1]; 0 where no image was right."""
        right, broken = self._counts.tolist()
        self._counts.zero_()
        return broken / max(1, right)
