"""The names of the networks and what each stands for.

Importing this file does not import torch: whoever only checks a name should not wait for it.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from bundle.errors import HallmarkError


class NetworkError(HallmarkError):
    """A network was asked for, or fed, in a way that cannot work; the message says what would be right."""


@dataclass(frozen=True)
class Architecture:
    """What a name stands for.

    Stage s has `blocks[s]` residual blocks (plain, cnn: convolutions), the first of them with stride `strides[s]`, and
    `width * widen * 2**s` channels. The convolution before the stages has `width` channels (plain and cnn have none), so
    `width` scales the whole network.
    """

    family: Literal["resnet", "preact_resnet", "wide_resnet", "plain", "cnn"]
    blocks: tuple[int, ...]
    strides: tuple[int, ...]
    width: int
    source: str
    widen: int = 1

    def stages(self, width: int) -> list[tuple[int, int, int]]:
        """Channels, number of blocks and first stride of each stage."""
        channels = [width * self.widen * 2**stage for stage in range(len(self.blocks))]
        return list(zip(channels, self.blocks, self.strides, strict=True))


RESNET = "He et al. 2016, arXiv 1512.03385"
PREACT = "He et al. 2016, arXiv 1603.05027"
WIDE = "Zagoruyko & Komodakis 2016, arXiv 1605.07146"

ARCHITECTURES: dict[str, Architecture] = {
    "resnet18": Architecture("resnet", (2, 2, 2, 2), (1, 2, 2, 2), 64, f"{RESNET}; CIFAR form"),
    "preact_resnet18": Architecture(
        "preact_resnet", (2, 2, 2, 2), (1, 2, 2, 2), 64, f"{PREACT}; as in Rice et al. 2020, arXiv 2002.11569"
    ),
    "resnet20": Architecture("resnet", (3, 3, 3), (1, 2, 2), 16, f"{RESNET}, section 4.2; projection shortcuts"),
    "resnet32": Architecture("resnet", (5, 5, 5), (1, 2, 2), 16, f"{RESNET}, section 4.2; projection shortcuts"),
    "resnet56": Architecture("resnet", (9, 9, 9), (1, 2, 2), 16, f"{RESNET}, section 4.2; projection shortcuts"),
    "wide_resnet_34_10": Architecture(
        "wide_resnet", (5, 5, 5), (1, 2, 2), 16, f"{WIDE}; as in TRADES, arXiv 1901.08573", widen=10
    ),
    "wide_resnet_34_1": Architecture("wide_resnet", (5, 5, 5), (1, 2, 2), 16, WIDE),
    "wide_resnet_28_10": Architecture("wide_resnet", (4, 4, 4), (1, 2, 2), 16, WIDE, widen=10),
    # A wide ResNet has 6n + 4 layers, which 30 is not. Code that divides (30 - 4) / 6 and rounds down builds n = 4.
    "wide_resnet_30_10": Architecture(
        "wide_resnet", (4, 4, 4), (1, 2, 2), 16, f"{WIDE}; 30 is not 6n + 4: rounded down, so equal to 28-10", widen=10
    ),
    "guide_resnet18": Architecture(
        "resnet", (2, 2, 2, 2), (1, 1, 2, 2), 64, f"{RESNET}; guide of D²R, arXiv 2506.07056, first in LBGAT"
    ),
    "resnet8": Architecture("resnet", (1, 1, 1), (1, 2, 2), 16, f"{RESNET}; small, for 8x8 digits"),
    "preact_resnet8": Architecture("preact_resnet", (1, 1, 1), (1, 2, 2), 16, f"{PREACT}; small, for 8x8 digits"),
    "plain4": Architecture(
        "plain", (1, 1), (1, 2), 16, "after Gowal et al. 2018, arXiv 1810.12715; no BatchNorm, for provable bounds"
    ),
    "cnn7": Architecture(
        "cnn", (2, 3), (1, 2), 64, "CNN7 of Shi et al. 2021, arXiv 2103.17233; as in CTBench, arXiv 2406.04848"
    ),
}


def network_names() -> list[str]:
    """Every name that `build_network` knows."""
    return list(ARCHITECTURES)


def whole_number(field: str, value: object, *, least: int) -> int:
    """The value where it is a whole number of at least `least`; raises NetworkError."""
    if isinstance(value, bool) or not isinstance(value, int) or value < least:
        raise NetworkError(f"network {field}: must be a whole number of at least {least}, got {value!r}")
    return value


def normalisation(
    mean: Sequence[float] | None, std: Sequence[float] | None, channels: int
) -> tuple[list[float], list[float]]:
    """Checked values, one per channel; 0 and 1 where none are given. Raises NetworkError."""
    if mean is None and std is None:
        return [0.0] * channels, [1.0] * channels
    if mean is None or std is None:
        raise NetworkError("network mean, std: must be given together, or neither")
    means, stds = _channel_values("mean", mean, channels), _channel_values("std", std, channels)
    if not all(0 <= value <= 1 for value in means):
        raise NetworkError(f"network mean: must be in [0, 1] as the images are, got {means}")
    if not all(0 < value <= 1 for value in stds):
        raise NetworkError(f"network std: must be above 0 and at most 1 as the images are, got {stds}")
    return means, stds


def _channel_values(field: str, values: Sequence[float], channels: int) -> list[float]:
    try:
        numbers = [float(value) for value in values]
    except (TypeError, ValueError):
        numbers = []
    if len(numbers) != channels or not all(map(math.isfinite, numbers)):
        raise NetworkError(f"network {field}: must be {channels} numbers, one per channel, got {values!r}")
    return numbers
