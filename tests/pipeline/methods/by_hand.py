"""The reference that methods are held against: formulas from exp, log and sums alone, on a network of a few weights."""

from __future__ import annotations

import copy
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn

from bundle.table.threats import Threat
from pipeline.methods import Batch, Method, Task, method_class

THREAT = Threat("linf", 16)
CLASSES, SHAPE = 4, (1, 4, 4)


class TinyNetwork(nn.Module):
    """Images (N, 1, 4, 4) to logits (N, 4), smooth, with BatchNorm, so that a wrong mode or a missing pass shows."""

    def __init__(self) -> None:
        super().__init__()
        self.convolution = nn.Conv2d(1, 3, 3, padding=1)
        self.normalisation = nn.BatchNorm2d(3)
        self.linear = nn.Linear(3 * 16, CLASSES)

    def forward(self, images: Tensor) -> Tensor:
        return self.linear(torch.tanh(self.normalisation(self.convolution(images))).flatten(1))


def build(name: str, images: int = 12, extra: int = 0, **settings: Any) -> Method:
    """A method on tiny networks whose BatchNorm statistics are not the initial ones, in train mode."""
    kind = method_class(name)
    method = kind(
        kind.Settings.model_validate(settings), Task(THREAT, CLASSES, images, SHAPE, extra), lambda role: TinyNetwork()
    )
    with torch.no_grad():
        for network in networks_of(method):
            for _ in range(3):
                network.train()(torch.rand(16, *SHAPE))
    return method.train()


def networks_of(method: Method) -> list[nn.Module]:
    return [network for network in (method.target, getattr(method, "guide", None)) if network is not None]


def batch(size: int = 6, epoch: int = 0, step: int = 0, seed: int = 5) -> Batch:
    """Random images, some pixels at 0 and 1, where clipping bites; the index is a shuffled part of 12 rows."""
    generator = torch.Generator().manual_seed(seed)
    images = (torch.rand(size, *SHAPE, generator=generator) * 1.4 - 0.2).clamp(0, 1)
    labels = torch.randint(CLASSES, (size,), generator=generator)
    return Batch(images, labels, torch.randperm(12, generator=generator)[:size], epoch, 10, step)


def log_p(logits: Tensor) -> Tensor:
    return logits - logits.exp().sum(dim=1, keepdim=True).log()


def p(logits: Tensor) -> Tensor:
    return logits.exp() / logits.exp().sum(dim=1, keepdim=True)


def kl_terms(a: Tensor, b: Tensor) -> Tensor:
    """p_a (log p_a − log p_b), (N, K): summed over classes this is KL(a‖b)."""
    return p(a) * (log_p(a) - log_p(b))


def kl_element(a: Tensor, b: Tensor) -> Tensor:
    return kl_terms(a, b).sum() / a.numel()


def kl_batchmean(a: Tensor, b: Tensor) -> Tensor:
    return kl_terms(a, b).sum() / len(a)


def cross_entropy(logits: Tensor, labels: Tensor) -> Tensor:
    return -sum(log_p(logits)[row, label] for row, label in enumerate(labels.tolist())) / len(labels)


def smoothed(logits: Tensor, labels: Tensor, weight: float) -> Tensor:
    """Cross-entropy with `weight` on the label and (1 − weight)/(K − 1) on each other class."""
    target = torch.full_like(logits, (1 - weight) / (logits.shape[1] - 1))
    for row, label in enumerate(labels.tolist()):
        target[row, label] = weight
    return -(target * log_p(logits)).sum() / len(labels)


def mean_square(a: Tensor, b: Tensor) -> Tensor:
    return ((a - b) ** 2).sum() / a.numel()


def clip(images: Tensor, clean: Tensor, eps: float) -> Tensor:
    lower, upper = (clean - eps).clamp_min(0), (clean + eps).clamp_max(1)
    return torch.where(images < lower, lower, torch.where(images > upper, upper, images))


def value_and_gradients(loss: Callable[[Method], Tensor], method: Method) -> tuple[Tensor, dict[str, Tensor]]:
    """The loss and its gradient in every parameter (0 where none arrives), on a copy of the method."""
    method = copy.deepcopy(method)
    value = loss(method)
    value.backward()
    gradients = {
        name: torch.zeros_like(parameter) if parameter.grad is None else parameter.grad
        for name, parameter in method.named_parameters()
    }
    return value.detach(), gradients


def assert_same_loss(method: Method, expected: Callable[[Method], Tensor], found: Callable[[Method], Tensor]) -> None:
    """Value and all gradients to a relative 1e-10; one gradient at least is not zero."""
    wanted, wanted_gradients = value_and_gradients(expected, method)
    value, gradients = value_and_gradients(found, method)
    torch.testing.assert_close(value, wanted, rtol=1e-10, atol=0)
    assert value.dtype == torch.float64
    for name, gradient in gradients.items():
        torch.testing.assert_close(
            gradient, wanted_gradients[name], rtol=1e-9, atol=1e-13, msg=lambda m, n=name: f"{n}: {m}"
        )
    assert any(gradient.abs().max() > 1e-3 for gradient in gradients.values())
