"""Averaged weights: exponential (EMA) and equal (SWA) averages of parameters and BatchNorm statistics."""

from __future__ import annotations

import copy
from typing import Any

import torch
from torch import Tensor, nn

from pipeline.methods import Method
from pipeline.params import TrainSettings


class AveragedNetwork:
    """A second copy of a network that follows it slowly.

    Float buffers (BatchNorm's running mean and variance) are averaged like the parameters, as FGSM-PGK's code does;
    integer buffers are copied. The copy shares no storage with the network.
    """

    def __init__(self, network: nn.Module) -> None:
        self.network = copy.deepcopy(network).eval()
        self.network.requires_grad_(False)
        self.updates = 0

    @property
    def serves(self) -> bool:
        """Whether it is an average of anything yet; until then the network itself is validated and served."""
        return self.updates > 0

    @torch.no_grad()
    def update(self, network: nn.Module, decay: float | Tensor) -> None:
        """average ← decay · average + (1 − decay) · network; a tensor decay stays on its device, so nothing waits."""
        averaged = self.network.state_dict()
        for name, value in network.state_dict().items():
            if value.is_floating_point():
                averaged[name].lerp_(value, 1 - decay)
            else:
                averaged[name].copy_(value)
        self.updates += 1

    def after_step(self, method: Method, step: int) -> None:
        """Called after every optimiser step."""

    def after_epoch(self, method: Method, share: float) -> None:
        """Called after every epoch, before validation; `share` of the epochs were over when it began."""

    def state(self) -> dict[str, Any]:
        """What a checkpoint keeps."""
        return {"network": self.network.state_dict(), "updates": self.updates}

    def load(self, state: dict[str, Any]) -> None:
        """Goes on from state()."""
        self.network.load_state_dict(state["network"], strict=True)
        self.updates = state["updates"]


class ExponentialAverage(AveragedNetwork):
    """EMA of the served network, step by step; the method may warm the decay up, or change it."""

    def __init__(self, network: nn.Module, decay: float) -> None:
        super().__init__(network)
        self.decay = decay

    def after_step(self, method: Method, step: int) -> None:
        self.update(method.served(), method.averaging_decay(step, self.decay))


class EqualAverage(AveragedNetwork):
    """SWA (Izmailov et al. 2018, arXiv 1803.05407): the mean of the weights at the end of each epoch from `start` on.

    BatchNorm's running statistics are averaged equally too, where the paper computes them anew in a pass over the
    training images. Under adversarial training such a pass would have to choose between clean and adversarial images,
    and the methods answer that differently; the average keeps the mixture that the method itself trained with.
    """

    def __init__(self, network: nn.Module, start: float) -> None:
        super().__init__(network)
        self.start = start

    def after_epoch(self, method: Method, share: float) -> None:
        if share >= self.start:
            self.update(method.served(), self.updates / (self.updates + 1))


def make_average(settings: TrainSettings, network: nn.Module) -> AveragedNetwork | None:
    """The average that the settings ask for; None without one."""
    match settings.averaging:
        case "ema":
            return ExponentialAverage(network, settings.ema_decay or 0.0)
        case "swa":
            return EqualAverage(network, settings.swa_start)
        case _:
            return None
