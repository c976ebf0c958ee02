"""Wide residual networks: wide_resnet_34_10, wide_resnet_34_1, wide_resnet_28_10 and wide_resnet_30_10."""

from __future__ import annotations

import math
from collections.abc import Sequence

from torch import nn

from pipeline.networks.blocks import Stages
from pipeline.networks.preact_resnet import PreActResNet


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
    many. The initialisation
    is that of the TRADES code: convolutions from a normal distribution of variance 2 / (kernel area * channels out)
    (He et al. 2015, arXiv 1502.01852, for the backward pass), the linear layer with bias 0.
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
