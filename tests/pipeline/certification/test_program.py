"""Reading a network: the steps compute what the network computes, and what is unknown is named in one sentence."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from pipeline.certification.program import UnprovableError, read
from tests.pipeline.certification.networks import IMAGE, NAMES, evaluated, random_images, random_network, unit


@pytest.mark.parametrize("name", NAMES)
def test_the_steps_compute_the_networks_logits(name: str):
    network, images = random_network(name).double(), unit(random_images(3))
    torch.testing.assert_close(evaluated(read(network, IMAGE), images)[-1], network(images), rtol=1e-10, atol=1e-10)


def test_weights_are_read_when_they_are_used():
    network, images = random_network("plain4").double(), unit(random_images(3))
    program = read(network, IMAGE)
    before = evaluated(program, images)[-1]
    with torch.no_grad():
        network.get_parameter("linear.bias").add_(1.0)
    torch.testing.assert_close(evaluated(program, images)[-1], before + 1)


class Calls(nn.Module):
    """A function of the flat image, between two linear layers."""

    def __init__(self, function) -> None:
        super().__init__()
        self.first, self.last, self.function = nn.Linear(64, 8), nn.Linear(8, 3), function

    def forward(self, images: Tensor) -> Tensor:
        return self.last(self.function(self.first(images.flatten(1))))


@pytest.mark.parametrize(
    ("function", "name"),
    [
        (lambda x: x * x, "mul"),
        (torch.tanh, "tanh"),
        (F.gelu, "gelu"),
        (lambda x: F.hardtanh(x, 0.0, 1.0), "hardtanh"),
        (lambda x: x.clamp(min=0.1), "clamp"),
        (lambda x: F.dropout(x, 0.5, True), "dropout"),
        (lambda x: torch.add(x, x, alpha=2), "add"),
        (lambda x: x + x[:, :1], "add"),
        (torch.reciprocal, "reciprocal"),
        (lambda x: x[:, None].mean(1, dtype=torch.float64).float(), "mean"),
        (lambda x: x - x.mean(0), "mean"),
        (lambda x: x + torch.rand(8), "rand"),
        (lambda x: x[:, [0, 0, 1, 2, 3, 4, 5, 6]], "getitem"),
        (lambda x: F.pad(x[:, 1:], (1, 0), value=1.0), "pad"),
        (lambda x: x[[2, 1, 0]], "getitem"),
    ],
)
def test_an_unknown_operation_is_named_with_its_line(function, name: str):
    with pytest.raises(
        UnprovableError,
        match=rf"^nothing proved: no bounds are known through {name} at tests/\S+test_program\.py, line \d+: return",
    ):
        read(Calls(function), IMAGE)


@pytest.mark.parametrize(
    ("module", "message"),
    [
        (nn.Sequential(nn.Conv2d(1, 2, 3, padding=1, padding_mode="circular")), "no bounds are known through Conv2d"),
        (nn.Sequential(nn.MaxPool2d(2), nn.Flatten(), nn.Linear(16, 3)), "no bounds are known through MaxPool2d"),
        (nn.Sequential(nn.BatchNorm2d(1, track_running_stats=False)), "no bounds are known through BatchNorm2d"),
        (nn.Sequential(nn.Linear(8, 3)), "no bounds are known through Linear"),
        (nn.Sequential(nn.Flatten(), nn.Linear(10, 3)), "cannot be read .RuntimeError: .*64"),
    ],
)
def test_an_unknown_layer_is_named(module: nn.Module, message: str):
    with pytest.raises(UnprovableError, match=rf"^nothing proved: .*{message}"):
        read(module.eval(), IMAGE)


class Branching(nn.Module):
    def forward(self, images: Tensor) -> Tensor:
        return images if images.sum() > 0 else -images


def test_a_network_that_branches_on_its_data_is_refused_with_the_line():
    with pytest.raises(
        UnprovableError,
        match=r"cannot be read \(it decides by the values of an image\) at \S+, line \d+: return images if",
    ):
        read(Branching(), IMAGE)


class Discarding(nn.Module):
    """Changes its features in place and throws away what that returns; a hook does more."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.last = nn.Linear(64, 8), nn.Linear(8, 3)
        self.first.register_forward_hook(lambda _, __, output: output * 2)

    def forward(self, images: Tensor) -> Tensor:
        features = self.first(images.flatten(1))
        F.relu_(features)
        features += features.clone()
        return self.last(features)


def test_what_happens_in_place_and_in_hooks_is_read_too():
    network, images = Discarding().double(), unit(random_images(3))
    torch.testing.assert_close(evaluated(read(network, IMAGE), images)[-1], network(images))


def test_modes_are_left_as_they_were():
    network = nn.Sequential(nn.Flatten(), nn.Dropout(), nn.Linear(64, 3)).train()
    network[2].eval()
    read(network, IMAGE)
    assert [module.training for module in network.modules()] == [True, True, True, False]


def test_a_feature_added_to_itself_counts_twice():
    network, images = Calls(lambda x: x + x).double(), unit(random_images(3))
    torch.testing.assert_close(evaluated(read(network, IMAGE), images)[-1], network(images))
