"""What all networks share: normalisation at the entrance, stages of residual blocks, pooling over all pixels."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from pipeline.networks.names import NetworkError

Stages = Sequence[tuple[int, int, int]]  # channels, number of blocks, stride of the first block


class Normalise(nn.Module):
    """(images - mean) / std for each channel; mean 0 and std 1 leave the images as they are, bit for bit.

    The values are buffers, so they move with the network and are saved with its weights. Raises NetworkError for images
    that are not float or have another number of channels, which broadcasting would let through unnoticed.
    """

    mean: Tensor
    std: Tensor

    def __init__(self, mean: Sequence[float], std: Sequence[float]) -> None:
        super().__init__()
        self.register_buffer("mean", torch.tensor(mean, dtype=torch.float32).view(-1, 1, 1))
        self.register_buffer("std", torch.tensor(std, dtype=torch.float32).view(-1, 1, 1))

    def forward(self, images: Tensor) -> Tensor:
        """Images and result: float, (N, C, H, W)."""
        if images.ndim != 4 or images.shape[1] != self.mean.shape[0] or not images.is_floating_point():
            raise NetworkError(
                f"network input: must be float images in [0, 1] of shape (N, {self.mean.shape[0]}, H, W), "
                f"got {images.dtype} of shape {tuple(images.shape)}"
            )
        return (images - self.mean) / self.std


class Cells(nn.Module):
    """Maps (N, C, H, W) to (N, C, side, side): larger ones are averaged, smaller ones have zeros to their right and below.

    Zeros, and not pixels that are repeated: bounds would count every repetition as if it moved by itself.
    """

    def __init__(self, side: int) -> None:
        super().__init__()
        self.side = side

    def forward(self, features: Tensor) -> Tensor:
        """(N, C, H, W) to (N, C, side, side)."""
        high, wide = (min(self.side, length) for length in features.shape[-2:])
        averaged = F.adaptive_avg_pool2d(features, (high, wide))
        if high == wide == self.side:
            return averaged
        return F.pad(averaged, (0, self.side - wide, 0, self.side - high))


def conv3x3(inputs: int, outputs: int, stride: int = 1) -> nn.Conv2d:
    """A 3x3 convolution that keeps the size at stride 1; no bias, as BatchNorm has one."""
    return nn.Conv2d(inputs, outputs, kernel_size=3, stride=stride, padding=1, bias=False)


def conv1x1(inputs: int, outputs: int, stride: int) -> nn.Conv2d:
    """The projection of a shortcut whose size or number of channels changes; no bias."""
    return nn.Conv2d(inputs, outputs, kernel_size=1, stride=stride, bias=False)


def residual_stages(block: Callable[[int, int, int], nn.Module], inputs: int, stages: Stages) -> nn.Sequential:
    """One nn.Sequential of blocks a stage, in an nn.Sequential; `block` takes channels in, channels out, stride."""
    result = nn.Sequential()
    for channels, count, stride in stages:
        first = block(inputs, channels, stride)
        result.append(nn.Sequential(first, *(block(channels, channels, 1) for _ in range(count - 1))))
        inputs = channels
    return result


def pool(features: Tensor) -> Tensor:
    """(N, C, H, W) to (N, C): the mean over all pixels, so that any image size fits."""
    return features.mean(dim=(2, 3))


def to_unit(images: Tensor) -> Tensor:
    """uint8 images to float32 in [0, 1]: always a division by 255, which the exported graph repeats bit for bit."""
    return images.to(torch.float32) / 255
