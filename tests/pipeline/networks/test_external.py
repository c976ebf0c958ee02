"""Networks from elsewhere: built, checked against the contract, and filled with weights, or refused in one sentence."""

from __future__ import annotations

import copy
import json
import sys
import types
from collections.abc import Callable, Iterator
from multiprocessing.reduction import ForkingPickler
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import load, load_file, save_model
from torch import Tensor, nn

from pipeline.networks import NetworkError, describe, rebuild
from pipeline.networks.contract import check_network
from pipeline.networks.external import build_external
from pipeline.networks.weights import load_weights, put_in
from pipeline.serialisation import read_network, weights_bytes

IMAGES = np.random.default_rng(0).integers(0, 256, (6, 4, 4, 3), dtype=np.uint8)


class Made(nn.Module):
    """Images (N, 3, 4, 4) to logits (N, 5); `change` bends what it returns."""

    def __init__(self, change: Callable[[Tensor], Any] = lambda logits: logits) -> None:
        super().__init__()
        self.linear, self.change = nn.Linear(48, 5), change

    def forward(self, images: Tensor) -> Any:
        return self.change(self.linear(images.flatten(1)))


class Tied(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.first, self.second = nn.Linear(48, 48), nn.Linear(48, 48)
        self.second.weight = self.first.weight

    def forward(self, images: Tensor) -> Tensor:
        return self.second(self.first(images.flatten(1)))[:, :5]


@pytest.fixture(autouse=True)
def own_module(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """The module `elsewhere` with the factories above."""
    module = types.ModuleType("elsewhere")
    vars(module).update({"made": Made, "tied": Tied, "number": 3, "seven": lambda: 7})
    monkeypatch.setitem(sys.modules, "elsewhere", module)
    yield


def test_normalisation_is_inside_and_survives_the_files():
    mean, std = [0.4, 0.5, 0.6], [0.2, 0.3, 0.4]
    network = build_external(factory="elsewhere:made", classes=5, channels=3, mean=mean, std=std).eval()
    images = torch.from_numpy(IMAGES).permute(0, 3, 1, 2) / 255
    channel = torch.tensor([mean, std]).view(2, 1, 3, 1, 1)
    with torch.no_grad():
        expected = network.network((images - channel[0]) / channel[1])
        assert torch.equal(network(images), expected)
        again = read_network(json.dumps(describe(network)).encode(), weights_bytes(network), "here")
        assert torch.equal(again(images), expected)


def test_another_process_makes_the_network_anew():
    """What its author's code holds need not be picklable; a copy in this process stays a plain copy."""
    network = build_external(factory="elsewhere:made", classes=5, channels=3).eval()
    images = torch.from_numpy(IMAGES).permute(0, 3, 1, 2) / 255
    assert network.network.change.__name__ == "<lambda>"
    found = ForkingPickler.loads(ForkingPickler.dumps(network))
    with torch.no_grad():
        assert torch.equal(found(images), network(images)) and not found.training
        changed = copy.deepcopy(network)
        changed.network = nn.Sequential(network.network)
        assert torch.equal(copy.deepcopy(changed)(images), network(images))


def test_a_classifier_of_torchvision_has_the_datas_classes():
    before = torch.get_rng_state()
    network = build_external(torchvision="squeezenet1_1", classes=7, channels=3).eval()
    assert torch.equal(torch.get_rng_state(), before), "whoever evaluates draws the same numbers afterwards"
    check_network(network, np.zeros((2, 32, 32, 3), dtype=np.uint8), 7)
    again = rebuild(describe(network))
    assert {name: value.shape for name, value in again.state_dict().items()} == {
        name: value.shape for name, value in network.state_dict().items()
    }


@pytest.mark.parametrize(
    ("description", "sentence"),
    [
        ({"torchvision": "resnet81"}, "did you mean resnet18"),
        ({"torchvision": "fasterrcnn_resnet50_fpn"}, "no such classifier"),
        ({"torchvision": "resnet18", "arguments": {"depth": 3}}, "torchvision:resnet18: .*depth"),
        ({"factory": "elsewhere"}, "must be module:function"),
        ({"factory": "elsewhere:missing"}, "the module elsewhere has no missing"),
        ({"factory": "no_such_place:made"}, "there is no module no_such_place"),
        ({"factory": "elsewhere:number"}, "is not a function"),
        ({"factory": "elsewhere:seven"}, "must return a torch.nn.Module, returned a int"),
        ({"factory": "elsewhere:made", "arguments": {"wide": 1}}, "elsewhere:made: failed with TypeError"),
        ({"factory": "elsewhere:made", "mean": [0.5], "std": [0.5]}, "mean: must be 3 numbers"),
        ({"factory": "elsewhere:made", "mean": [0.5, 0.5, 0.5]}, "given together"),
        ({}, "either a factory or a network of torchvision"),
    ],
)
def test_what_cannot_be_built_is_one_sentence(description: dict[str, Any], sentence: str):
    with pytest.raises(NetworkError, match=sentence) as caught:
        build_external(classes=5, channels=3, **description)
    assert "\n" not in str(caught.value)


def shifted(logits: Tensor) -> Tensor:
    return logits - logits.mean(0, keepdim=True)


@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        (lambda logits: logits[:, :4], r"logits \(N, 5\).* returned \(4, 4\)"),
        (lambda logits: (logits, logits), "one tensor, returned a tuple"),
        (lambda logits: logits.double(), "float32, returned torch.float64"),
        (lambda logits: logits / 0, "finite"),
        (lambda logits: logits + torch.rand_like(logits), "deterministic"),
        (shifted, "each image by itself"),
        (lambda logits: logits.view(3, 3), r"shape \(N, 3, 4, 4\), the data's, failed with RuntimeError"),
    ],
)
def test_a_network_that_breaks_the_contract_is_refused(change: Callable[[Tensor], Any], sentence: str):
    check_network(Made().eval(), IMAGES, 5)
    with pytest.raises(NetworkError, match=sentence) as caught:
        check_network(Made(change).eval(), IMAGES, 5)
    assert "\n" not in str(caught.value)


def test_a_network_that_stays_in_training_mode_is_refused():
    network = Made().eval()
    network.linear.training = True
    with pytest.raises(NetworkError, match="linear stays in training mode"):
        check_network(network, IMAGES, 5)


def test_weights_that_do_not_fit_are_named():
    network, weights = Made(), dict(Made().state_dict())
    bias = weights.pop("linear.bias")
    with pytest.raises(NetworkError, match=r"w: .* it lacks linear\.bias$"):
        put_in(network, weights, "w")
    with pytest.raises(NetworkError, match=r"it lacks linear\.bias and has head\.bias besides"):
        put_in(network, {**weights, "head.bias": bias}, "w")
    with pytest.raises(NetworkError, match=r"linear\.bias is \(4,\), the network's \(5,\)"):
        put_in(network, {**weights, "linear.bias": bias[:4]}, "w")


def test_tied_weights_go_into_the_file_and_come_back(tmp_path: Path):
    """safetensors refuses shared memory, and its own remedy leaves one of the names out."""
    network = build_external(factory="elsewhere:tied", classes=5, channels=3).eval()
    save_model(network.network, str(tmp_path / "w.safetensors"))
    assert len(load_file(tmp_path / "w.safetensors")) == 3
    other = build_external(factory="elsewhere:tied", classes=5, channels=3).eval()
    with torch.no_grad():
        for value in other.parameters():
            value.add_(1)
    assert load_weights(other.network, tmp_path / "w.safetensors") == []
    images = torch.from_numpy(IMAGES).permute(0, 3, 1, 2) / 255
    with torch.no_grad():
        assert torch.equal(other(images), network(images))
    assert len(load(weights_bytes(other))) == 6
