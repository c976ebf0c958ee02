"""What a training method is: the networks it holds, the images it makes, the loss it minimises."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Generator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass
from typing import Any, ClassVar, Literal, NamedTuple

import torch
from torch import Tensor, nn

from bundle.errors import HallmarkError
from bundle.table.threats import NORMS, Norm, Threat
from pipeline.networks.folding import folded
from pipeline.params import Section
from pipeline.params.defaults import COMMON_SCHEDULE, DIGITS_SCHEDULE


@dataclass(frozen=True)
class Batch:
    """One step's images (N, C, H, W) in [0, 1], labels, rows in the training split (N,), and where training is.

    `labels` are classes (N,), or distributions over classes (N, K) where the loop smooths or mixes them: torch's
    cross-entropy takes both, and `classes_of` gives the class of each. `epoch` counts from 0 to `epochs` − 1, `step`
    counts optimiser steps from 0 over the whole training.
    """

    images: Tensor
    labels: Tensor
    index: Tensor
    epoch: int
    epochs: int
    step: int


class Task(NamedTuple):
    """What a method is built for: the ball, the number of classes and training images, and their shape (C, H, W).

    `extra` of the images are additional ones, which not every epoch shows; the others are seen once per epoch.
    """

    threat: Threat
    classes: int
    images: int
    shape: tuple[int, int, int]
    extra: int = 0


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
    #: The loss goes through the graph that `perturb` built: weights cannot be moved in between (AWP).
    shares_graph: ClassVar[bool] = False
    #: The labels are smoothed by the method itself, so that the loop must not.
    smooths_labels: ClassVar[bool] = False
    #: Norms that the method can be trained in.
    trains_in: ClassVar[tuple[Norm, ...]] = NORMS
    #: Norms that the method defends against beside the threat's; the evaluation covers them by default.
    norms: ClassVar[tuple[Norm, ...]] = ()
    #: Trained for what can be proved, not against attacks: `make compare` leaves it out where it is not named.
    for_certificates: ClassVar[bool] = False
    #: What the validation split chooses the epoch by; the other accuracy breaks ties. A network that defends against
    #: nothing would otherwise be judged at whichever epoch attacks happened to fail, which is no fair floor.
    selected_by: ClassVar[Literal["pgd_10", "clean"]] = "pgd_10"
    #: The schedule of the paper; fields are TrainSettings'.
    paper_schedule: ClassVar[dict[str, Any]] = COMMON_SCHEDULE

    #: The method's own keys of params.yaml's `method` section.
    Settings: ClassVar[type[Section]] = Section

    def __init__(self, settings: Any, task: Task, build: Callable[[str], nn.Module]) -> None:
        """`build` makes a fresh network for a role: `target`, or `guide`."""
        super().__init__()
        self.settings = settings
        self.task = task
        #: Share of the radius that training has reached; the loop raises it to 1 where eps is warmed up.
        self.radius_share = 1.0
        self.target = build("target")
        if self.needs_guide:
            self.guide = build("guide")

    @property
    def threat(self) -> Threat:
        """The ball that this step's images lie in."""
        return self.task.threat.scaled(self.radius_share)

    @property
    def threats(self) -> tuple[Threat, ...]:
        """The balls that the whole training defends against; validation asks for all of them at once."""
        return (self.task.threat,)

    @classmethod
    def defaults(cls, data: str) -> dict[str, Any]:
        """The settings that depend on the data set, by its name in params.yaml."""
        return {}

    @classmethod
    def sections(cls, data: str) -> dict[str, dict[str, Any]]:
        """What the method prefers to the data set's defaults, by section of params.yaml."""
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

    def attacked(self, perturbed: Any) -> Tensor:
        """Of what `perturb` returned, the images (N, C, H, W) that the served network faces in the loss."""
        return perturbed

    def served(self) -> nn.Module:
        """The network that is validated, exported and served."""
        return self.target

    def companions(self) -> dict[str, nn.Module]:
        """The other networks, by name: what an attacker who knows the method has beside the served one."""
        return {name: network for name, network in self.named_children() if network is not self.served()}

    def trained(self) -> list[nn.Parameter]:
        """What the optimiser changes."""
        return [parameter for parameter in self.parameters() if parameter.requires_grad]

    def averaging_decay(self, step: int, decay: float) -> float | Tensor:
        """The share of the old average that `step` keeps; `decay` is the schedule's. Warms up as (step + 1)/(step + 10)."""
        return min(decay, (step + 1) / (step + 10))

    def phase(self, batch: Batch) -> int:
        """What `perturb` and `losses` depend on beside tensors and the radius: in one phase they run the same operations."""
        return 0

    def after_step(self, batch: Batch, perturbed: Any) -> None:
        """Updates state that the method keeps between steps; such state must be buffers, so that checkpoints hold it."""


def classes_of(labels: Tensor) -> Tensor:
    """The class of each label, (N,): labels are classes (N,) or distributions (N, K), whose largest share counts."""
    return labels if labels.dim() == 1 else labels.argmax(dim=1)


@contextmanager
def crafting(*networks: nn.Module) -> Generator[None]:
    """Networks in eval mode while images are made; each gets its own mode back, after an exception too.

    Only images get gradients inside: BatchNorms are folded where training asked for that (fold_while_crafting).
    """
    modes = [network.training for network in networks]
    try:
        for network in networks:
            network.eval()
        with folded(*networks):
            yield
    finally:
        for network, mode in zip(networks, modes, strict=True):
            network.train(mode)


def full_precision(device: torch.device) -> AbstractContextManager[Any]:
    """No autocast within, on a device that has one."""
    available = torch.amp.is_autocast_available(device.type)
    return torch.autocast(device.type, enabled=False) if available else nullcontext()


def last_linear(network: nn.Module) -> nn.Linear:
    """The layer that makes the logits; raises HallmarkError for a network that does not end in nn.Linear."""
    found = [module for module in network.modules() if isinstance(module, nn.Linear)]
    if not found:
        raise HallmarkError("method.name: needs a network with a linear layer at its end, and this one has none")
    return found[-1]
