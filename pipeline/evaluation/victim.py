"""What an attacker has before it: the served network, what it was trained with, and the file that answers."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field

import torch
from torch import Tensor, nn

#: What methods call the networks that they train beside the served one, before the number or norm.
COTRAINED = ("guide", "peer", "specialist")


@dataclass(frozen=True)
class Victim:
    """`network` maps images (N, C, H, W) in [0, 1] to logits (N, K); it and the companions are in eval mode, on one device.

    `companions` are other networks on the same images, by name: the `guide` and the `peer_1` of co-training, or
    other models that adversarial images are carried over from. `model` is model.onnx, for attacks by queries alone.
    """

    network: nn.Module
    classes: int
    companions: Mapping[str, nn.Module] = field(default_factory=dict)
    model: bytes | None = None

    @property
    def cotrained(self) -> dict[str, nn.Module]:
        """The companions that a method trained beside the network, as Method names them."""
        return {name: network for name, network in self.companions.items() if name.split("_")[0] in COTRAINED}


@dataclass(frozen=True)
class Sample:
    """Images float (N, C, H, W) in [0, 1], labels (N,), rows in the test split (N,), on the device that attacks."""

    images: Tensor
    labels: Tensor
    index: Tensor

    def __len__(self) -> int:
        return len(self.labels)

    def batches(self, size: int) -> Iterator[Sample]:
        for rows in torch.arange(len(self)).split(size):
            yield Sample(self.images[rows], self.labels[rows], self.index[rows])
