"""Time: how long things take, how long a call may take, and being stopped.

How long things take on the device at hand is measured in a few steps, or noted by an earlier call. Stopped by hand or by
a parent process, there is one way out, whatever is running.
"""

from __future__ import annotations

import json
import math
import re
import signal
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from types import FrameType
from typing import Any

import torch
from torch import Tensor, nn

from bundle.digests import canonical_json, write_whole
from bundle.errors import HallmarkError
from pipeline.evaluation.tiers import attacked_threats
from pipeline.networks.blocks import to_unit
from pipeline.params import AttackSettings, Params, Section
from pipeline.training.build import build_training

#: Images of the first trial: a step of full size may take longer than the time there is.
TRIAL = 2
#: Seconds that a step may take for the sake of timing.
PATIENCE = 5.0
#: Forward and backward passes that PGD-50 and margin-50 make, and AutoAttack for an image that it does not break.
PGD_PASSES, AUTOATTACK_PASSES, AUTOATTACK_QUERIES = 101, 1900, 5000
#: The same of an image's validation, and forward passes alone.
VALIDATION_PASSES, VALIDATION_LOOKS = 11, 3


class Pace(Section):
    """What is known of a run's speed; `device` says where it was measured. `seconds_left` may leave the attacks out."""

    device: str
    epochs_done: int = 0
    seconds_per_epoch: float | None = None
    seconds_left: float | None = None

    @classmethod
    def load(cls, folder: Path, device: str) -> Pace:
        """The run's notes; of its speed nothing, where they were taken on another device."""
        path = folder / "pace.json"
        if not path.exists():
            return cls(device=device)
        noted = cls.model_validate(json.loads(path.read_text(encoding="utf-8")))
        return noted if noted.device == device else cls(device=device, epochs_done=noted.epochs_done)

    @classmethod
    def left(cls, folder: Path) -> float | None:
        """Seconds that the run still takes, as far as it was noted, on whichever device."""
        path = folder / "pace.json"
        return json.loads(path.read_text(encoding="utf-8"))["seconds_left"] if path.exists() else None

    def save(self, folder: Path) -> None:
        """Writes the notes for the next call."""
        write_whole(folder / "pace.json", canonical_json(self.model_dump()))


def time_epoch(params: Params, data: Path) -> float:
    """Seconds of an epoch with its validation, from a few steps of a training that is thrown away."""
    training = build_training(params, data)
    device, rows = training.fabric.device, training.batches.order(0)[0]
    training.method.train()
    # The loop's own step: augmentation, crafting, loss and update, all that a step costs.
    seconds = _time(lambda count: training.step(rows[:count], 1, 1e-6), len(rows), device)
    images = to_unit(training.validation[0][: len(rows)])
    forward, both = time_passes(training.method.served(), images, device)
    validation = len(training.validation[0]) * (VALIDATION_PASSES * both + VALIDATION_LOOKS * forward)
    return training.steps * seconds + validation


def time_passes(network: nn.Module, images: Tensor, device: torch.device) -> tuple[float, float]:
    """Seconds per image for a forward pass, and for a forward with a backward pass to the image, in eval mode."""
    network = network.to(device).eval()
    images = images.to(device)

    def forward(count: int) -> None:
        with torch.no_grad():
            network(images[:count])

    def both(count: int) -> None:
        point = images[:count].clone().requires_grad_()
        torch.autograd.grad(network(point).sum(), point)

    return _time(forward, len(images), device) / len(images), _time(both, len(images), device) / len(images)


def expected_attack_seconds(settings: AttackSettings, forward: float, both: float, robust: float) -> float:
    """Seconds per image that the evaluation may take, where the fraction `robust` of the images withstands.

    `forward` and `both` are time_passes'. AutoAttack spends its time on the images that it does not break.
    """
    searched = PGD_PASSES * settings.restarts * both
    if settings.tier != "quick":
        searched += robust * (AUTOATTACK_PASSES * both + AUTOATTACK_QUERIES * forward)
    return searched * len(attacked_threats(settings))


def _time(step: Callable[[int], Any], size: int, device: torch.device) -> float:
    """Seconds of a step of full size; from as many images as patience allows, where it is long.

    The number of images grows fourfold at a time, because what a step costs at any size would be multiplied otherwise.
    """
    count = min(TRIAL, size)
    step(count)  # the first one compiles and allocates
    seconds = _timed(step, count, device)
    while count < size and 4 * seconds <= PATIENCE:
        count = min(size, 4 * count)
        step(count)
        seconds = min(_timed(step, count, device) for _ in range(2))
    return seconds / count * size


def _timed(step: Callable[[int], Any], size: int, device: torch.device) -> float:
    _wait(device)
    started = time.perf_counter()
    step(size)
    _wait(device)
    return time.perf_counter() - started


def _wait(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.synchronize(device)


#: Share by which the next epoch or shard may take longer than the last one.
CAUTION = 0.1


@dataclass(frozen=True)
class Budget:
    """`deadline` is a value of time.monotonic(); None where there is no limit."""

    deadline: float | None = None

    @classmethod
    def of(cls, text: str | None, started: float) -> Budget:
        """`25m`, `90s`, `2h`, `1h30m` or seconds, counted from `started`; None: no limit. Raises HallmarkError."""
        return cls() if text is None else cls(started + read_duration(text))

    def left(self) -> float:
        """Seconds left."""
        return math.inf if self.deadline is None else self.deadline - time.monotonic()

    def fits(self, seconds: float) -> bool:
        """Whether something that should take so long can still be done."""
        return seconds * (1 + CAUTION) < self.left()


def read_duration(text: str) -> float:
    """Seconds of `25m`, `90s`, `2h`, `1h30m`, or of a plain number; raises HallmarkError for anything else."""
    found = re.fullmatch(r"(?:(\d+)h)?(?:(\d+)m)?(?:(\d+)s?)?", text.strip())
    if not found or not any(found.groups()):
        raise HallmarkError(f"budget: must be a time like 25m, 90s or 1h30m, got {text!r}")
    hours, minutes, seconds = (int(part or 0) for part in found.groups())
    return hours * 3600.0 + minutes * 60 + seconds


def duration(seconds: float) -> str:
    """A time as people say it: 42 s, 12 min, 3.5 h."""
    if seconds < 100:
        return f"{seconds:.3g} s"
    return f"{seconds / 60:.0f} min" if seconds < 100 * 60 else f"{seconds / 3600:.1f} h"


class Interruption:
    """Turns SIGINT and SIGTERM into KeyboardInterrupt, and remembers that it was asked for."""

    def __init__(self) -> None:
        self.asked = False

    def listen(self) -> None:
        """From now on; only the main thread of a process may call it."""
        for number in (signal.SIGINT, signal.SIGTERM):
            signal.signal(number, self._handle)

    def _handle(self, number: int, frame: FrameType | None) -> None:
        self.asked = True
        raise KeyboardInterrupt
