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
#: Pixels of the shorter side.
SMALLEST_SIDE = 32
#: oneDNN's backward pass by the weights of a strided 1x1 convolution in channels_last writes past its memory where fewer
#: channels come in than it takes at a time (uxlfoundation/oneDNN issue 6035): wrong gradients, or the process dies.
BLOCK = 16
Network = TypeVar("Network", bound=nn.Module)


def choose_device(name: str) -> torch.device:
    """`auto`, `cpu` or `cuda` to a device; raises HallmarkError for another name, and for CUDA where there is none."""
    if name not in DEVICES:
        raise HallmarkError(f"device: must be one of {', '.join(DEVICES)}, got {name!r}")
    if name == "cuda" and not torch.cuda.is_available():
        raise HallmarkError("device: cuda was asked for, but torch finds no CUDA device; set device: auto or cpu")
    return torch.device("cuda" if name != "cpu" and torch.cuda.is_available() else "cpu")


def device_of(network: nn.Module) -> torch.device:
    """Where the network's weights are; the CPU for one without weights."""
    return next((weight.device for weight in network.parameters()), torch.device("cpu"))


def pays_off(device: torch.device, shape: tuple[int, int, int]) -> bool:
    """Whether images (C, H, W) are worth bf16, channels_last and folded BatchNorms, where the settings leave it open.

    Smaller images than SMALLEST_SIDE keep the order of operations, and so the bits, of plain fp32.
    """
    return device.type == "cuda" or min(shape[1:]) >= SMALLEST_SIDE


def make_fabric(device: torch.device, settings: TrainSettings, *, fast: bool = False) -> Fabric:
    """Lightning Fabric for one device: precision `auto` is bf16 where that is `fast` and the device computes in it."""
    from lightning.fabric import Fabric

    precision = settings.precision
    if precision == "auto":
        precision = "bf16" if fast and _computes_in_bf16(device) else "fp32"
    return Fabric(accelerator=device.type, devices=1, precision="bf16-mixed" if precision == "bf16" else "32-true")


def _computes_in_bf16(device: torch.device) -> bool:
    """Everywhere it can be emulated, at a multiple of fp32's time."""
    if device.type == "cuda":
        return torch.cuda.is_bf16_supported(including_emulation=False)
    able = torch.cpu.get_capabilities()
    return bool(able.get("avx512_bf16") or able.get("amx_bf16"))


def memory_format(device: torch.device, settings: TrainSettings, *, fast: bool = False) -> torch.memory_format:
    """channels_last where that is `fast`: matrix units want the channels of a pixel side by side."""
    wanted = settings.channels_last if settings.channels_last is not None else fast
    return torch.channels_last if wanted else torch.contiguous_format


def captures(device: torch.device, settings: TrainSettings) -> bool:
    """Whether steps are captured as CUDA graphs."""
    return device.type == "cuda" and settings.cuda_graphs is not False


def in_layout(network: Network, layout: torch.memory_format) -> Network:
    """The network itself, its weights in this memory layout; a narrow one keeps its own on a CPU (see BLOCK)."""
    narrow = any(
        isinstance(module, nn.Conv2d)
        and module.kernel_size == (1, 1)
        and max(module.stride) > 1
        and module.in_channels < BLOCK
        and module.weight.device.type == "cpu"
        for module in network.modules()
    )
    if narrow and layout == torch.channels_last:
        return network
    return network.to(memory_format=layout)  # pyright: ignore[reportCallIssue]  # torch's overloads leave it out
