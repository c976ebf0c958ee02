"""Each layer's three maps agree with the module: W x + b, |W| x, and the transpose."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn

from pipeline.certification.layers import Affine
from pipeline.certification.program import read
from pipeline.networks.blocks import Normalise


class Pooled(nn.Module):
    def forward(self, features: Tensor) -> Tensor:
        return features.mean(dim=(2, 3))


def normalised() -> nn.BatchNorm2d:
    module = nn.BatchNorm2d(4)
    nn.init.uniform_(module.weight, -1, 1)
    nn.init.uniform_(module.bias, -1, 1)
    assert module.running_mean is not None and module.running_var is not None
    module.running_mean.uniform_(-1, 1)
    module.running_var.uniform_(0.1, 2)
    return module


MODULES = {
    "conv": lambda: nn.Conv2d(4, 6, 3, padding=1),
    "conv stride 2 at odd and even sides": lambda: nn.Conv2d(4, 6, 3, stride=2, padding=1, bias=False),
    "conv 1x1 stride 2": lambda: nn.Conv2d(4, 3, 1, stride=2),
    "conv groups and dilation": lambda: nn.Conv2d(4, 6, 3, padding=2, dilation=2, groups=2),
    "batchnorm": normalised,
    "batchnorm without affine": lambda: nn.BatchNorm2d(4, affine=False),
    "normalise": lambda: Normalise([0.1, 0.2, 0.3, 0.4], [0.5, 0.6, 0.7, 0.8]),
    "mean": Pooled,
    "adaptive to 1": lambda: nn.AdaptiveAvgPool2d(1),
    "adaptive to uneven cells": lambda: nn.AdaptiveAvgPool2d((4, 3)),
    "flatten": nn.Flatten,
    "linear": lambda: nn.Sequential(nn.Flatten(), nn.Linear(4 * 7 * 10, 5)),
}


@pytest.mark.parametrize("name", MODULES)
def test_value_size_and_transpose_are_the_modules(name: str):
    torch.manual_seed(0)
    module, x = nn.Sequential(MODULES[name]()).double().eval(), torch.randn(3, 4, 7, 10, dtype=torch.float64)
    layers = [step.layer for step in read(module, (4, 7, 10)).steps]
    value, shapes = x, [x.shape[1:]]
    for layer in layers:
        assert isinstance(layer, Affine)
        value = layer(value)
        shapes.append(value.shape[1:])
    torch.testing.assert_close(value, module(x))
    last, before = layers[-1], torch.randn(3, *shapes[-2], dtype=torch.float64)
    rows = torch.randn(3, *shapes[-1], dtype=torch.float64)
    forwards = (last.linear(before) * rows).flatten(1).sum(1)
    torch.testing.assert_close((before * last.transposed(rows, shapes[-2])).flatten(1).sum(1), forwards)
    # Σ |W| over inputs is what one-by-one inputs add up to.
    units = torch.eye(before[0].numel(), dtype=torch.float64).view(-1, *shapes[-2])
    alone = last.linear(units).abs().sum(0)
    torch.testing.assert_close(last.linear(torch.ones(1, *shapes[-2]).double(), absolute=True)[0], alone)
    most = last.linear(units).ne(0).sum(0).max()
    assert last.terms >= most or last.terms == 0 == (last.linear(units).amax() - 1)  # flattening sums nothing
    assert last.terms_back >= last.linear(units).flatten(1).ne(0).sum(1).max()


def test_a_batchnorm_that_may_be_folded_counts_the_convolutions_terms():
    """Its shift is then the first addend of that sum, and rounded as often."""
    steps = read(
        nn.Sequential(nn.Conv2d(4, 6, 3), nn.BatchNorm2d(6), nn.ReLU(), nn.BatchNorm2d(6)).eval(), (4, 8, 8)
    ).steps
    terms = [step.layer.terms for step in steps if isinstance(step.layer, Affine)]
    assert terms == [37, 39, 2]
