"""Networks without shortcuts, through which bounds stay tight: plain4, and cnn7 with BatchNorm."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, ClassVar

from torch import Tensor, nn
from torch.nn import functional as F

from pipeline.networks.blocks import Cells, Normalise, Stages


class PlainNetwork(nn.Module):
    """3x3 convolutions with bias and ReLU, a hidden layer of eight times `width`, a linear layer.

    The shape is that of the small networks of certified training (Gowal et al. 2018, arXiv 1810.12715, table 1: two
    convolutions, a hidden layer of 100), with filters for small images. plain4 with 10 classes has 72,042
    parameters, and 71,754 with 1 channel. No BatchNorm: interval bounds through it would need statistics of the bounds.
    """

    spec: dict[str, Any]
    #: The last feature map has so many cells a side, whatever the image's size; in plain4 8x8 digits are there already.
    CELLS: ClassVar[int] = 4

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
        self.cells = Cells(self.CELLS)
        self.hidden = nn.Linear(channels * self.CELLS**2, 8 * width)
        self.linear = nn.Linear(8 * width, classes)

    def forward(self, images: Tensor) -> Tensor:
        """Float images in [0, 1], (N, C, H, W), to logits (N, K)."""
        features = self.normalise(images)
        for convolution in self.convolutions:
            features = F.relu(convolution(features))
        return self.linear(F.relu(self.hidden(self.cells(features).flatten(1))))


class CNN(PlainNetwork):
    """The same with BatchNorm after every layer but the last, and a finer map: cnn7 of certified training.

    As in CTBench's code (Mao et al. 2024, arXiv 2406.04848, `cnn_7layer_bn`): with 10 classes and 3 channels it has
    17,192,650 parameters. There it is for 32x32 pixels and, with one more stride, for 64x64; here larger maps are averaged
    to its 16x16 cells, and smaller ones fill a corner of them. Bounds take BatchNorm's running statistics.
    """

    CELLS = 16

    def __init__(self, stages: Stages, *, width: int, **options: Any) -> None:
        super().__init__(stages, width=width, **options)
        self.norms = nn.ModuleList(nn.BatchNorm2d(outputs) for outputs, count, _ in stages for _ in range(count))
        self.hidden_norm = nn.BatchNorm1d(8 * width)

    def forward(self, images: Tensor) -> Tensor:
        """Float images in [0, 1], (N, C, H, W), to logits (N, K)."""
        features = self.normalise(images)
        for convolution, norm in zip(self.convolutions, self.norms, strict=True):
            features = F.relu(norm(convolution(features)))
        return self.linear(F.relu(self.hidden_norm(self.hidden(self.cells(features).flatten(1)))))
