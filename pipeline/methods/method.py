"""What a training method is: the networks it holds, the images it makes, the loss it minimises."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, ClassVar, Literal, NamedTuple

from torch import Tensor, nn

from bundle.threats import Threat
from pipeline.params import Section
from pipeline.training.schedules import COMMON_SCHEDULE, DIGITS_SCHEDULE


class Batch(NamedTuple):
    """One step's images (N, C, H, W) in [0, 1], labels (N,), rows in the training split (N,), and where training is.

    `epoch` counts from 0 to `epochs` − 1, `step` counts optimiser steps from 0 over the whole training.
    """

    images: Tensor
    labels: Tensor
    index: Tensor
    epoch: int
    epochs: int
    step: int


class Task(NamedTuple):
    """What a method is built for: the ball, the number of classes and training images, and their shape (C, H, W)."""

    threat: Threat
    classes: int
    images: int
    shape: tuple[int, int, int]


class Method(nn.Module, ABC):
    """A training method: one class in one file, which reads like its paper.

    `perturb` makes what the loss is computed on: a detached tensor, or a named tuple where the method needs more.
    `losses` returns named terms, already weighted; the loop sums them, steps the optimiser and logs each by name.
    """

    name: ClassVar[str]
    title: ClassVar[str]
    paper: ClassVar[str]
    #: Forward and backward passes of one step, counted over all networks.
    passes: ClassVar[tuple[int, int]]
    #: A reconstruction from incomplete sources says so wherever it is named.
    reconstructed: ClassVar[bool] = False
    needs_guide: ClassVar[bool] = False
    #: BatchNorm while crafting: `eval`, or `train` for the FGSM-PGK line.
    crafting_mode: ClassVar[Literal["eval", "train"]] = "eval"
    #: What the validation split chooses the epoch by; the other accuracy breaks ties. A network that defends against
    #: nothing would otherwise be judged at whichever epoch attacks happened to fail, which is no fair floor.
    selected_by: ClassVar[Literal["pgd_10", "clean"]] = "pgd_10"
    #: The schedule of the paper; fields are TrainSettings'.
    paper_schedule: ClassVar[dict[str, Any]] = COMMON_SCHEDULE

    class Settings(Section):
        """The method's own keys of params.yaml's `method` section."""

    def __init__(self, settings: Any, task: Task, build: Callable[[str], nn.Module]) -> None:
        """`build` makes a fresh network for a role: `target`, or `guide`."""
        super().__init__()
        self.settings = settings
        self.task = task
        self.target = build("target")
        if self.needs_guide:
            self.guide = build("guide")

    @classmethod
    def defaults(cls, data: str) -> dict[str, Any]:
        """The settings that depend on the data set, by its name in params.yaml."""
        return {}

    @classmethod
    def schedule(cls, name: str) -> dict[str, Any]:
        """TrainSettings of one of the three schedules: `digits`, `paper`, `common`."""
        return {"digits": DIGITS_SCHEDULE, "paper": cls.paper_schedule, "common": COMMON_SCHEDULE}[name]

    @abstractmethod
    def perturb(self, batch: Batch) -> Any:
        """The images that the step's loss is computed on."""

    @abstractmethod
    def losses(self, batch: Batch, perturbed: Any) -> dict[str, Tensor]:
        """The weighted terms of the loss, by name."""

    def served(self) -> nn.Module:
        """The network that is validated, exported and served."""
        return self.target

    def trained(self) -> list[nn.Parameter]:
        """What the optimiser changes."""
        return [parameter for parameter in self.parameters() if parameter.requires_grad]

    def averaging_decay(self, step: int, decay: float) -> float | Tensor:
        """The share of the old average that `step` keeps; `decay` is the schedule's. Warms up as (step + 1)/(step + 10)."""
        return min(decay, (step + 1) / (step + 10))

    def after_step(self, batch: Batch, perturbed: Any) -> None:
        """Updates state that the method keeps between steps; such state must be buffers, so that checkpoints hold it."""


@contextmanager
def crafting(*networks: nn.Module) -> Iterator[None]:
    """Networks in eval mode while images are made; each gets its own mode back, after an exception too."""
    modes = [network.training for network in networks]
    try:
        for network in networks:
            network.eval()
        yield
    finally:
        for network, mode in zip(networks, modes, strict=True):
            network.train(mode)
