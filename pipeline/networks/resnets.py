"""The residual networks: resnet18, guide_resnet18 and the narrow resnet8 to resnet56 for small images, pre-activation
(preact_resnet18, preact_resnet8) and wide ones (wide_resnet_34_10, 34_1, 28_10 and 30_10).
"""

from __future__ import annotations

import math
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


class WideResNet(PreActResNet):
    """Wide ResNet (Zagoruyko & Komodakis 2016, arXiv 1605.07146) without dropout: pre-activation blocks, wide stages.

    Parameters with 10 classes and 3 channels:

    * wide_resnet_34_10, five blocks a stage: 46,160,474, the standard of robust training since TRADES (arXiv
      1901.08573). The file of TRADES also makes a second first stage that it never uses (`sub_block1`); it is left out.
    * wide_resnet_34_1, the same at the width of an ordinary ResNet: 466,714.
    * wide_resnet_28_10, four blocks a stage: 36,479,194.
    * wide_resnet_30_10: equal to 28-10. The name is in use, but a wide ResNet has 6n + 4 layers and 30 is not such a
      number; code that rounds n down builds this network.

    `width` is the first convolution's channels (16); the stages of a network widened by ten have 10, 20 and 40 times as
    many. The initialisation is that of the TRADES code: convolutions from a normal distribution of variance
    2 / (kernel area * channels out) (He et al. 2015, arXiv 1502.01852, for the backward pass), the linear layer with
    bias 0.
    """

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
        super().__init__(stages, classes=classes, channels=channels, width=width, mean=mean, std=std)
        for module in self.modules():
            if isinstance(module, nn.Conv2d):
                area = module.kernel_size[0] * module.kernel_size[1]
                nn.init.normal_(module.weight, std=math.sqrt(2 / (area * module.out_channels)))
        nn.init.zeros_(self.linear.bias)
