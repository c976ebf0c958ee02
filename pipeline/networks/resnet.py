"""Residual networks for small images: resnet18, guide_resnet18, and the narrow resnet8, resnet20, resnet32, resnet56."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from torch import Tensor, nn
from torch.nn import functional as F

from pipeline.networks.blocks import Normalise, Stages, conv1x1, conv3x3, pool, residual_stages


class BasicBlock(nn.Module):
    """Two 3x3 convolutions with BatchNorm, added to the shortcut, then ReLU (He et al. 2016, figure 2)."""

    def __init__(self, inputs: int, outputs: int, stride: int) -> None:
        super().__init__()
        self.conv1 = conv3x3(inputs, outputs, stride)
        self.bn1 = nn.BatchNorm2d(outputs)
        self.conv2 = conv3x3(outputs, outputs)
        self.bn2 = nn.BatchNorm2d(outputs)
        self.shortcut = nn.Sequential()
        if stride != 1 or inputs != outputs:
            self.shortcut = nn.Sequential(conv1x1(inputs, outputs, stride), nn.BatchNorm2d(outputs))

    def forward(self, features: Tensor) -> Tensor:
        """(N, inputs, H, W) to (N, outputs, H / stride, W / stride), rounded up."""
        out = F.relu(self.bn1(self.conv1(features)))
        return F.relu(self.bn2(self.conv2(out)) + self.shortcut(features))


class ResNet(nn.Module):
    """ResNet (He et al. 2016, arXiv 1512.03385) in its form for CIFAR: 3x3 first convolution, no max pooling.

    Parameters with 10 classes and 3 channels:

    * resnet18, strides 1, 2, 2, 2: 11,173,962, as in TRADES (arXiv 1901.08573) and most later code. At 64x64 it is also
      the guide that the D²R code uses for Tiny ImageNet.
    * guide_resnet18, strides 1, 1, 2, 2: the same 11,173,962 on larger feature maps, 32, 32, 16 and 8 pixels a side for
      32x32 images, so 3.2 times the multiplications. The guide of LBGAT (arXiv 2011.11164) and D²R (arXiv 2506.07056);
      their 8x8 average pool is then the mean over all pixels.
    * resnet20, resnet32, resnet56, three stages of three, five and nine blocks: 272,474, 466,906 and 855,770. The paper's
      own shortcuts pad with zeros, which has 2,752 fewer; projections are what robust training's code has.
    * resnet8, three stages of one block: 78,042, and 77,754 with 1 channel.

    The initialisation is PyTorch's default, as in the code of these papers.
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
        self.bn = nn.BatchNorm2d(width)
        self.stages = residual_stages(BasicBlock, width, stages)
        self.linear = nn.Linear(stages[-1][0], classes)

    def forward(self, images: Tensor) -> Tensor:
        """Float images in [0, 1], (N, C, H, W), to logits (N, K)."""
        features = F.relu(self.bn(self.conv(self.normalise(images))))
        return self.linear(pool(self.stages(features)))
