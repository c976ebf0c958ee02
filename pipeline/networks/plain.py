"""A network without BatchNorm and shortcuts, through which bounds stay tight: plain4."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from torch import Tensor, nn
from torch.nn import functional as F

from pipeline.networks.blocks import Normalise, Stages

#: The last feature map is averaged to so many cells a side, whatever the image's size; 8x8 digits are there already.
CELLS = 4


class PlainNetwork(nn.Module):
    """3x3 convolutions with bias and ReLU, a hidden layer of eight times `width`, a linear layer.

    The shape is that of the small networks of certified training (Gowal et al. 2018, arXiv 1810.12715, table 1: two
    convolutions, a hidden layer of 100), with filters for small images. plain4 with 10 classes has 72,042
    parameters, and 71,754 with 1 channel. No BatchNorm: interval bounds through it would need statistics of the bounds.
    """

    spec: dict[str, Any]

    def __init__(
        self,
        stages: Stages,
        *,
        classes: int,
        channels: int,
        width: int,
        mean: Sequence[float],
        std: Sequence[float],
    ) -> None:
        super().__init__()
        self.normalise = Normalise(mean, std)
        self.convolutions = nn.ModuleList()
        for outputs, count, stride in stages:
            for block in range(count):
                first = stride if block == 0 else 1
                self.convolutions.append(nn.Conv2d(channels, outputs, kernel_size=3, stride=first, padding=1))
                channels = outputs
        self.cells = nn.AdaptiveAvgPool2d(CELLS)
        self.hidden = nn.Linear(channels * CELLS**2, 8 * width)
        self.linear = nn.Linear(8 * width, classes)

    def forward(self, images: Tensor) -> Tensor:
        """Float images in [0, 1], (N, C, H, W), to logits (N, K)."""
        features = self.normalise(images)
        for convolution in self.convolutions:
            features = F.relu(convolution(features))
        return self.linear(F.relu(self.hidden(self.cells(features).flatten(1))))
