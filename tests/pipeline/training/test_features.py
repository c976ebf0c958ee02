"""The loop's features: each survives a kill to the very same bits, and does in a run what its own tests say."""

from __future__ import annotations

import math
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from pipeline.methods import Batch
from pipeline.training import loop
from pipeline.training import progress as deadline
from pipeline.training.loop import Training
from pipeline.training.overfitting import AttackSuccess
from pipeline.training.progress import TrainingProgress
from pipeline.training.validation import Selected
from tests.pipeline.training.runs import assert_equal_runs, assert_equal_states, spoiled, stop_at

Make = Callable[..., Training]

FEATURES: dict[str, dict[str, Any]] = {
    "ema": {"method": "standard", "averaging": "ema", "ema_decay": 0.9},
    "swa": {"method": "standard", "averaging": "swa", "swa_start": 0.3},
    "awp": {"method": "pgd_at", "awp_gamma": 0.01, "awp_start": 0.3},
    "cutmix": {"method": "standard", "cutmix": 0.5, "label_smoothing": 0.1},
    "trivial": {"method": "standard", "augment": "trivial"},
    "eps_warmup": {"method": "pgd_at", "eps_warmup": 0.8},
    "extra": {"method": "standard", "own": 40, "share": 0.4},
    "all": {
        "method": "d2r_cag",
        "awp_gamma": 0.01,
        "cutmix": 0.5,
        "averaging": "swa",
        "swa_start": 0.3,
        "own": 40,
        "share": 0.4,
    },
}


@pytest.mark.parametrize("feature", FEATURES)
def test_a_run_that_is_killed_goes_on_to_the_very_same_bits(
    feature: str, make_training: Make, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    whole = make_training(**FEATURES[feature])
    whole.run(tmp_path / "whole")
    plain = make_training(FEATURES[feature]["method"])
    plain.run(tmp_path / "plain")
    assert any(
        not torch.equal(value, plain.network().state_dict()[name])
        for name, value in whole.network().state_dict().items()
    ), "the feature is on"
    stop_at(make_training(**FEATURES[feature]), 7, tmp_path / "parts", monkeypatch)
    resumed = spoiled(make_training(**FEATURES[feature]))
    resumed.run(tmp_path / "parts")
    assert_equal_runs(resumed, whole)


def test_equal_averaging_is_the_mean_of_the_epochs_from_its_start(
    make_training: Make, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    """Statistics of BatchNorm too; before the start, the network itself is validated and offered."""
    training, ends, served = make_training("standard", averaging="swa", swa_start=1 / 3), [], []
    original = Selected.offer

    def offer(self: Selected, row: dict[str, Any], network: Any, companions: Any, **options: Any) -> bool:
        ends.append({name: value.clone() for name, value in training.method.served().state_dict().items()})
        served.append(network)
        return original(self, row, network, companions, **options)

    monkeypatch.setattr(Selected, "offer", offer)
    training.run(tmp_path)
    assert served[0] is training.method.served() and served[1] is served[2] is training.average.network
    for name, value in training.average.network.state_dict().items():
        if value.is_floating_point():
            mean = (ends[1][name].double() + ends[2][name].double()) / 2
            torch.testing.assert_close(value.double(), mean, rtol=1e-6, atol=1e-7, msg=name)
    assert training.average.updates == 2


def test_equal_averaging_leaves_the_trained_weights_alone(make_training: Make, tmp_path: Path):
    runs = [make_training("standard", averaging=kind, swa_start=0.5) for kind in ("none", "swa")]
    for number, run in enumerate(runs):
        run.run(tmp_path / str(number))
    assert_equal_states(runs[0].method.state_dict(), runs[1].method.state_dict())


def test_eps_rises_in_a_straight_line_to_its_full_size(make_training: Make, tmp_path: Path):
    training, radii, reached = make_training("pgd_at", eps_warmup=2 / 3, augment="none"), [], []

    def note(batch: Batch, perturbed: Tensor) -> None:
        radii.append(training.method.threat.size)
        reached.append(float((perturbed - batch.images).abs().max()) * 255)

    training.method.after_step = note
    training.run(tmp_path)
    assert radii == pytest.approx([32 * share for share in (1 / 6, 2 / 6, 3 / 6, 4 / 6, 5 / 6, 1, 1, 1, 1)])
    assert reached == pytest.approx(radii, rel=1e-3)
    assert training.method.threats[0].size == 32, "validation asks for the full radius from the beginning"


def test_the_attacks_success_is_counted_by_hand(make_training: Make, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """Of the images right when clean, in eval mode, before the update, at steps 0 and 10 of an epoch of twelve."""
    training = make_training("pgd_at", batch_size=5, lr=0.03, augment="none")
    original, counts, modes = AttackSuccess.measure, [[0, 0] for _ in range(3)], []

    def by_hand(self: Any, network: Any, batch: Batch, attacked: Tensor) -> None:
        original(self, network, batch, attacked)
        modes.append(network.training)
        network.eval()
        right = network(batch.images).argmax(1) == batch.labels
        counts[batch.epoch][0] += int(right.sum())
        counts[batch.epoch][1] += int((right & (network(attacked).argmax(1) != batch.labels)).sum())
        network.train()

    monkeypatch.setattr(AttackSuccess, "measure", by_hand)
    training.run(tmp_path)
    assert len(modes) == 6 and all(modes), "the network is put back into train mode"
    for row, (right, broken) in zip(training.history, counts, strict=True):
        assert row["attack_success"] == broken / max(1, right)


class Bright(nn.Module):
    """Class 1 where the image is brighter than grey."""

    def forward(self, images: Tensor) -> Tensor:
        mean = images.mean(dim=(1, 2, 3)) - 0.5
        return torch.stack([-mean, mean], dim=1)


def test_what_was_wrong_when_clean_is_no_success_whatever_the_attack_makes_of_it():
    """Of five bright images one has the wrong label; the attack darkens it, one of the others, and leaves three."""
    images, attacked = torch.full((5, 1, 4, 4), 0.7), torch.full((5, 1, 4, 4), 0.6)
    attacked[:2] = 0.3
    batch = Batch(images, torch.tensor([0, 1, 1, 1, 1]), torch.arange(5), 0, 1, 0)
    success = AttackSuccess(images.device)
    success.measure(Bright(), batch, attacked)
    assert success.take_share() == 1 / 4


def test_no_attack_breaks_nothing_and_nothing_right_is_no_division_by_zero(make_training: Make, tmp_path: Path):
    training = make_training("standard")
    training.run(tmp_path / "standard")
    assert [row["attack_success"] for row in training.history] == [0.0] * 3
    wrong = make_training("pgd_at", epochs=1)
    with torch.no_grad():
        wrong.method.target.get_submodule(list(dict(wrong.method.target.named_children()))[-1]).bias[0] = 1e6
    wrong.attack_success.measure(
        wrong.method.target,
        Batch(torch.rand(3, 1, 8, 8), torch.tensor([1, 2, 3]), torch.arange(3), 0, 1, 0),
        torch.rand(3, 1, 8, 8),
    )
    assert wrong.attack_success.take_share() == 0.0


def test_a_row_of_the_history_holds_every_diagnostic(make_training: Make, tmp_path: Path):
    training = make_training("trades", epochs=1)
    training.run(tmp_path)
    assert list(training.history[0]) == [
        "epoch",
        "lr",
        "loss_cross_entropy",
        "loss_adversarial_kl",
        "gradient_norm",
        "attack_success",
        "validation_clean",
        "validation_pgd_10",
        "validation_fgsm",
        "overfitting",
        "selected",
    ]
    assert all(math.isfinite(value) for value in training.history[0].values())


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> SimpleNamespace:
    """A clock that only epochs move, ten seconds each."""
    fake = SimpleNamespace(now=100.0)
    fake.monotonic = lambda: fake.now
    original = Training._epoch

    def epoch(self: Training, progress: TrainingProgress) -> dict[str, Any]:
        fake.now += 10
        return original(self, progress)

    monkeypatch.setattr(deadline, "time", fake)
    monkeypatch.setattr(loop, "time", fake)
    monkeypatch.setattr(Training, "_epoch", epoch)
    return fake


def test_a_deadline_ends_a_call_before_the_epoch_that_would_be_late(
    make_training: Make, tmp_path: Path, clock: SimpleNamespace, capsys: pytest.CaptureFixture[str]
):
    whole = make_training("pgd_at")
    assert whole.run(tmp_path / "whole") and whole.seconds == 30
    start = clock.now
    first = make_training("pgd_at")
    assert not first.run(tmp_path / "parts", deadline=start + 25)
    assert first.epoch == 2 and clock.now == start + 20 and not first.finished
    assert "stops after epoch 2 of 3" in capsys.readouterr().out
    second = spoiled(make_training("pgd_at"))
    assert not second.run(tmp_path / "parts", deadline=clock.now - 1) and second.epoch == 2, "no time at all"
    third = spoiled(make_training("pgd_at"))
    assert third.run(tmp_path / "parts", deadline=clock.now + 1), "how long an epoch takes is known after the first"
    assert third.seconds == 30, "the seconds of all calls"
    assert_equal_runs(third, whole)
