"""Small networks on the digits, trained in seconds: honest, undefended, and defences that only look robust.

What tests expect of their accuracies holds for fifteen seeds of weights and of the order of the images, which differ more
than the same seed does between processors.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import cache

import torch
from sklearn.datasets import load_digits
from torch import Tensor, nn
from torch.nn import functional

from bundle.table.threats import Threat
from pipeline.attacks.pgd import fgsm, pgd
from pipeline.evaluation.victim import Sample
from pipeline.networks.blocks import to_unit

THREAT = Threat("linf", 32)
#: Single steps of this size overfit within seconds; at 32/255 the digits' loss is too straight for it.
COLLAPSE = Threat("linf", 88)
TEST_IMAGES = 100

Craft = Callable[[nn.Module, Tensor, Tensor, Tensor], Tensor]


@cache
def digits() -> Sample:
    """All 1,797 digits in a fixed random order; the last TEST_IMAGES are for testing."""
    values, labels = load_digits(return_X_y=True)
    order = torch.randperm(len(labels), generator=torch.Generator().manual_seed(0))
    images = to_unit(torch.from_numpy((values * 255 / 16).round()).to(torch.uint8).view(-1, 1, 8, 8))
    return Sample(images[order], torch.from_numpy(labels).long()[order], order)


def held_out() -> Sample:
    """The images for testing, numbered from 0."""
    everything = digits()
    rows = slice(-TEST_IMAGES, None)
    return Sample(everything.images[rows], everything.labels[rows], torch.arange(TEST_IMAGES))


def train(network: nn.Module, craft: Craft, *, epochs: int, rate: float, seed: int = 0) -> nn.Module:
    """Cross-entropy on crafted images, Adam, batches of 100; in eval mode at the end."""
    everything, order = digits(), torch.Generator().manual_seed(seed)
    optimiser = torch.optim.Adam(network.parameters(), lr=rate)
    for _ in range(epochs):
        for rows in torch.randperm(len(everything) - TEST_IMAGES, generator=order).split(100):
            images, labels = everything.images[rows], everything.labels[rows]
            crafted = craft(network, images, labels, everything.index[rows])
            optimiser.zero_grad()
            functional.cross_entropy(network(crafted), labels).backward()
            optimiser.step()
    return network.eval()


def convolutions(width: int = 16) -> nn.Module:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        return nn.Sequential(
            nn.Conv2d(1, width, 3, padding=1),
            nn.ReLU(),
            nn.Conv2d(width, 2 * width, 3, stride=2, padding=1),
            nn.ReLU(),
            nn.Flatten(),
            nn.Linear(32 * width, 64),
            nn.ReLU(),
            nn.Linear(64, 10),
        )


def perceptron(width: int = 256) -> nn.Module:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        return nn.Sequential(
            nn.Flatten(), nn.Linear(64, width), nn.ReLU(), nn.Linear(width, width), nn.ReLU(), nn.Linear(width, 10)
        )


@cache
def undefended() -> nn.Module:
    """Trained on clean images."""
    return train(convolutions(), lambda network, images, labels, index: images, epochs=9, rate=3e-3)


@cache
def honest() -> nn.Module:
    """PGD adversarial training at THREAT, 4 steps."""

    def craft(network: nn.Module, images: Tensor, labels: Tensor, index: Tensor) -> Tensor:
        return pgd(network, images, labels, threat=THREAT, seed=0, index=index, steps=4, relative_step=0.4)

    return train(convolutions(), craft, epochs=9, rate=3e-3)


@cache
def collapsed() -> nn.Module:
    """Trained at COLLAPSE with one full step from the clean image, until it overfits to that step."""

    def craft(network: nn.Module, images: Tensor, labels: Tensor, index: Tensor) -> Tensor:
        return fgsm(network, images, labels, threat=COLLAPSE)

    # At half the rate some seeds' collapse is too shallow for the check; at this one none's of 22.
    return train(perceptron(), craft, epochs=60, rate=2e-3)


class Saturated(nn.Module):
    """Logits so large that the softmax is exactly 1 and cross-entropy has no gradient."""

    def __init__(self, network: nn.Module, scale: float = 1e4) -> None:
        super().__init__()
        self.network, self.scale = network, scale

    def forward(self, images: Tensor) -> Tensor:
        return self.scale * self.network(images)


class Probabilities(Saturated):
    """Answers with a saturated softmax in place of logits."""

    def forward(self, images: Tensor) -> Tensor:
        return super().forward(images).softmax(1)


class Rounded(nn.Module):
    """Rounds its input to a few levels: the gradient is zero everywhere."""

    def __init__(self, network: nn.Module, levels: int = 8) -> None:
        super().__init__()
        self.network, self.levels = network, levels

    def forward(self, images: Tensor) -> Tensor:
        return self.network((images * self.levels).round() / self.levels)


class Noisy(nn.Module):
    """Adds noise to its input, other noise each time."""

    def __init__(self, network: nn.Module, sigma: float = 0.2) -> None:
        super().__init__()
        self.network, self.sigma = network, sigma

    def forward(self, images: Tensor) -> Tensor:
        return self.network(images + self.sigma * torch.randn_like(images))
