"""Which precision, layout and graphs a training gets where its settings leave that open."""

from __future__ import annotations

import subprocess
import sys
from typing import Any

import pytest
import torch

from pipeline.networks import build_network
from pipeline.params import TrainSettings
from pipeline.run.devices import captures, in_layout, make_fabric, memory_format, pays_off

CPU, CUDA = torch.device("cpu"), torch.device("cuda")
SLOW, AVX, AMX = {"avx512_f": True}, {"avx512_bf16": True}, {"amx_bf16": True}


@pytest.mark.parametrize(
    ("device", "shape", "expected"),
    [(CPU, (1, 8, 8), False), (CPU, (3, 31, 64), False), (CPU, (3, 32, 32), True), (CUDA, (1, 8, 8), True)],
)
def test_small_images_on_a_cpu_stay_as_they_are(
    device: torch.device, shape: tuple[int, int, int], expected: bool
) -> None:
    assert pays_off(device, shape) is expected


@pytest.mark.parametrize(
    ("precision", "fast", "able", "expected"),
    [
        ("auto", True, AVX, "bf16-mixed"),
        ("auto", True, AMX, "bf16-mixed"),
        ("auto", True, SLOW, "32-true"),
        ("auto", False, AVX, "32-true"),
        ("fp32", True, AVX, "32-true"),
        ("bf16", False, SLOW, "bf16-mixed"),
    ],
)
def test_auto_is_bf16_where_the_processor_computes_in_it(
    monkeypatch: pytest.MonkeyPatch, precision: Any, fast: bool, able: dict[str, bool], expected: str
) -> None:
    monkeypatch.setattr(torch.cpu, "get_capabilities", lambda: able)
    fabric = make_fabric(CPU, TrainSettings(precision=precision), fast=fast)
    assert fabric._precision.precision == expected  # pyright: ignore[reportPrivateUsage]


def test_the_layout_follows_unless_it_is_set() -> None:
    assert memory_format(CPU, TrainSettings(), fast=True) == torch.channels_last
    assert memory_format(CPU, TrainSettings(), fast=False) == torch.contiguous_format
    assert memory_format(CPU, TrainSettings(channels_last=False), fast=True) == torch.contiguous_format
    assert memory_format(CPU, TrainSettings(channels_last=True), fast=False) == torch.channels_last


def test_graphs_are_of_cuda() -> None:
    assert captures(CUDA, TrainSettings()) and not captures(CPU, TrainSettings(cuda_graphs=True))
    assert not captures(CUDA, TrainSettings(cuda_graphs=False))


@pytest.mark.parametrize(
    ("name", "width", "expected"), [("resnet8", 8, False), ("resnet8", 16, True), ("plain4", 8, True)]
)
def test_a_network_that_onednn_spoils_keeps_its_layout(name: str, width: int, expected: bool) -> None:
    network = in_layout(build_network(name, classes=10, channels=3, width=width), torch.channels_last)
    (weight,) = [weight for key, weight in network.named_parameters() if weight.dim() == 4][:1]
    assert weight.is_contiguous(memory_format=torch.channels_last) is expected


STEPS = """
import torch
from pipeline.networks import build_network
from pipeline.run.devices import in_layout

torch.set_num_threads(2)
network = in_layout(build_network("resnet8", classes=10, channels=3, width=8), torch.channels_last)
for _ in range(40):
    network(torch.rand(127, 3, 32, 32)).square().mean().backward()
assert all(weight.grad.isfinite().all() for weight in network.parameters())
"""


def test_a_narrow_network_trains_on_two_threads() -> None:
    """In a process of its own: what goes wrong there kills it."""
    done = subprocess.run([sys.executable, "-c", STEPS], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
