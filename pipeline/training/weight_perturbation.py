"""Adversarial weight perturbation (Wu et al. 2020, arXiv 2004.05884)."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from bundle.errors import HallmarkError
from pipeline.methods import Method

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
                torch.zeros_like(weight) if gradient is None else self._move(weight, gradient)
                for weight, gradient in zip(self.weights, gradients, strict=True)
            ]
            for weight, move in zip(self.weights, self.moves, strict=True):
                weight.add_(move)

    def _move(self, weight: Tensor, gradient: Tensor) -> Tensor:
        return self.gamma * (weight.norm() / (gradient.norm() + SMALLEST_NORM) * gradient)

    @torch.no_grad()
    def restore(self) -> None:
        """w ← w − v, after the optimiser's step."""
        for weight, move in zip(self.weights, self.moves, strict=True):
            weight.sub_(move)
        self.moves = []
