"""Which precision, layout and graphs a training gets where its settings leave that open."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from pipeline.params import TrainSettings
from pipeline.run.devices import captures, make_fabric, memory_format, pays_off

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
