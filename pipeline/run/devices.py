"""Where training runs, and in which precision."""

from __future__ import annotations

from typing import TYPE_CHECKING, TypeVar

import torch
from torch import nn

from bundle.errors import HallmarkError
from pipeline.params import TrainSettings

if TYPE_CHECKING:
    from lightning.fabric import Fabric

DEVICES = ("auto", "cpu", "cuda")
Network = TypeVar("Network", bound=nn.Module)


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
    return Fabric(accelerator=device.type, devices=1, precision="bf16-mixed" if precision == "bf16" else "32-true")


def memory_format(device: torch.device, settings: TrainSettings) -> torch.memory_format:
    """channels_last on CUDA, where tensor cores want it; NCHW on the CPU, where it measured faster."""
    wanted = settings.channels_last if settings.channels_last is not None else device.type == "cuda"
    return torch.channels_last if wanted else torch.contiguous_format


def in_layout(network: Network, layout: torch.memory_format) -> Network:
    """The network itself, its weights in this memory layout."""
    return network.to(memory_format=layout)  # pyright: ignore[reportCallIssue]  # torch's overloads leave it out
