"""What moves the weights beside the loss: learning rate, averages, adversarial weight perturbation.

Averages are of parameters and BatchNorm statistics, exponential (EMA) or equal (SWA). The perturbation is that of Wu et
al. 2020, arXiv 2004.05884.
"""

from __future__ import annotations

import copy
import math
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn

from bundle.errors import HallmarkError
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
        pairs = [*zip(self.network.state_dict().values(), network.state_dict().values(), strict=True)]
        averaged, values = map(list, zip(*(pair for pair in pairs if pair[0].is_floating_point()), strict=True))
        # All tensors in a few kernels: one by one they would take a small network's step as long again on a GPU.
        torch._foreach_mul_(averaged, decay)  # pyright: ignore
        torch._foreach_add_(averaged, torch._foreach_mul(values, 1 - decay))  # pyright: ignore
        for counter, value in pairs:
            if not counter.is_floating_point():
                counter.copy_(value)
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


def learning_rate(step: int, steps: int, settings: TrainSettings) -> float:
    """The learning rate of optimiser step `step` of `steps` (0 ≤ step < steps).

    piecewise: lr, divided by 10 at each milestone (a share of all steps). cosine: half a cosine from lr to 0.
    one_cycle: up in a straight line during `warmup`, down in a straight line to 0. Every shape rises from 0 during
    `warmup`; `first_epoch_lr` holds for the first epoch.
    """
    assert settings.lr is not None and settings.epochs is not None  # resolved settings
    share = step / steps
    warmup = settings.warmup or 0.0
    if settings.first_epoch_lr is not None and share < 1 / settings.epochs:
        return settings.first_epoch_lr
    if share < warmup:
        return settings.lr * (step + 1) / math.ceil(warmup * steps)
    rest = (share - warmup) / (1 - warmup)
    match settings.lr_shape:
        case "cosine":
            return settings.lr * 0.5 * (1 + math.cos(math.pi * rest))
        case "one_cycle":
            return settings.lr * (1 - rest)
        case _:
            return settings.lr * 0.1 ** sum(share >= milestone for milestone in settings.milestones or [])


def radius_share(step: int, steps: int, settings: TrainSettings) -> float:
    """The share of eps that optimiser step `step` of `steps` trains with: a straight line up to 1 during `eps_warmup`."""
    return 1.0 if settings.eps_warmup is None else min(1.0, (step + 1) / (settings.eps_warmup * steps))


#: The official code's guard against a gradient of zero.
SMALLEST_NORM = 1e-20


class WeightPerturbation:
    """min over w of max over v of L(w + v), with ‖v_l‖ ≤ γ · ‖w_l‖ for the weights of each layer l.

    One step up the loss (eq. 10): v_l = γ · ‖w_l‖ · g_l / ‖g_l‖, with g the gradient at w. The optimiser then steps with
    the gradient at w + v, and v is subtracted from what it reached, as in the official code. Moved are the weights of
    more than one dimension of every network that is trained; biases and BatchNorm's weights are not.
    """

    def __init__(self, method: Method, gamma: float) -> None:
        """Raises HallmarkError for a method whose loss goes through the graph of its attack."""
        if method.shares_graph:
            raise HallmarkError(
                f"train.awp_gamma: {method.name}'s loss goes through the graph of its own attack, so that weights "
                "cannot be moved in between; leave it null"
            )
        self.gamma = gamma
        self.weights = [
            weight
            for name, weight in method.named_parameters()
            if name.endswith("weight") and weight.dim() > 1 and weight.requires_grad
        ]
        # The networks' buffers alone: a method's own (priors as large as the data) do not change in `losses`.
        self.statistics = [buffer for network in method.children() for buffer in network.buffers()]
        self.moves: list[Tensor] = []

    def move(self, loss: Callable[[], Tensor]) -> None:
        """w ← w + v; `loss` computes the method's whole loss at the weights as they are.

        BatchNorm's running statistics are put back to what they were before, so that a step moves them once, at w + v.
        """
        before = [buffer.clone() for buffer in self.statistics]
        gradients = torch.autograd.grad(loss(), self.weights, allow_unused=True)
        with torch.no_grad():
            for buffer, kept in zip(self.statistics, before, strict=True):
                buffer.copy_(kept)
            self.moves = [
                self._move(weight, gradient) for weight, gradient in zip(self.weights, gradients, strict=True)
            ]
            for weight, move in zip(self.weights, self.moves, strict=True):
                weight.add_(move)

    def _move(self, weight: Tensor, gradient: Tensor | None) -> Tensor:
        if gradient is None:  # the loss does not use this weight
            return torch.zeros_like(weight)
        return self.gamma * (weight.norm() / (gradient.norm() + SMALLEST_NORM) * gradient)

    @torch.no_grad()
    def restore(self) -> None:
        """w ← w − v, after the optimiser's step."""
        for weight, move in zip(self.weights, self.moves, strict=True):
            weight.sub_(move)
        self.moves = []
