"""The loop: interrupted runs, selection, precision, and what stops it."""

from __future__ import annotations

import json
import math
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from bundle.errors import HallmarkError
from pipeline.methods import Batch, method_class, method_names
from pipeline.training import loop
from pipeline.training.loop import Training
from pipeline.training.record import save_training
from pipeline.training.validation import Selected, ValidationAccuracy
from tests.pipeline.training.runs import assert_equal_runs, assert_equal_states, recorded_dtypes, spoiled, stop_at

Make = Callable[..., Training]


@pytest.mark.parametrize("method", ["d2r_cag", "regmix", "pgd_at", "regmix_d2r_cag", "mat"])
@pytest.mark.parametrize("step", [1, 4, 6])
def test_an_interrupted_run_goes_on_to_the_very_same_bits(
    method: str, step: int, make_training: Make, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    """Stopped in the first epoch, inside the second, and at the start of the third (three steps each)."""
    whole = make_training(method)
    whole.run(tmp_path / "whole")
    said = stop_at(make_training(method), step, tmp_path / "parts", monkeypatch)
    assert re.search(rf"stopped in epoch {step // 3 + 1} of 3; .*the same command goes on", said)
    resumed = spoiled(make_training(method))
    resumed.run(tmp_path / "parts")
    assert len(whole.history) == 3
    assert_equal_runs(resumed, whole)


def test_priors_are_part_of_what_goes_on(make_training: Make, tmp_path: Path):
    """The comparison above would be empty if the priors never moved."""
    training = make_training("regmix")
    training.run(tmp_path)
    assert training.method.velocity.abs().max() > 0 and training.method.prior.abs().max() > 0
    assert set(training._state()["method"]) >= {"prior", "velocity"}


def test_another_seed_gives_other_weights_and_the_same_seed_the_same(make_training: Make, tmp_path: Path):
    runs = [make_training("standard", seed) for seed in (0, 0, 1)]
    for number, run in enumerate(runs):
        run.run(tmp_path / str(number))
    states = [run.method.state_dict() for run in runs]
    assert_equal_states(states[0], states[1])
    assert any(not torch.equal(value, states[2][name]) for name, value in states[0].items())


def test_a_damaged_checkpoint_is_one_sentence(make_training: Make, tmp_path: Path):
    make_training("standard").run(tmp_path)
    file = tmp_path / "checkpoint.pt"
    whole = file.read_bytes()
    for content in (whole[: len(whole) // 2], b"", b"not a checkpoint"):
        file.write_bytes(content)
        with pytest.raises(HallmarkError, match=r"not a readable checkpoint .*; remove .* to start again"):
            make_training("standard").run(tmp_path)


def row(epoch: int, robust: float, clean: float) -> dict[str, Any]:
    return {"epoch": epoch, "validation_pgd_10": robust, "validation_clean": clean}


def test_a_network_without_defence_is_selected_by_clean_accuracy():
    """Chosen by PGD it would be an early, bad epoch, and every defence would look better beside it."""
    network, selected = nn.Linear(1, 1), Selected(by="clean")
    offers = [(0.3, 0.6), (0.0, 0.9), (0.1, 0.9), (0.1, 0.9), (0.5, 0.8)]
    taken = [n for n, (robust, clean) in enumerate(offers, 1) if selected.offer(row(n, robust, clean), network, {})]
    assert taken == [1, 2, 3] and selected.epoch == 3
    assert method_class("standard").selected_by == "clean"
    for name in method_names():
        # Noise is no attack: what it trains resists PGD no more than the floor does.
        by = "clean" if name in ("standard", "gaussian_noise", "smooth_adv") else "pgd_10"
        assert method_class(name).selected_by == by, name


def test_selection_takes_the_highest_pgd_then_clean_then_the_earlier():
    network, selected = nn.Linear(1, 1), Selected(by="pgd_10")
    taken = []
    for number, (robust, clean) in enumerate(
        [(0.4, 0.9), (0.5, 0.6), (0.5, 0.7), (0.5, 0.7), (0.4, 1.0), (0.6, 0.1)], 1
    ):
        nn.init.constant_(network.weight, number)
        if selected.offer(row(number, robust, clean), network, {}):
            taken.append(number)
    assert taken == [1, 2, 3, 6]
    assert (selected.epoch, selected.robust, selected.clean) == (6, 0.6, 0.1)
    assert selected.weights["weight"].item() == 6


def test_a_network_that_never_answers_right_is_still_selected():
    selected = Selected(by="pgd_10")
    assert selected.offer(row(1, 0.0, 0.0), nn.Linear(1, 1), {}) and selected.epoch == 1


def test_selected_weights_do_not_follow_the_network():
    network, selected = nn.Linear(1, 1), Selected(by="pgd_10")
    selected.offer(row(1, 0.5, 0.5), network, {})
    nn.init.constant_(network.weight, 77.0)
    assert selected.weights["weight"].item() != 77


def test_the_run_selects_what_validation_says(make_training: Make, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """Scripted accuracies: the second epoch is best; its weights are kept, not the last ones."""
    training, scripted, weights = make_training("pgd_at"), iter([(0.9, 0.2), (0.5, 0.6), (0.99, 0.5)]), []

    def scores(network: nn.Module, *arguments: Any, **options: Any) -> ValidationAccuracy:
        weights.append({name: value.clone() for name, value in network.state_dict().items()})
        return ValidationAccuracy(*next(scripted), fgsm=0.0)

    monkeypatch.setattr(loop, "validate", scores)
    training.run(tmp_path)
    assert training.selected.epoch == 2 and [item["selected"] for item in training.history] == [1, 1, 0]
    assert_equal_states(training.selected.weights, weights[1])


def test_an_epoch_of_the_warm_up_is_selected_only_where_there_is_no_other(
    make_training: Make, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    """eps has its full size at the end of the second of three epochs; the first has the best numbers."""
    scripted = iter([(0.99, 0.9), (0.6, 0.3), (0.5, 0.2)])
    monkeypatch.setattr(loop, "validate", lambda *arguments, **options: ValidationAccuracy(*next(scripted), fgsm=0.0))
    training = make_training("ibp", eps_warmup=2 / 3)
    training.run(tmp_path / "checkpoints")
    assert training.selected.epoch == 2 and [item["selected"] for item in training.history] == [1, 1, 0]
    save_training(tmp_path / "out", training, {}, {})
    rule = json.loads((tmp_path / "out" / "training.json").read_text())["selection"]["rule"]
    assert rule.endswith("; of the epochs that ended with eps at its full size")


@pytest.mark.parametrize("value", [math.nan, math.inf])
def test_a_loss_that_is_no_number_stops_with_one_sentence(value: float, make_training: Make, tmp_path: Path):
    training = make_training("standard")
    original = training.method.losses

    def poisoned(batch: Batch, perturbed: Tensor) -> dict[str, Tensor]:
        terms = original(batch, perturbed)
        return {name: term * value if batch.step == 4 else term for name, term in terms.items()}

    training.method.losses = poisoned
    with pytest.raises(
        HallmarkError, match=r"no finite number in epoch 2: .*loss_.*a lower train\.lr may help"
    ) as caught:
        training.run(tmp_path)
    assert "\n" not in str(caught.value)


def test_every_image_is_seen_once_an_epoch_in_nearly_equal_batches(make_training: Make, tmp_path: Path):
    training, seen = make_training("standard", batch_size=22), []
    original = training.method.after_step
    training.method.after_step = lambda batch, perturbed: (seen.append(batch), original(batch, perturbed))
    training.run(tmp_path)
    assert training.steps == 3 and [len(batch.index) for batch in seen] == [20] * 9
    for epoch in range(3):
        rows = torch.cat([batch.index for batch in seen if batch.epoch == epoch])
        assert sorted(rows.tolist()) == list(range(60))
    assert [batch.step for batch in seen] == list(range(9))
    first, second = (torch.cat([b.index for b in seen if b.epoch == epoch]) for epoch in (0, 1))
    assert not torch.equal(first, second), "the order is drawn anew in each epoch"


def test_images_and_labels_of_a_batch_belong_together(make_training: Make, tmp_path: Path, digits: Any):
    training, seen = make_training("standard", augment="none"), []
    training.method.after_step = lambda batch, perturbed: seen.append(batch)
    training.run(tmp_path)
    for batch in seen:
        pixels = torch.from_numpy(digits[0].images[batch.index.numpy()]).permute(0, 3, 1, 2)
        assert torch.equal(batch.images, pixels / 255)
        assert batch.labels.tolist() == digits[0].labels[batch.index.numpy()].tolist()


def test_a_step_is_torchs_sgd(make_training: Make, tmp_path: Path):
    """Learning rate, momentum and weight decay written out over two steps."""
    training = make_training("standard", epochs=1, augment="none", lr_shape="cosine", warmup=0.0)
    method, rates, states, gradients = training.method, [], [], []
    original = training.optimiser.step

    def step() -> None:
        rates.append(training.optimiser.param_groups[0]["lr"])
        states.append([w.detach().clone() for w in method.parameters()])
        gradients.append([w.grad.clone() for w in method.parameters()])
        original()

    training.optimiser.step = step
    training.run(tmp_path)
    states.append([w.detach().clone() for w in method.parameters()])
    assert rates == pytest.approx([0.1 * 0.5 * (1 + math.cos(math.pi * k / 3)) for k in range(3)])
    velocity = [torch.zeros_like(w) for w in states[0]]
    for number, rate in enumerate(rates):
        for place, weight in enumerate(states[number]):
            velocity[place] = 0.9 * velocity[place] + gradients[number][place] + 5e-4 * weight
            torch.testing.assert_close(states[number + 1][place], weight - rate * velocity[place], rtol=1e-5, atol=1e-6)


def test_gradient_clip_bounds_the_step(make_training: Make, tmp_path: Path):
    training, norms = make_training("standard", gradient_clip=0.05), []
    original = training.optimiser.step

    def step() -> None:
        norms.append(torch.stack([w.grad.norm() for w in training.method.parameters()]).norm().item())
        original()

    training.optimiser.step = step
    training.run(tmp_path)
    assert max(norms) <= 0.05 * 1.001
    assert training.history[0]["gradient_norm"] > 0.05, "what is logged is the norm before clipping"


def test_averaged_weights_are_what_is_validated_and_selected(make_training: Make, tmp_path: Path):
    training = make_training("standard", averaging="ema", ema_decay=0.5)
    training.run(tmp_path)
    assert training.network() is training.average.network is not training.method.target
    served, trained = training.network().state_dict(), training.method.target.state_dict()
    assert any(not torch.equal(value, trained[name]) for name, value in served.items())
    if training.selected.epoch == 3:
        assert_equal_states(training.selected.weights, served)


def test_bf16_trains_on_the_cpu_and_verdicts_stay_float32(make_training: Make, tmp_path: Path):
    training = make_training("d2r_cag", precision="bf16", epochs=1)
    seen = recorded_dtypes(training.method.target)
    training.run(tmp_path)
    assert {dtype for trains, dtype in seen if trains} == {torch.bfloat16}
    # Not in train mode: crafting, in bf16, and the validation that ends the epoch: PGD-10, FGSM and three verdicts.
    validating = [dtype for trains, dtype in seen if not trains][-15:]
    assert validating == [torch.float32] * 15
    assert all(parameter.dtype == torch.float32 for parameter in training.method.parameters())
    assert math.isfinite(training.history[0]["loss_guide_cross_entropy"])


@pytest.mark.parametrize("method", ["regmix", "fgsm_pgk"])
def test_bf16_keeps_priors_in_float32(method: str, make_training: Make, tmp_path: Path):
    training = make_training(method, precision="bf16", epochs=1)
    training.run(tmp_path)
    assert training.method.prior.dtype == training.method.velocity.dtype == torch.float32
    assert torch.isfinite(training.method.velocity).all()
