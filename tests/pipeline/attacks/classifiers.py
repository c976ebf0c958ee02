"""Classifiers small enough to know by heart."""

from __future__ import annotations

import torch
from torch import Tensor, nn

SHAPE = (1, 4, 4)


class Linear(nn.Module):
    """Logits W x + b, float64 unless told otherwise: its smallest successful radii have a closed form."""

    def __init__(self, classes: int = 4, seed: int = 0, dtype: torch.dtype = torch.float64) -> None:
        super().__init__()
        generator = torch.Generator().manual_seed(seed)
        self.weight = nn.Parameter(torch.randn(classes, 16, generator=generator, dtype=torch.float64).to(dtype))
        self.bias = nn.Parameter(-self.weight.detach().sum(dim=1) / 2)

    def forward(self, images: Tensor) -> Tensor:
        return images.flatten(1) @ self.weight.T + self.bias

    def smallest_radius(self, images: Tensor, labels: Tensor, norm: str = "linf") -> Tensor:
        """min over k ≠ y of (z_y − z_k)/‖w_y − w_k‖*, (N,), in the dual norm: exact where the ball lies in [0, 1]."""
        dual = {"linf": 1, "l2": 2, "l1": torch.inf}[norm]
        radii = []
        for logits, label in zip(self(images).detach(), labels.tolist(), strict=True):
            others = [k for k in range(len(logits)) if k != label]
            distance = (self.weight[label] - self.weight[others]).detach().norm(dual, dim=1)
            radii.append(((logits[label] - logits[others]) / distance).min())
        return torch.stack(radii)


def perceptron(classes: int = 4, seed: int = 0, dtype: torch.dtype = torch.float64) -> nn.Module:
    """A small network with a curved loss, in eval mode."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        network = nn.Sequential(nn.Flatten(), nn.Linear(16, 24), nn.Tanh(), nn.Linear(24, classes)).to(dtype)
    with torch.no_grad():
        network[1].weight.mul_(6)
        network[3].weight.mul_(6)
    return network.eval()


def images(count: int, seed: int = 0, dtype: torch.dtype = torch.float64, spread: float = 0.6) -> Tensor:
    """Images around grey, so that small balls lie inside [0, 1]; `spread` 1 fills the range."""
    generator = torch.Generator().manual_seed(seed)
    return (0.5 + spread * (torch.rand(count, *SHAPE, generator=generator, dtype=torch.float64) - 0.5)).to(dtype)
