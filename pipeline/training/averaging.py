"""Averaged weights: an exponential moving average of parameters and BatchNorm statistics."""

from __future__ import annotations

import copy

import torch
from torch import Tensor, nn


class AveragedNetwork:
    """A second copy of a network that follows it slowly.

    Float buffers (BatchNorm's running mean and variance) are averaged like the parameters, as FGSM-PGK's code does;
    integer buffers are copied. The copy shares no storage with the network.
    """

    def __init__(self, network: nn.Module) -> None:
        self.network = copy.deepcopy(network).eval()
        self.network.requires_grad_(False)

    @torch.no_grad()
    def update(self, network: nn.Module, decay: float | Tensor) -> None:
        """average ← decay · average + (1 − decay) · network; a tensor decay stays on its device, so nothing waits."""
        averaged = self.network.state_dict()
        for name, value in network.state_dict().items():
            if value.is_floating_point():
                averaged[name].lerp_(value, 1 - decay)
            else:
                averaged[name].copy_(value)
