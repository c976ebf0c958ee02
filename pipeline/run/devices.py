"""Where training runs, and in which precision."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch

from bundle.errors import HallmarkError
from pipeline.params import TrainSettings

if TYPE_CHECKING:
    from lightning.fabric import Fabric

DEVICES = ("auto", "cpu", "cuda")


def choose_device(name: str) -> torch.device:
    """`auto`, `cpu` or `cuda` to a device; raises HallmarkError for another name, and for CUDA where there is none."""
    if name not in DEVICES:
        raise HallmarkError(f"device: must be one of {', '.join(DEVICES)}, got {name!r}")
    if name == "cuda" and not torch.cuda.is_available():
        raise HallmarkError("device: cuda was asked for, but torch finds no CUDA device; set device: auto or cpu")
    return torch.device("cuda" if name != "cpu" and torch.cuda.is_available() else "cpu")


def make_fabric(device: torch.device, settings: TrainSettings) -> Fabric:
    """Lightning Fabric for one device: precision `auto` is bf16 on CUDA and fp32 on the CPU."""
    from lightning.fabric import Fabric

    precision = settings.precision
    if precision == "auto":
        precision = "bf16" if device.type == "cuda" else "fp32"
    return Fabric(accelerator=device.type, devices=1, precision={"bf16": "bf16-mixed", "fp32": "32-true"}[precision])


def memory_format(device: torch.device, settings: TrainSettings) -> torch.memory_format:
    """channels_last on CUDA, where tensor cores want it; NCHW on the CPU, where it measured faster."""
    wanted = settings.channels_last if settings.channels_last is not None else device.type == "cuda"
    return torch.channels_last if wanted else torch.contiguous_format
