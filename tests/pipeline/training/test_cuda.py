"""What only a GPU can show: losses as on the CPU, graphs as without, bf16, compiling, resuming, attacks. Else skipped."""

from __future__ import annotations

import copy
from pathlib import Path
from typing import Any

import pytest
import torch

from pipeline.attacks.autoattack import autoattack
from pipeline.attacks.pgd import pgd
from pipeline.attacks.threat import Threat
from pipeline.data.split import Split
from pipeline.methods import method_names
from pipeline.networks import build_network
from pipeline.run.devices import make_fabric, pays_off
from pipeline.training.batches import Sampling
from pipeline.training.build import build_method
from pipeline.training.graphs import WARM_UP, GraphedGradients
from pipeline.training.loop import Training
from tests.pipeline.training.conftest import small_params

pytestmark = pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device here")
CUDA = torch.device("cuda")


@pytest.fixture(autouse=True)
def exact() -> Any:
    """The same sums in the same order, so that what differs is a fault."""
    flags = torch.backends.cudnn.deterministic, torch.backends.cudnn.allow_tf32
    torch.backends.cudnn.deterministic, torch.backends.cudnn.allow_tf32 = True, False
    yield
    torch.backends.cudnn.deterministic, torch.backends.cudnn.allow_tf32 = flags


def make(digits: tuple[Split, Split], method: str, **train: Any) -> Training:
    params = small_params(method, 0, **{"precision": "fp32", **train})
    torch.manual_seed(0)
    built = build_method(params, digits[0], 10, own=60)
    fast = pays_off(CUDA, (1, 8, 8))
    fabric = make_fabric(CUDA, params.train, fast=fast)
    return Training(
        built, *digits, params.train, sampling=Sampling(60, 0, 0.0, 20, 0), seed=0, fabric=fabric, fast=fast
    )


def losses_of(training: Training, steps: int) -> list[dict[str, float]]:
    rows = training.batches.order(0)
    training.method.train()
    return [
        {name: float(value) for name, value in training.step(rows[number % len(rows)], number, 0.05).items()}
        for number in range(steps)
    ]


@pytest.mark.parametrize("name", method_names())
def test_losses_are_those_of_the_cpu(digits: tuple[Split, Split], name: str) -> None:
    training = make(digits, name, cuda_graphs=False)
    on_cpu = copy.deepcopy(training.method).cpu()
    batch = training.batches.batch(torch.arange(20), 0, 3, 0)
    perturbed = training.method.perturb(batch)
    found = training.method.losses(batch, perturbed)
    expected = on_cpu.losses(to_cpu(batch), to_cpu(perturbed))
    for key, value in expected.items():
        assert float(found[key]) == pytest.approx(float(value), rel=2e-3, abs=1e-4)


def to_cpu(value: Any) -> Any:
    """A tensor, a batch, a named tuple or a tuple of them, on the CPU."""
    if isinstance(value, torch.Tensor):
        return value.detach().cpu()
    if isinstance(value, tuple):
        parts = [to_cpu(part) for part in value]
        return type(value)(*parts) if hasattr(value, "_fields") else tuple(parts)
    if hasattr(value, "__dataclass_fields__"):
        return type(value)(**{name: to_cpu(getattr(value, name)) for name in value.__dataclass_fields__})
    return value


@pytest.mark.parametrize("name", method_names())
def test_a_graph_takes_the_steps_that_python_takes(digits: tuple[Split, Split], name: str) -> None:
    eager, graphed = make(digits, name, cuda_graphs=False), make(digits, name)
    torch.manual_seed(1)
    expected = losses_of(eager, 9)
    torch.manual_seed(1)
    found = losses_of(graphed, 9)
    assert isinstance(graphed.gradients, GraphedGradients)
    assert any(count > WARM_UP for count in graphed.gradients.seen.values()) and graphed.gradients.captured
    for one, other in zip(found, expected, strict=True):
        assert one == pytest.approx(other, rel=1e-4, abs=1e-6)


@pytest.mark.parametrize("name", ["d2r_cag", "mat"])
@pytest.mark.parametrize(
    "train", [{"precision": "bf16"}, {"precision": "bf16", "compile": True}, {"compile": True}], ids=str
)
def test_bf16_and_compiled_steps_stay_near(digits: tuple[Split, Split], name: str, train: dict[str, Any]) -> None:
    expected, found = losses_of(make(digits, name), 2), losses_of(make(digits, name, **train), 2)
    for one, other in zip(found, expected, strict=True):
        assert one == pytest.approx(other, rel=0.1, abs=0.1)


@pytest.mark.parametrize("name", ["d2r_cag", "regmix", "regmix_d2r_cag"])
def test_a_resumed_training_ends_where_a_whole_one_does(digits: tuple[Split, Split], name: str, tmp_path: Path) -> None:
    whole, first = make(digits, name, epochs=4), make(digits, name, epochs=4)
    torch.manual_seed(1)
    whole.run(tmp_path / "whole")
    torch.manual_seed(1)
    first.run(tmp_path / "parts")
    checkpoints = sorted((tmp_path / "parts").iterdir())
    assert checkpoints
    again = make(digits, name, epochs=4)
    again.run(tmp_path / "parts")
    for key, value in whole.method.state_dict().items():
        assert torch.allclose(value.float(), again.method.state_dict()[key].float(), rtol=1e-3, atol=1e-5), key


def test_attacks_find_what_they_find_on_the_cpu(digits: tuple[Split, Split]) -> None:
    torch.manual_seed(0)
    network = build_network("resnet8", classes=10, channels=1, width=8).eval()
    images = torch.from_numpy(digits[1].images).permute(0, 3, 1, 2) / 255
    labels = network(images).argmax(1)
    threat = Threat("linf", 16)
    arguments: dict[str, Any] = {"threat": threat, "seed": 0, "index": torch.arange(len(labels)), "steps": 10}
    there = pgd(network, images, labels, **arguments)
    here = pgd(copy.deepcopy(network).to(CUDA), images.to(CUDA), labels.to(CUDA), **arguments).cpu()
    agree = (network(here).argmax(1) == labels) == (network(there).argmax(1) == labels)
    assert agree.float().mean() >= 0.95
    strong = autoattack(
        copy.deepcopy(network).to(CUDA), images.to(CUDA), labels.to(CUDA), threat=threat, seed=0, classes=10
    )
    assert (strong.images.cpu() - images).abs().max() <= threat.eps + 1e-6
    assert (network(strong.images.cpu()).argmax(1) == labels).sum() <= (network(here).argmax(1) == labels).sum() + 1
