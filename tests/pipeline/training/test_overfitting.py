"""The alarm for catastrophic overfitting: what sets it off, what does not, and what follows."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from bundle.table.threats import Threat
from pipeline.methods import Batch
from pipeline.methods.standard import Standard
from pipeline.training import loop
from pipeline.training.loop import Training
from pipeline.training.overfitting import OverfittingAlarm, overfits
from pipeline.training.validation import ValidationAccuracy
from tests.pipeline.training.runs import assert_equal_runs, assert_equal_states, spoiled, stop_at

Make = Callable[..., Training]


def rows(accuracies: list[tuple[float, float]]) -> list[dict[str, Any]]:
    """(PGD-10, FGSM) of each epoch."""
    return [
        {"epoch": number, "validation_pgd_10": pgd, "validation_fgsm": fgsm, "overfitting": 0}
        for number, (pgd, fgsm) in enumerate(accuracies, 1)
    ]


def alarms(accuracies: list[tuple[float, float]], images: int) -> list[int]:
    history = rows(accuracies)
    return [row["epoch"] for number, row in enumerate(history) if overfits(row, history[:number], images)]


def test_a_collapse_under_pgd_with_single_steps_resisted_sets_it_off():
    """FGSM-RS on CIFAR-10 as published: PGD accuracy from 0.42 to nearly 0 within an epoch or two."""
    healthy = [(0.30, 0.36), (0.38, 0.46), (0.42, 0.50)]
    assert alarms([*healthy, (0.20, 0.62), (0.01, 0.83)], 1000) == [4, 5]
    assert alarms([*healthy, (0.05, 0.50)], 1000) == [4], "it is enough that single-step accuracy stays"
    assert alarms([*healthy, (0.41, 0.49), (0.0, 0.8), (0.43, 0.5)], 100) == [5], "and it is over when PGD is back"


def test_what_falls_together_or_slowly_does_not():
    healthy = [(0.40, 0.48), (0.50, 0.58), (0.53, 0.61)]
    assert alarms([*healthy, (0.30, 0.35)], 5000) == [], "a bad epoch: both fall"
    robust_overfitting = [(0.53 - 0.008 * n, 0.61 - 0.004 * n) for n in range(11)]
    assert alarms([*healthy, *robust_overfitting], 5000) == []
    assert alarms([(0.0, 0.9)], 5000) == [], "there is nothing to compare the first epoch with"
    assert alarms([(0.09, 0.2), (0.0, 0.9)], 5000) == [], "too little robustness to lose"


def test_few_images_need_a_larger_fall():
    """From 50 % to 30 % is nine standard errors of 1000 images, and two of 40."""
    accuracies = [(0.5, 0.6), (0.3, 0.7)]
    assert alarms(accuracies, 1000) == [2] and alarms(accuracies, 40) == []
    assert alarms([(0.5, 0.6), (0.05, 0.7)], 40) == [2]


@pytest.mark.parametrize("images", [40, 144, 1000, 5000])
def test_noise_does_not_set_it_off(images: int):
    """Two hundred epochs at the same true accuracies, every epoch drawn independently, a hundred times: no alarm."""
    random = np.random.default_rng(images)
    for robust in (0.15, 0.3, 0.5, 0.8):
        for _ in range(25):
            single = random.binomial(images, robust + 0.08, size=200) / images
            pgd = np.minimum(random.binomial(images, robust, size=200) / images, single)
            history = rows(list(zip(pgd.tolist(), single.tolist(), strict=True)))
            assert not any(overfits(row, history[:number], images) for number, row in enumerate(history))


def test_the_line_is_printed_where_it_begins_and_every_epoch_is_counted(capsys: pytest.CaptureFixture[str]):
    alarm, history = OverfittingAlarm("log", 1000), []
    for row in rows([(0.5, 0.6), (0.1, 0.7), (0.0, 0.8), (0.5, 0.6), (0.0, 0.9)]):
        action = alarm.judge(row, history)
        history.append({**row, "overfitting": int(action is not None)})
    assert [row["overfitting"] for row in history] == [0, 1, 1, 0, 1]
    assert alarm.record() == {"action": "log", "epochs": [2, 3, 5], "stopped_after": None}
    lines = capsys.readouterr().out.splitlines()
    assert len(lines) == 2
    assert lines[0] == (
        "catastrophic overfitting in epoch 2: PGD-10 accuracy fell from 50.0% (epoch 1) to 10.0%, single-step accuracy "
        "is 70.0% (was 60.0%); training goes on (train.catastrophic_overfitting: log)"
    )


class Collapsing(Standard):
    """From the fourth epoch on PGD has a second, huge ball to search, in which `validated` finds everything.

    With `cursed`, this happens only where the fourth epoch drew that very random number.
    """

    selected_by = "pgd_10"
    cursed: float | None = None

    def __init__(self, *arguments: Any) -> None:
        super().__init__(*arguments)
        self.register_buffer("drawn", torch.full((), -1.0))
        self.drawn: Tensor

    @property
    def threats(self) -> tuple[Threat, ...]:
        small = Threat("linf", 1e-6)
        collapsed = self.drawn >= 0 if self.cursed is None else self.drawn == self.cursed
        return (small, Threat("linf", 255)) if collapsed else (small,)

    def after_step(self, batch: Batch, perturbed: Tensor) -> None:
        if batch.epoch == 3 and self.drawn < 0:
            self.drawn.copy_(torch.rand(()))


class Plain(Standard):
    """The same without the second ball."""

    selected_by = "pgd_10"

    @property
    def threats(self) -> tuple[Threat, ...]:
        return (Threat("linf", 1e-6),)


SETTINGS: dict[str, Any] = {"epochs": 6, "batch_size": 6, "lr": 0.03, "augment": "none"}


@pytest.fixture(autouse=True)
def validated(monkeypatch: pytest.MonkeyPatch) -> None:
    """Accuracies by what is asked alone: how well sixty images taught a network is another thing on every processor."""

    def accuracy(
        network: nn.Module, images: Tensor, labels: Tensor, *, threats: Sequence[Threat], **_: Any
    ) -> ValidationAccuracy:
        return ValidationAccuracy(
            clean=0.8, robust=0.7 if max(threat.size for threat in threats) < 255 else 0.0, fgsm=0.75
        )

    monkeypatch.setattr(loop, "validate", accuracy)


def collapsing(make_training: Make, action: str, kind: type[Collapsing] = Collapsing) -> Training:
    return make_training("standard", kind=kind, catastrophic_overfitting=action, **SETTINGS)


def test_log_goes_on_and_marks_the_rows(make_training: Make, tmp_path: Path):
    training = collapsing(make_training, "log")
    assert training.run(tmp_path) and training.epoch == 6
    assert [row["overfitting"] for row in training.history] == [0, 0, 0, 1, 1, 1]
    assert training.alarm.record() == {"action": "log", "epochs": [4, 5, 6], "stopped_after": None}
    assert training.selected.epoch <= 3


def test_stop_ends_training_with_what_was_selected(
    make_training: Make, tmp_path: Path, capsys: pytest.CaptureFixture[str]
):
    training = collapsing(make_training, "stop")
    assert training.run(tmp_path) and training.finished and training.epoch == 4
    assert [row["overfitting"] for row in training.history] == [0, 0, 0, 1]
    assert training.alarm.record() == {"action": "stop", "epochs": [4], "stopped_after": 4}
    assert training.selected.epoch <= 3 and "training ends with the epoch selected so far" in capsys.readouterr().out
    again = spoiled(collapsing(make_training, "stop"))
    assert again.run(tmp_path) and again.epoch == 4, "a stopped run that is started again is still finished"
    assert_equal_runs(again, training)


def cursed_kind(make_training: Make, tmp_path: Path) -> type[Collapsing]:
    """A method that collapses with the random numbers that a run begins with, and with no others."""
    first = collapsing(make_training, "stop")
    first.run(tmp_path / "first")
    return type("Cursed", (Collapsing,), {"cursed": float(first.method.drawn)})


def test_roll_back_goes_on_from_before_with_other_random_numbers(make_training: Make, tmp_path: Path):
    training = collapsing(make_training, "roll_back", cursed_kind(make_training, tmp_path))
    assert training.run(tmp_path / "run") and training.epoch == 6
    assert training.alarm.record() == {"action": "roll_back", "epochs": [4], "stopped_after": None}
    assert [row["epoch"] for row in training.history] == [1, 2, 3, 4, 5, 6]
    assert not any(row["overfitting"] for row in training.history), "the epoch that went wrong is not in the history"
    plain = make_training("standard", kind=Plain, **SETTINGS)
    plain.run(tmp_path / "plain")
    same = [
        mine["loss_cross_entropy"] == its["loss_cross_entropy"]
        for mine, its in zip(training.history, plain.history, strict=True)
    ]
    assert same == [True, True, True, False, False, False], "the same until the roll-back, another order after it"


@pytest.mark.parametrize("step", [31, 45])
def test_a_run_killed_around_its_roll_back_ends_the_same(
    step: int, make_training: Make, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    """Ten steps per epoch: in the fourth epoch, before the roll-back, and in the fifth, after it."""
    kind = cursed_kind(make_training, tmp_path)
    whole = collapsing(make_training, "roll_back", kind)
    whole.run(tmp_path / "whole")
    stop_at(collapsing(make_training, "roll_back", kind), step, tmp_path / "parts", monkeypatch)
    resumed = spoiled(collapsing(make_training, "roll_back", kind))
    resumed.run(tmp_path / "parts")
    assert resumed.alarm.epochs == [4]
    assert_equal_runs(resumed, whole)


def test_a_run_killed_after_its_roll_back_keeps_the_other_random_numbers(
    make_training: Make, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    """Ctrl-C in the second attempt at the fourth epoch: the roll-back has a checkpoint of its own."""
    kind = cursed_kind(make_training, tmp_path)
    whole = collapsing(make_training, "roll_back", kind)
    whole.run(tmp_path / "whole")
    stopped, original = collapsing(make_training, "roll_back", kind), Training.step

    def stop(self: Training, index: Tensor, number: int, rate: float) -> dict[str, Tensor]:
        if self.alarm.roll_backs == 1 and number == 33:
            raise KeyboardInterrupt
        return original(self, index, number, rate)

    with monkeypatch.context() as patched:
        patched.setattr(Training, "step", stop)
        with pytest.raises(Exception, match="stopped in epoch 4 of 6"):
            stopped.run(tmp_path / "parts")
    resumed = spoiled(collapsing(make_training, "roll_back", kind))
    resumed.run(tmp_path / "parts")
    assert_equal_runs(resumed, whole)


def test_after_three_roll_backs_it_stops(make_training: Make, tmp_path: Path):
    training = collapsing(make_training, "roll_back")
    assert training.run(tmp_path) and training.epoch == 4
    assert training.alarm.record() == {"action": "roll_back", "epochs": [4, 4, 4, 4], "stopped_after": 4}
    assert [row["overfitting"] for row in training.history] == [0, 0, 0, 1]
    assert training.seconds > 0


def test_a_network_without_defence_sets_off_nothing(make_training: Make, tmp_path: Path):
    """It forgets what little resistance it began with, which is no overfitting to an attack."""
    kind = type("Undefended", (Collapsing,), {"selected_by": "clean"})
    training = collapsing(make_training, "stop", kind)
    assert training.run(tmp_path) and training.epoch == 6 and training.alarm.epochs == []


def test_the_alarm_changes_no_weights_while_it_is_silent(make_training: Make, tmp_path: Path):
    runs = []
    for action in ("log", "roll_back"):
        runs.append(make_training("pgd_at", catastrophic_overfitting=action))
        runs[-1].run(tmp_path / action)
    assert_equal_states(runs[0].method.state_dict(), runs[1].method.state_dict())
