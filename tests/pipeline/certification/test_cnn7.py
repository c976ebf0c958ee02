"""cnn7's bounds: its BatchNorms by hand in float64, all techniques on points of the ball, and the file that is served."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from bundle.served.runtime import OnnxClassifier
from pipeline.certification.intervals import box, propagate
from pipeline.certification.program import read
from pipeline.certification.radius import Technique, margins
from pipeline.networks import build_network
from pipeline.networks.serialisation import to_onnx
from tests.pipeline.certification.networks import (
    IMAGE,
    evaluated,
    own_labels,
    points,
    random_images,
    random_network,
    unit,
)


def narrow(seed: int = 0) -> nn.Module:
    """Width 2: 5 convolutions of 2 and 4 filters, a hidden layer of 16."""
    return random_network("cnn7", seed, width=2)


def layers_by_hand(network: nn.Module) -> Iterator[nn.Module]:
    """The affine maps between ReLUs, in order, each as a module of its own."""
    network.eval()
    convolutions, norms = (list(network.get_submodule(name).children()) for name in ("convolutions", "norms"))
    for number, (convolution, norm) in enumerate(zip(convolutions, norms, strict=True)):
        yield nn.Sequential(*([network.get_submodule("normalise")] if number == 0 else []), convolution, norm)
    hidden = (network.get_submodule(name) for name in ("cells", "hidden", "hidden_norm"))
    cells, linear, norm = hidden
    yield nn.Sequential(cells, nn.Flatten(), linear, norm)
    yield network.get_submodule("linear")


def box_by_hand(layer: nn.Module, lower: Tensor, upper: Tensor) -> tuple[Tensor, Tensor]:
    """The ends of W x + b from its matrix: positive weights meet their own end, negative ones the other."""
    shape = lower.shape[1:]
    units = torch.eye(shape.numel(), dtype=lower.dtype).view(-1, *shape)
    bias = layer(torch.zeros(1, *shape, dtype=lower.dtype))
    matrix = (layer(units) - bias).flatten(1)
    positive, negative = matrix.clamp_min(0), matrix.clamp_max(0)
    low, high = lower.flatten(1), upper.flatten(1)
    size = bias.shape[1:]
    return (
        (low @ positive + high @ negative).view(-1, *size) + bias,
        (high @ positive + low @ negative).view(-1, *size) + bias,
    )


@torch.no_grad()
def test_intervals_are_those_of_the_matrices_by_hand():
    """Every matrix written out from its units, BatchNorm with its running statistics inside; to twelve digits."""
    network, images = narrow().double(), unit(random_images(2))
    eps = torch.full((2,), 3 / 255, dtype=torch.float64)
    start = box(images, eps, rounded=False)
    lower, upper = start
    layers = list(layers_by_hand(network))
    for number, layer in enumerate(layers):
        lower, upper = box_by_hand(layer, lower, upper)
        if number < len(layers) - 1:
            lower, upper = lower.clamp_min(0), upper.clamp_min(0)
    found = propagate(read(network, IMAGE), start, rounded=False).nodes[-1]
    torch.testing.assert_close(found.lower, lower, rtol=1e-12, atol=1e-12)
    torch.testing.assert_close(found.upper, upper, rtol=1e-12, atol=1e-12)
    assert (upper > lower).all()


@torch.no_grad()
def test_the_program_is_the_network_in_eval_mode_whatever_its_mode():
    """32x32 pixels, where the cells are the pixels of the last map, and 8x8, where most cells are zeros."""
    for side in (8, 32):
        network = build_network("cnn7", classes=3, channels=1, width=2).double()
        network(torch.rand(8, 1, side, side, dtype=torch.float64))  # statistics that are not 0 and 1
        program = read(network.train(), (1, side, side))
        images = torch.rand(2, 1, side, side, dtype=torch.float64)
        torch.testing.assert_close(evaluated(program, images)[-1], network.eval()(images))


@pytest.mark.parametrize("technique", ["ibp", "crown-ibp", "crown-forward", "crown"])
@torch.no_grad()
def test_no_margin_of_the_ball_lies_below_its_bound(technique: Technique):
    network, images = narrow(), random_images(2)
    labels, eps = own_labels(network, images), 2 / 255
    bound = margins(
        read(network, IMAGE), unit(images), labels, torch.full((2,), eps, dtype=torch.float64), technique=technique
    )
    for point in points(unit(images, torch.float32), eps, 90):
        logits = network(point).double()
        others = torch.ones_like(logits, dtype=torch.bool).scatter(1, labels[:, None], False)
        assert (logits.gather(1, labels[:, None]) - logits[others].view(2, -1) >= bound).all()


def test_the_file_that_is_served_keeps_the_bounds():
    network, images = narrow(), random_images(3)
    served = OnnxClassifier(to_onnx(network, (8, 8, 1), opset=20), threads=1, device="cpu")
    labels, random = own_labels(network, images), np.random.default_rng(0)
    bound = margins(
        read(network, IMAGE), unit(images), labels, torch.full((3,), 2 / 255, dtype=torch.float64), technique="crown"
    )
    for _ in range(10):
        near = np.clip(images.astype(int) + 2 * random.choice([-1, 1], size=images.shape), 0, 255).astype(np.uint8)
        logits = torch.from_numpy(served.logits(near)).double()
        others = torch.ones_like(logits, dtype=torch.bool).scatter(1, labels[:, None], False)
        assert (logits.gather(1, labels[:, None]) - logits[others].view(3, -1) >= bound).all()
