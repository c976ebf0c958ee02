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
from onnxruntime import InferenceSession
from safetensors.torch import load, load_file, save_model
from torch import Tensor, nn
from torch.nn import functional as F

from pipeline.external.contract import check_network
from pipeline.external.weights import load_weights, put_in
from pipeline.networks import NetworkError, describe, rebuild
from pipeline.networks.external import build_external, published_arguments
from pipeline.networks.serialisation import read_network, to_onnx, weights_bytes

IMAGES = np.random.default_rng(0).integers(0, 256, (6, 4, 4, 3), dtype=np.uint8)


class Made(nn.Module):
    """Images (N, 3, 4, 4) to logits (N, 5); `change` bends what it returns."""

    def __init__(self, change: Callable[[Tensor], Any] = lambda logits: logits) -> None:
        super().__init__()
        self.linear, self.change = nn.Linear(48, 5), change

    def forward(self, images: Tensor) -> Any:
        return self.change(self.linear(images.flatten(1)))


class OnlyImages(Made):
    def forward(self, images: Tensor) -> Any:
        if images.min() < 0 or images.max() > 1:
            raise ValueError("images are between 0 and 1")
        return super().forward(images)


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
        (
            lambda logits: logits.view(3, 3),
            r"shape \(N, 3, 4, 4\), the data's, failed with RuntimeError at tests/\S+, line",
        ),
    ],
)
def test_a_network_that_breaks_the_contract_is_refused(change: Callable[[Tensor], Any], sentence: str):
    check_network(Made().eval(), IMAGES, 5)
    with pytest.raises(NetworkError, match=sentence) as caught:
        check_network(Made(change).eval(), IMAGES, 5)
    assert "\n" not in str(caught.value)


def test_probabilities_are_not_taken_for_logits():
    """Also where they are so sure that they are ones and zeros."""
    for change in (lambda logits: logits.softmax(1), lambda logits: (1e4 * logits).softmax(1)):
        with pytest.raises(
            NetworkError, match=r"logits, returned probabilities: .* \(by softmax at tests/\S+, line \d+: "
        ):
            check_network(Made(change).eval(), IMAGES, 5)
    with pytest.raises(NetworkError, match=r"returned log-probabilities: .* \(by log_softmax at .*nn\.Identity\(\)"):
        check_network(Made(lambda logits: F.log_softmax(logits, -1)).eval(), IMAGES, 5)


def test_logits_that_happen_to_look_like_probabilities_are_logits():
    """The rows of a least-squares classifier of two classes add up to 1, and are ≥ 0 near the data."""

    def complementary(logits: Tensor) -> Tensor:
        share = 0.5 + 0.01 * logits[:, :1]
        return torch.cat([share, 1 - share, torch.zeros(len(logits), 3)], 1)

    network = Made(complementary).eval()
    rows = network(torch.from_numpy(IMAGES).permute(0, 3, 1, 2) / 255)
    assert (rows >= 0).all() and torch.allclose(rows.sum(1), torch.ones(len(rows)))
    check_network(network, IMAGES, 5)
    check_network(Made(torch.relu).eval(), IMAGES, 5)
    with pytest.raises(NetworkError, match="returned probabilities"):
        check_network(OnlyImages(lambda logits: logits.softmax(1)).eval(), IMAGES, 5)
    check_network(Made(lambda logits: logits - logits.detach().logsumexp(1, keepdim=True) + 0.01).eval(), IMAGES, 5)


def by_numpy(logits: Tensor) -> Tensor:
    chosen = logits.detach().numpy().argmax(1)
    return torch.from_numpy(np.eye(5, dtype=np.float32)[chosen])


@torch.no_grad()
def without_gradients(logits: Tensor) -> Tensor:
    return logits * 2


@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        (by_numpy, r"they end in detach at tests/\S+test_external\.py, line \d+: chosen = logits\.detach"),
        (lambda logits: F.one_hot(logits.argmax(1), 5).float(), r"they end in argmax at tests/\S+, line \d+"),
        (lambda logits: torch.tensor(logits.tolist()), r"they end in tolist at tests/\S+, line \d+"),
        (without_gradients, r"they end in torch\.no_grad\(\) around mul at tests/\S+, line \d+: return logits \* 2"),
        (lambda logits: torch.from_numpy(logits.numpy()), r"it fails at tests/\S+, line \d+: .*Can't call numpy"),
        (lambda logits: torch.zeros(len(logits), 5), "it has none"),
    ],
)
def test_a_network_without_gradients_is_refused_with_the_operation_and_its_line(
    change: Callable[[Tensor], Any], sentence: str
):
    network = Made(change).eval()
    with pytest.raises(
        NetworkError, match=f"must pass gradients to its images, which attacks follow; {sentence}"
    ) as caught:
        check_network(network, IMAGES, 5)
    assert "\n" not in str(caught.value) and all(parameter.requires_grad for parameter in network.parameters())


def test_a_scripted_module_is_refused():
    network = nn.Sequential(torch.jit.script(nn.Flatten()), nn.Linear(48, 5)).eval()
    with pytest.raises(NetworkError, match="network: 0 is a TorchScript module"):
        check_network(network, IMAGES, 5)


def test_some_of_a_networks_outputs_are_the_classes():
    images = torch.from_numpy(IMAGES).permute(0, 3, 1, 2) / 255
    with pytest.raises(NetworkError, match=r"returned \(4, 5\); choose 2 of them with --outputs"):
        check_network(build_external(factory="elsewhere:made", classes=2, channels=3).eval(), IMAGES, 2)
    network = build_external(factory="elsewhere:made", classes=2, channels=3, outputs=[4, 1]).eval()
    check_network(network, IMAGES, 2)
    again = read_network(json.dumps(describe(network)).encode(), weights_bytes(network), "here")
    with torch.no_grad():
        assert torch.equal(again(images), network.network(images)[:, [4, 1]])
    content = to_onnx(network, (4, 4, 3), opset=18)
    served = InferenceSession(content, providers=["CPUExecutionProvider"]).run(None, {"images": IMAGES})[0]
    np.testing.assert_allclose(served, again(images).detach().numpy(), atol=1e-5)
    for outputs in ([1], [1, 1], [1, 2, 3], [-1, 2]):
        with pytest.raises(NetworkError, match="network outputs: must be"):
            build_external(factory="elsewhere:made", classes=2, channels=3, outputs=outputs)
    with pytest.raises(NetworkError, match=r"must be numbers of the network's outputs, from 0; it returned \(4, 5\)"):
        check_network(build_external(factory="elsewhere:made", classes=2, channels=3, outputs=[0, 5]).eval(), IMAGES, 2)


def test_one_output_for_two_classes_is_told_what_to_return():
    with pytest.raises(NetworkError, match=r"return torch\.cat\(\[torch\.zeros_like\(z\), z\], 1\)"):
        check_network(Made(lambda logits: logits[:, :1]).eval(), IMAGES, 2)


def test_networks_of_torchvision_are_built_as_their_published_weights_expect():
    """Their builders turn this on, but only where they download the weights themselves."""
    for name, arguments in (("googlenet", {"transform_input": True}), ("inception_v3", {"transform_input": True})):
        assert published_arguments(name) == arguments
    assert published_arguments("resnet18") == {} == published_arguments("vgg11")
    with pytest.raises(NetworkError, match="did you mean googlenet"):
        published_arguments("gogglenet")


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
