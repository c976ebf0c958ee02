"""An operation is known in all its spellings: as a module, a function, a method, in place, and by hand."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torchvision.transforms import Normalize

from pipeline.certification.program import read
from pipeline.certification.radius import margins
from pipeline.networks.blocks import Normalise
from tests.pipeline.certification.networks import IMAGE, random_images, unit

Body = Callable[["Net", Tensor], Tensor]
MEAN, STD = 0.3, 0.4


class Net(nn.Module):
    """normalise → convolution → BatchNorm → ReLU → + itself padded → pooled → flat → linear, each by its spelling."""

    def __init__(self, **spelled: Body) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.spelled = KNOWN | spelled
        self.convolution, self.linear = nn.Conv2d(1, 4, 3, padding=1), nn.Linear(4, 3)
        self.normalisation, self.batch_norm = Normalise([MEAN], [STD]), nn.BatchNorm2d(4)
        self.register_buffer("mean", torch.full((1, 1, 1), MEAN))
        self.register_buffer("std", torch.full((1, 1, 1), STD))
        nn.init.uniform_(self.batch_norm.weight, -1, 1)
        nn.init.uniform_(self.batch_norm.bias, -0.3, 0.3)
        self.batch_norm.running_mean.uniform_(-0.3, 0.3)
        self.batch_norm.running_var.uniform_(0.2, 1.5)
        self.eval()

    def forward(self, images: Tensor) -> Tensor:
        features = images
        for body in self.spelled.values():
            features = body(self, features)
        return features


KNOWN: dict[str, Body] = {
    "normalise": lambda net, x: net.normalisation(x),
    "convolution": lambda net, x: net.convolution(x),
    "batch_norm": lambda net, x: net.batch_norm(x),
    "relu": lambda net, x: torch.relu(x),
    "sum": lambda net, x: x + x,
    "pool": lambda net, x: x.mean((2, 3)),
    "linear": lambda net, x: net.linear(x),
}


def in_place(change: Callable[[Tensor], object]) -> Body:
    """The features after what was done to them, not what it returned."""

    def body(_: Net, x: Tensor) -> Tensor:
        change(x)
        return x

    return body


def plus_itself(x: Tensor) -> None:
    x += x.clone()


def convolved(net: Net, x: Tensor, **options: Any) -> Tensor:
    return F.conv2d(x, net.convolution.weight, net.convolution.bias, **options)


def normed(net: Net, x: Tensor, *, functional: bool) -> Tensor:
    norm = net.batch_norm
    running, affine = (norm.running_mean, norm.running_var), (norm.weight, norm.bias)
    if functional:
        return F.batch_norm(x, *running, *affine, net.training, eps=norm.eps)
    return torch.batch_norm(x, *affine, *running, net.training, 0.1, norm.eps, False)


SPELLINGS: dict[str, list[Body]] = {
    "normalise": [
        lambda net, x: (x - MEAN) / STD,
        lambda net, x: (x - net.mean) / net.std,
        lambda net, x: x.sub(net.mean[None]).div(net.std[None]),
        lambda net, x: torch.div(torch.sub(x, MEAN), STD),
        lambda net, x: (x.clone().sub_(net.mean)).div_(net.std),
        lambda net, x: Normalize([MEAN], [STD])(x),
    ],
    "convolution": [
        lambda net, x: convolved(net, x, padding=1),
        lambda net, x: convolved(net, x, padding="same"),
        lambda net, x: convolved(net, F.pad(x, (1, 1, 1, 1))),
        lambda net, x: convolved(net, nn.ZeroPad2d(1)(x)),
        lambda net, x: torch.conv2d(x, net.convolution.weight, net.convolution.bias, 1, 1),
        lambda net, x: convolved(net, x, padding=2)[:, :, 1:-1, 1:-1],
        lambda net, x: F.conv2d(x, net.convolution.weight, padding=1) + net.convolution.bias[:, None, None],
    ],
    "batch_norm": [
        lambda net, x: normed(net, x, functional=True),
        lambda net, x: normed(net, x, functional=False),
        lambda net, x: net.batch_norm(F.dropout(x, 0.5, net.training)),
        lambda net, x: net.batch_norm(nn.Identity()(x)).contiguous(),
    ],
    "relu": [
        lambda net, x: nn.ReLU()(x),
        lambda net, x: nn.ReLU(inplace=True)(x),
        lambda net, x: F.relu(x),
        lambda net, x: x.relu(),
        lambda net, x: x.clamp(min=0),
        lambda net, x: x.clamp_min(0.0),
        lambda net, x: torch.clip(x, 0),
        lambda net, x: F.threshold(x, 0.0, 0.0),
        lambda net, x: nn.Threshold(0.0, 0.0)(x),
        lambda net, x: torch.maximum(x, torch.tensor(0.0)),
        lambda net, x: torch.max(x, torch.zeros_like(x)),
        lambda net, x: F.hardtanh(x, 0.0, float("inf")),
        in_place(torch.relu_),
        in_place(lambda x: F.relu(x, inplace=True)),
        in_place(lambda x: x.clamp_(min=0)),
    ],
    "sum": [
        lambda net, x: torch.add(x, x),
        lambda net, x: x.add(x),
        lambda net, x: sum([x, x]),
        lambda net, x: torch.add(x, x, alpha=1),
        in_place(lambda x: x.add_(x.clone())),
        in_place(plus_itself),
    ],
    "pool": [
        lambda net, x: F.avg_pool2d(x, 8).flatten(1),
        lambda net, x: F.avg_pool2d(x, x.size()[3]).view(x.size(0), -1),
        lambda net, x: F.avg_pool2d(x, x.shape[2:]).squeeze(-1).squeeze(-1),
        lambda net, x: nn.AvgPool2d(8)(x).reshape(-1, 4),
        lambda net, x: F.adaptive_avg_pool2d(x, 1).squeeze(),
        lambda net, x: nn.AdaptiveAvgPool2d((1, 1))(x)[:, :, 0, 0],
        lambda net, x: nn.Flatten()(nn.AdaptiveAvgPool2d(1)(x)),
        lambda net, x: torch.flatten(F.adaptive_avg_pool2d(x, output_size=(1, 1)), start_dim=1),
        lambda net, x: torch.mean(x, dim=[-1, -2]),
        lambda net, x: x.mean(axis=(2, 3), keepdims=True).view(len(x), 4),
        lambda net, x: x.view(x.size(0), x.size(1), -1).mean(2),
        lambda net, x: x.flatten(2).mean(-1),
        lambda net, x: x.permute(0, 2, 3, 1).mean((1, 2)),
        lambda net, x: x.sum((2, 3)) / 64,
    ],
    "linear": [
        lambda net, x: F.linear(x, net.linear.weight, net.linear.bias),
        lambda net, x: x @ net.linear.weight.T + net.linear.bias,
        lambda net, x: torch.matmul(x, net.linear.weight.t()).add(net.linear.bias),
        lambda net, x: torch.addmm(net.linear.bias, x, net.linear.weight.T),
        lambda net, x: net.linear(x)[:, [2, 0, 1]].index_select(1, torch.tensor([1, 2, 0])),
    ],
}
CASES = [
    pytest.param(operation, spelling, id=f"{operation}-{number}")
    for operation, spellings in SPELLINGS.items()
    for number, spelling in enumerate(spellings)
]


def bounds(network: nn.Module) -> list[Tensor]:
    """By intervals, and by CROWN with affine forms, at one radius."""
    images, eps = unit(random_images(2)), torch.full((2,), 2 / 255, dtype=torch.float64)
    program = read(network, IMAGE)
    labels = network(images.float()).argmax(1)
    return [margins(program, images, labels, eps, technique=name) for name in ("ibp", "crown-forward")]


@pytest.fixture(scope="module")
def known() -> list[Tensor]:
    found = bounds(Net())
    assert all((each > -1).all() for each in found) and (found[1] > found[0]).any(), "bounds that say something"
    return found


@pytest.mark.parametrize(("operation", "spelling"), CASES)
def test_the_bounds_are_those_of_the_known_spelling(operation: str, spelling: Body, known: list[Tensor]):
    """They may differ by what rounding is allowed for: some spellings round once more."""
    for found, expected in zip(bounds(Net(**{operation: spelling})), known, strict=True):
        torch.testing.assert_close(found, expected, rtol=0, atol=1e-4)


def test_the_padded_shortcut_of_small_resnets_is_known():
    """Every second pixel, and zeros for the channels that are new (He et al. 2016, option A)."""

    def shortcut(net: Net, x: Tensor) -> Tensor:
        return F.pad(x[:, :, ::2, ::2], (0, 0, 0, 0, 1, 1), "constant", 0)[:, 1:5]

    network, images = Net(sum=shortcut).double(), unit(random_images(2))
    bound = margins(read(network, IMAGE), images, network(images).argmax(1), torch.zeros(2).double(), technique="ibp")
    top = network(images).sort(1, descending=True).values
    torch.testing.assert_close(bound.amin(1), top[:, 0] - top[:, 1], rtol=0, atol=1e-4)
