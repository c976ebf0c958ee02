"""Folded BatchNorms: the same logits and image gradients, fewer layers, and nothing left behind."""

from __future__ import annotations

import copy

import pytest
import torch
from torch import Tensor, nn

from pipeline.networks import build_network
from pipeline.networks.folding import fold_while_crafting, foldable_pairs, folded, folded_weights


def network_with_statistics(name: str) -> nn.Module:
    """In float64, with BatchNorms whose statistics and weights are none of their first values."""
    torch.manual_seed(3)
    network = build_network(name, classes=5, channels=3, width=4).double().eval()
    for module in network.modules():
        if isinstance(module, nn.BatchNorm2d):
            for tensor, low in (
                (module.running_mean, -1),
                (module.running_var, 0.5),
                (module.weight, -1),
                (module.bias, -1),
            ):
                assert tensor is not None
                nn.init.uniform_(tensor, low, 2)
    return network


def answers(network: nn.Module, images: Tensor) -> tuple[Tensor, Tensor]:
    """Logits, and the gradient of their weighted sum by the images."""
    images = images.clone().requires_grad_()
    logits = network(images)
    weights = torch.linspace(-1, 1, logits.numel(), dtype=logits.dtype).view_as(logits)
    return logits.detach(), torch.autograd.grad((weights * logits).sum(), images)[0]


@pytest.mark.parametrize(
    ("name", "pairs"),
    [
        ("resnet20", 1 + 2 * 9 + 2),  # the first convolution, two a block, two projections
        ("preact_resnet18", 8),  # between a block's two convolutions; the first one's output is a shortcut too
        ("wide_resnet_28_10", 1 + 12),  # the first convolution is read by the first block's BatchNorm alone
    ],
)
def test_logits_and_image_gradients_are_those_of_the_network(name: str, pairs: int) -> None:
    network, images = network_with_statistics(name), torch.rand(3, 3, 16, 16, dtype=torch.float64)
    assert len(foldable_pairs(network)) == pairs
    logits, gradient = answers(network, images)
    fold_while_crafting([network])
    with folded(network):
        folded_logits, folded_gradient = answers(network, images)
    assert torch.allclose(folded_logits, logits, rtol=1e-10)
    assert torch.allclose(folded_gradient, gradient, rtol=1e-8, atol=1e-12)


def test_weights_by_hand() -> None:
    convolution, norm = nn.Conv2d(1, 1, 1), nn.BatchNorm2d(1, eps=0)
    values = {
        convolution.weight: 3,
        convolution.bias: 1,
        norm.running_mean: 5,
        norm.running_var: 4,
        norm.weight: 6,
        norm.bias: 7,
    }
    for tensor, value in values.items():
        assert tensor is not None
        nn.init.constant_(tensor, value)
    weight, bias = folded_weights(convolution, norm)
    assert weight.item() == 3 * 6 / 2
    assert bias.item() == 7 + (1 - 5) * 6 / 2


def test_the_network_is_itself_again_after_an_exception() -> None:
    network, images = network_with_statistics("resnet20"), torch.rand(2, 3, 8, 8, dtype=torch.float64)
    fold_while_crafting([network])
    before, state = answers(network, images), copy.deepcopy(network.state_dict())
    with pytest.raises(RuntimeError, match="out of memory"), folded(network):
        raise RuntimeError("out of memory")
    assert all(torch.equal(one, other) for one, other in zip(answers(network, images), before, strict=True))
    assert all(torch.equal(value, state[name]) for name, value in network.state_dict().items())
    network.train()(images)
    assert not torch.equal(network.state_dict()["bn.running_mean"], state["bn.running_mean"])


def test_weights_are_those_of_the_moment() -> None:
    network, images = network_with_statistics("resnet20"), torch.rand(2, 3, 8, 8, dtype=torch.float64)
    fold_while_crafting([network])
    with folded(network):
        network(images)
    with torch.no_grad():
        for parameter in network.parameters():
            parameter.mul_(1.5)
    with folded(network):
        assert torch.allclose(network(images), answers(copy.deepcopy(network), images)[0], rtol=1e-10)


class TwiceRead(nn.Module):
    """The convolution's output is read by BatchNorm and by the sum after it."""

    def __init__(self) -> None:
        super().__init__()
        self.convolution, self.norm = nn.Conv2d(3, 3, 1), nn.BatchNorm2d(3)

    def forward(self, images: Tensor) -> Tensor:
        features = self.convolution(images)
        return self.norm(features) + features


class TwiceCalled(TwiceRead):
    def forward(self, images: Tensor) -> Tensor:
        return self.norm(self.convolution(images)) + self.norm(self.convolution(images + 1))


class Deciding(TwiceRead):
    def forward(self, images: Tensor) -> Tensor:
        return self.norm(self.convolution(images if images.sum() > 0 else -images))


@pytest.mark.parametrize("kind", [TwiceRead, TwiceCalled, Deciding])
def test_what_cannot_be_folded_is_left_alone(kind: type[TwiceRead]) -> None:
    network, images = kind().eval(), torch.rand(2, 3, 4, 4)
    assert foldable_pairs(network) == []
    fold_while_crafting([network])
    with folded(network):
        assert torch.equal(network(images), copy.deepcopy(network)(images))
