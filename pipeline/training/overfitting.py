"""Catastrophic overfitting: the network learns to resist single steps alone, and falls to attacks of several.

What is measured while training runs, beside the losses.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from typing import Any, Literal

import torch
from torch import Tensor, nn

from pipeline.methods.method import Batch, classes_of, crafting

#: PGD-10 accuracy must have fallen by more than this share of the validation images …
SMALLEST_FALL = 0.1
#: … and by more than so many standard errors of the difference: many, as the best of all epochs so far was partly lucky.
STANDARD_ERRORS = 5.0
LARGEST_ROLL_BACKS = 3

Row = dict[str, Any]
Action = Literal["log", "stop", "roll_back"]


def overfits(row: Row, history: Sequence[Row], images: int) -> bool:
    """Whether an epoch shows catastrophic overfitting, against the epoch so far of the highest PGD-10 accuracy.

    It does where PGD-10 accuracy fell by more than SMALLEST_FALL and by more than STANDARD_ERRORS standard errors, while
    single-step accuracy rose or stayed (fell by one standard error at most). The errors are those of a difference of
    two shares of `images` validation images, drawn independently: the same images are asked each time, so the true
    errors are smaller. Robust overfitting, in which both accuracies fall slowly and together, is another thing.
    Sources: Wong et al. 2020, arXiv 2001.03994; Andriushchenko and Flammarion 2020, arXiv 2007.02617.
    """
    if not history:
        return False
    best = _best(history)
    robust, single = ((best[key], row[key]) for key in ("validation_pgd_10", "validation_fgsm"))
    fell = robust[0] - robust[1] > max(SMALLEST_FALL, STANDARD_ERRORS * _standard_error(*robust, images))
    stayed = single[1] >= single[0] - _standard_error(*single, images)
    return fell and stayed


@dataclass
class OverfittingAlarm:
    """Asks after every epoch, and decides what follows.

    log: a line, and the epoch's row is marked. stop: training ends with what was selected until then. roll_back:
    training goes back to the checkpoint before the epoch and on with other random numbers, LARGEST_ROLL_BACKS times
    at most; then it stops.
    """

    action: Action
    images: int
    #: Every epoch that set it off, counted from 1; an epoch that was rolled back can be here again.
    epochs: list[int] = field(default_factory=list)
    roll_backs: int = 0
    stopped_after: int | None = None

    def judge(self, row: Row, history: Sequence[Row]) -> Action | None:
        """What follows from an epoch, None where it is sound; `history` are the rows before it. Prints one line."""
        if not overfits(row, history, self.images):
            return None
        spent = self.action == "roll_back" and self.roll_backs == LARGEST_ROLL_BACKS
        action: Action = "stop" if spent else self.action
        self.epochs.append(row["epoch"])
        self.roll_backs += action == "roll_back"
        self.stopped_after = row["epoch"] if action == "stop" else None
        # Once it has begun it stays: with `log`, the first epoch of many says so.
        if action != "log" or not history[-1]["overfitting"]:
            print(f"{_sentence(row, _best(history))}; {_CONSEQUENCES[action]}", flush=True)
        return action

    def state(self) -> dict[str, Any]:
        """What a checkpoint keeps; OverfittingAlarm(**state) goes on from it."""
        return asdict(self)

    def record(self) -> dict[str, Any]:
        """What training.json says: the setting, the epochs that set it off, and the epoch that ended training with it."""
        return {"action": self.action, "epochs": self.epochs, "stopped_after": self.stopped_after}


_CONSEQUENCES: dict[Action, str] = {
    "log": "training goes on (train.catastrophic_overfitting: log)",
    "stop": "training ends with the epoch selected so far",
    "roll_back": "training goes back to before this epoch, and on with other random numbers",
}


def _sentence(row: Row, best: Row) -> str:
    return (
        f"catastrophic overfitting in epoch {row['epoch']}: PGD-10 accuracy fell from {best['validation_pgd_10']:.1%} "
        f"(epoch {best['epoch']}) to {row['validation_pgd_10']:.1%}, single-step accuracy is "
        f"{row['validation_fgsm']:.1%} (was {best['validation_fgsm']:.1%})"
    )


def _best(history: Sequence[Row]) -> Row:
    return max(history, key=lambda row: row["validation_pgd_10"])


def _standard_error(one: float, other: float, images: int) -> float:
    return math.sqrt((one * (1 - one) + other * (1 - other)) / images)


class AttackSuccess:
    """Share of the images, right when clean, that the training attack breaks; of every tenth step of an epoch.

    An attack that breaks fewer and fewer images has stopped teaching; one that breaks none while PGD breaks them all is
    catastrophic overfitting. Measured in eval mode on the network in training, before its update. Counts stay on the
    device until the epoch ends.
    """

    EVERY = 10

    def __init__(self, device: torch.device) -> None:
        self._counts = torch.zeros(2, dtype=torch.int64, device=device)

    @torch.no_grad()
    def measure(self, network: nn.Module, batch: Batch, attacked: Tensor) -> None:
        """Counts images right when clean, and those of them that are wrong in `attacked` (N, C, H, W)."""
        classes = classes_of(batch.labels)
        with crafting(network):
            right = network(batch.images).argmax(1) == classes
            broken = right & (network(attacked).argmax(1) != classes)
        self._counts += torch.stack([right.sum(), broken.sum()])

    def take_share(self) -> float:
        """The share since it was last asked for, in [0, 1]; 0 where no image was right."""
        right, broken = self._counts.tolist()
        self._counts.zero_()
        return broken / max(1, right)
