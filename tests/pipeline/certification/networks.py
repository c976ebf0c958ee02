"""Networks with weights and BatchNorm statistics that are not the neutral ones, for images of 8x8 pixels."""

from __future__ import annotations

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from pipeline.certification.layers import Affine
from pipeline.certification.program import Program
from pipeline.networks import build_network

IMAGE = (1, 8, 8)
NAMES = ("plain4", "resnet8", "preact_resnet8", "wide_resnet_34_10")
#: Those through which CROWN's own intermediate bounds take no minutes.
SHALLOW = NAMES[:3]


def random_network(name: str, seed: int = 0, width: int | None = None) -> nn.Module:
    """A narrow network in eval mode; every BatchNorm has its own mean, variance, scale (some negative) and shift."""
    torch.manual_seed(seed)
    narrow = width or (1 if name.startswith("wide") else 8)
    network = build_network(name, classes=5, channels=1, width=narrow, mean=[0.3], std=[0.4])
    for module in network.modules():
        if isinstance(module, nn.BatchNorm1d | nn.BatchNorm2d):
            nn.init.uniform_(module.weight, -0.5, 1.2)
            nn.init.uniform_(module.bias, -0.3, 0.3)
            module.running_mean.uniform_(-0.3, 0.3)
            module.running_var.uniform_(0.2, 1.5)
    return network.eval()


def random_images(count: int, seed: int = 1) -> NDArray[np.uint8]:
    """Images (N, 8, 8, 1) with pixels at 0 and 255, where the ball is cut."""
    values = np.random.default_rng(seed).normal(128, 110, (count, 8, 8, 1))
    return np.clip(np.rint(values), 0, 255).astype(np.uint8)


def unit(images: NDArray[np.uint8], dtype: torch.dtype = torch.float64) -> Tensor:
    return torch.from_numpy(images).permute(0, 3, 1, 2).to(dtype) / 255


def own_labels(network: nn.Module, images: NDArray[np.uint8]) -> Tensor:
    """The classes that the network answers, so that there is something to prove."""
    with torch.no_grad():
        return network(unit(images, torch.float32)).argmax(1)


def evaluated(program: Program, images: Tensor) -> list[Tensor]:
    """The values of every node."""
    values = [images]
    for step in program.steps:
        inputs = [values[number] for number in step.inputs]
        if isinstance(step.layer, Affine):
            values.append(step.layer(inputs[0]))
        else:
            values.append(sum(inputs) if step.layer is None else step.layer(inputs[0]))
    return values


def points(images: Tensor, eps: float, count: int, seed: int = 2) -> Tensor:
    """`count` images (count, N, C, H, W) in each image's ball and [0, 1]: a third corners, a third faces, a third inside."""
    generator = torch.Generator().manual_seed(seed)
    moves = torch.rand(count, *images.shape, generator=generator, dtype=images.dtype) * 2 - 1
    moves[0::3] = moves[0::3].sign()
    moves[1::3] = (3 * moves[1::3]).clamp(-1, 1)
    return (images + eps * moves).clamp(0, 1)
