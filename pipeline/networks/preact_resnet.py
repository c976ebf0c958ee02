"""Pre-activation residual networks for small images: preact_resnet18 and preact_resnet8."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from torch import Tensor, nn
from torch.nn import functional as F

from pipeline.networks.blocks import Normalise, Stages, conv1x1, conv3x3, pool, residual_stages


class PreActBlock(nn.Module):
    """BatchNorm and ReLU before each of two 3x3 convolutions (He et al. 2016, arXiv 1603.05027, figure 1b).

    A shortcut that changes the shape is a convolution of the activated input; any other one is the input itself.
    """

    def __init__(self, inputs: int, outputs: int, stride: int) -> None:
        super().__init__()
        self.bn1 = nn.BatchNorm2d(inputs)
        self.conv1 = conv3x3(inputs, outputs, stride)
        self.bn2 = nn.BatchNorm2d(outputs)
        self.conv2 = conv3x3(outputs, outputs)
        self.shortcut = conv1x1(inputs, outputs, stride) if stride != 1 or inputs != outputs else None

    def forward(self, features: Tensor) -> Tensor:
        """(N, inputs, H, W) to (N, outputs, H / stride, W / stride), rounded up."""
        active = F.relu(self.bn1(features))
        shortcut = features if self.shortcut is None else self.shortcut(active)
        return self.conv2(F.relu(self.bn2(self.conv1(active)))) + shortcut


class PreActResNet(nn.Module):
    """Pre-activation ResNet (He et al. 2016, arXiv 1603.05027), 3x3 first convolution, BatchNorm and ReLU at the end.

    Parameters with 10 classes and 3 channels:

    * preact_resnet18: 11,172,170, as in Rice et al. 2020 (arXiv 2002.11569). Code without the last BatchNorm and ReLU
      has 11,171,146; that of D²R for Tiny ImageNet is such a one, and feeds 2x2 pooled pixels to its linear layer.
    * preact_resnet8, three stages of one block: 77,850, and 77,562 with 1 channel.

    The initialisation is PyTorch's default, as in that code.
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
        self.conv = conv3x3(channels, width)
        self.stages = residual_stages(PreActBlock, width, stages)
        self.bn = nn.BatchNorm2d(stages[-1][0])
        self.linear = nn.Linear(stages[-1][0], classes)

    def forward(self, images: Tensor) -> Tensor:
        """Float images in [0, 1], (N, C, H, W), to logits (N, K)."""
        features = self.stages(self.conv(self.normalise(images)))
        return self.linear(pool(F.relu(self.bn(features))))
