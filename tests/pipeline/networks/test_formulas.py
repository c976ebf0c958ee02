"""Each family against its paper, written out once more with plain functions over the weights by name."""

from collections.abc import Callable

import pytest
import torch
from torch import Tensor
from torch.nn import functional as F

from pipeline.networks import build_network

Weights = dict[str, Tensor]


def conv(weights: Weights, name: str, features: Tensor, stride: int = 1) -> Tensor:
    weight = weights[f"{name}.weight"]
    return F.conv2d(features, weight, stride=stride, padding=weight.shape[-1] // 2)


def norm(weights: Weights, name: str, features: Tensor) -> Tensor:
    mean, variance = (weights[f"{name}.running_{kind}"].view(-1, 1, 1) for kind in ("mean", "var"))
    scale, shift = (weights[f"{name}.{kind}"].view(-1, 1, 1) for kind in ("weight", "bias"))
    return (features - mean) / (variance + 1e-5).sqrt() * scale + shift


def basic_block(weights: Weights, name: str, features: Tensor, stride: int) -> Tensor:
    """y = ReLU(F(x) + shortcut(x)), F = BN conv ReLU BN conv (read from the right)."""
    out = F.relu(norm(weights, f"{name}.bn1", conv(weights, f"{name}.conv1", features, stride)))
    out = norm(weights, f"{name}.bn2", conv(weights, f"{name}.conv2", out))
    if f"{name}.shortcut.0.weight" in weights:
        features = norm(weights, f"{name}.shortcut.1", conv(weights, f"{name}.shortcut.0", features, stride))
    return F.relu(out + features)


def preact_block(weights: Weights, name: str, features: Tensor, stride: int) -> Tensor:
    """y = F(x) + shortcut, F = conv ReLU BN conv ReLU BN; a projection takes the activated input, not the input."""
    active = F.relu(norm(weights, f"{name}.bn1", features))
    out = F.relu(norm(weights, f"{name}.bn2", conv(weights, f"{name}.conv1", active, stride)))
    out = conv(weights, f"{name}.conv2", out)
    if f"{name}.shortcut.weight" in weights:
        features = conv(weights, f"{name}.shortcut", active, stride)
    return out + features


Block = Callable[[Weights, str, Tensor, int], Tensor]


def logits(weights: Weights, images: Tensor, block: Block, blocks: list[int], strides: list[int]) -> Tensor:
    features = conv(weights, "conv", images)
    if block is basic_block:
        features = F.relu(norm(weights, "bn", features))
    for stage, (count, stride) in enumerate(zip(blocks, strides, strict=True)):
        for index in range(count):
            features = block(weights, f"stages.{stage}.{index}", features, stride if index == 0 else 1)
    if block is preact_block:
        features = F.relu(norm(weights, "bn", features))
    return features.mean((2, 3)) @ weights["linear.weight"].T + weights["linear.bias"]


@pytest.mark.parametrize(
    ("name", "width", "block", "blocks", "strides"),
    [
        ("resnet8", 4, basic_block, [1, 1, 1], [1, 2, 2]),
        ("resnet18", 4, basic_block, [2, 2, 2, 2], [1, 2, 2, 2]),
        ("guide_resnet18", 4, basic_block, [2, 2, 2, 2], [1, 1, 2, 2]),
        ("preact_resnet8", 4, preact_block, [1, 1, 1], [1, 2, 2]),
        ("preact_resnet18", 4, preact_block, [2, 2, 2, 2], [1, 2, 2, 2]),
        ("wide_resnet_34_10", 1, preact_block, [5, 5, 5], [1, 2, 2]),
        ("wide_resnet_30_10", 1, preact_block, [4, 4, 4], [1, 2, 2]),
    ],
)
def test_logits_equal_the_formula(name: str, width: int, block: Block, blocks: list[int], strides: list[int]) -> None:
    generator = torch.Generator().manual_seed(0)
    network = build_network(name, classes=5, channels=3, width=width).double().eval()
    for tensor in [value for key, value in network.state_dict().items() if "bn" in key or "shortcut.1" in key]:
        if tensor.is_floating_point():  # neutral BatchNorm would hide a wrong order
            tensor.uniform_(0.5, 1.5, generator=generator)
    images = torch.rand(3, 3, 16, 16, dtype=torch.float64, generator=generator)
    expected = logits(network.state_dict(), images, block, blocks, strides)
    torch.testing.assert_close(network(images), expected)
