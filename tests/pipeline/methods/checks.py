"""What every method that crafts in eval mode must keep to, whatever its networks are called."""

from __future__ import annotations

import copy
from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn

from pipeline.methods import Batch, Method
from tests.pipeline.methods.by_hand import THREAT, TinyNetwork, clip


def total(batch: Batch, perturbed: object) -> Callable[[Method], Tensor]:
    """What the loop minimises: the sum of the terms."""
    return lambda method: torch.stack(list(method.losses(batch, perturbed).values())).sum()


def evaluated(network: nn.Module, objective: Callable[[Tensor], Tensor]) -> Callable[[Tensor], Tensor]:
    """The objective of the logits that a copy of the network gives in eval mode, as a function of its images."""
    copied = copy.deepcopy(network).eval()
    return lambda images: objective(copied(images))


def ascend_by_hand(start: Tensor, clean: Tensor, objective: Callable[[Tensor], Tensor], *, share: float) -> Tensor:
    """Ten signed steps of `share` · eps, clipped to the ball and to [0, 1]."""
    images = start
    for _ in range(10):
        images = images.detach().requires_grad_()
        (gradient,) = torch.autograd.grad(objective(images), images)
        images = clip(images.detach() + share * THREAT.eps * gradient.sign(), clean, THREAT.eps)
    return images.detach()


def assert_in_ball(images: Tensor, batch: Batch) -> None:
    """In the ball and in [0, 1], without a graph, and not the clean images."""
    assert images.shape == batch.images.shape
    assert (images - batch.images).abs().max() <= THREAT.eps + 1e-12
    assert images.min() >= 0 and images.max() <= 1
    assert not images.requires_grad
    assert (images - batch.images).abs().max() > 0.2 * THREAT.eps


def assert_crafting_leaves_all_alone(method: Method, batch: Batch) -> None:
    """Modes (each network its own), BatchNorm statistics, gradients, other buffers and the batch are as before."""
    networks = list(method.children())
    networks[-1].eval()
    for parameter in method.parameters():
        parameter.grad = torch.ones_like(parameter)
    modes = [module.training for module in method.modules()]
    state, images = copy.deepcopy(method.state_dict()), batch.images.clone()
    method.perturb(batch)
    assert [module.training for module in method.modules()] == modes
    assert all(torch.equal(value, method.state_dict()[key]) for key, value in state.items())
    assert all(torch.equal(weight.grad, torch.ones_like(weight)) for weight in method.parameters())
    assert torch.equal(batch.images, images) and not batch.images.requires_grad


def assert_modes_come_back_after_an_exception(method: Method, batch: Batch, monkeypatch: pytest.MonkeyPatch) -> None:
    """The fourth forward fails; all four were in eval mode, and train mode is back."""
    calls, forward = [], TinyNetwork.forward

    def failing(self: TinyNetwork, images: Tensor) -> Tensor:
        calls.append(self.training)
        if len(calls) == 4:
            raise RuntimeError("out of memory")
        return forward(self, images)

    monkeypatch.setattr(TinyNetwork, "forward", failing)
    with pytest.raises(RuntimeError, match="out of memory"):
        method.perturb(batch)
    assert calls == [False] * 4
    assert all(module.training for module in method.modules())


def passes_of(method: Method, batch: Batch) -> tuple[int, int]:
    """Forward calls of all networks in one step, and times that a gradient runs back from a network's logits."""
    forwards = backwards = 0

    def count(module: object, inputs: object, logits: Tensor) -> None:
        nonlocal forwards
        forwards += 1
        if logits.requires_grad:
            logits.register_hook(count_back)

    def count_back(gradient: Tensor) -> None:
        nonlocal backwards
        backwards += 1

    for network in method.children():
        network.register_forward_hook(count)
    total(batch, method.perturb(batch))(method).backward()
    return forwards, backwards
