"""AWP against the paper's formula, in float64, written out here."""

from __future__ import annotations

import copy
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from bundle.errors import HallmarkError
from pipeline.methods import Batch, Method
from pipeline.training.loop import Training
from pipeline.training.optimisation import WeightPerturbation

Make = Callable[..., Training]
GAMMA = 0.02


def double(batch: Batch) -> Batch:
    return replace(batch, images=batch.images.double())


def total(method: Method, batch: Batch, perturbed: Tensor) -> Tensor:
    return sum(method.losses(batch, perturbed).values(), torch.zeros((), dtype=torch.float64))


def reference(method: Method, batch: Batch, perturbed: Tensor) -> dict[str, Tensor]:
    """v of every layer: γ ‖w‖ g / ‖g‖, norms as square roots of sums of squares."""
    names = [name for name, weight in method.named_parameters() if weight.dim() > 1]
    weights = dict(method.named_parameters())
    gradients = torch.autograd.grad(
        total(copy_of := copy.deepcopy(method), batch, perturbed), list(copy_of.parameters())
    )
    found = dict(zip(weights, gradients, strict=True))
    return {
        name: GAMMA * (weights[name].detach() ** 2).sum().sqrt() * found[name] / (found[name] ** 2).sum().sqrt()
        for name in names
    }


@pytest.fixture
def step(make_training: Make, tmp_path: Path) -> dict[str, Any]:
    """One training step of TRADES, whose loss passes two batches through the network: what went in and what came out."""
    training = make_training("trades", epochs=1, batch_size=60, awp_gamma=GAMMA, lr_shape="cosine", warmup=0.0)
    before, seen = copy.deepcopy(training.method).double(), {}
    original = training.method.after_step
    training.method.after_step = lambda batch, perturbed: (
        seen.update(batch=double(batch), perturbed=perturbed.double()),
        original(batch, perturbed),
    )
    training.run(tmp_path)
    return {"before": before, "after": training.method, **seen}


def test_a_step_descends_from_the_worst_weights_nearby(step: dict[str, Any]):
    """w' = w + v − lr · (g(w + v) + λ · (w + v)) − v: the gradient, and SGD's decay, are taken at w + v."""
    method, batch, perturbed = step["before"].train(), step["batch"], step["perturbed"]
    moves = reference(method, batch, perturbed)
    assert moves and all(name.endswith("weight") for name in moves)
    moved = copy.deepcopy(method)
    with torch.no_grad():
        for name, weight in moved.named_parameters():
            weight.add_(moves.get(name, torch.zeros_like(weight)))
    gradients = torch.autograd.grad(total(moved, batch, perturbed), list(moved.parameters()))
    after = dict(step["after"].named_parameters())
    for (name, weight), gradient in zip(moved.named_parameters(), gradients, strict=True):
        expected = weight - 0.1 * (gradient + 5e-4 * weight) - moves.get(name, 0)
        torch.testing.assert_close(after[name].double(), expected, rtol=1e-4, atol=2e-6, msg=name)
    plain = torch.autograd.grad(total(method, batch, perturbed), list(method.parameters()))
    largest = max(float((a - b).abs().max()) for a, b in zip(plain, gradients, strict=True))
    assert largest > 1e-3, "a gradient at w would be told apart"


def test_batchnorm_statistics_move_once_a_step_and_at_the_moved_weights(step: dict[str, Any]):
    method, batch, perturbed = step["before"].train(), step["batch"], step["perturbed"]
    moves = reference(method, batch, perturbed)
    with torch.no_grad():
        for name, weight in method.named_parameters():
            weight.add_(moves.get(name, torch.zeros_like(weight)))
    method.losses(batch, perturbed)
    after = dict(step["after"].named_buffers())
    for name, buffer in method.named_buffers():
        torch.testing.assert_close(after[name].double(), buffer.double(), rtol=1e-4, atol=1e-6, msg=name)
    counts = [int(value) for name, value in after.items() if name.endswith("num_batches_tracked")]
    assert set(counts) == {2}, "TRADES passes the adversarial and the clean batch, and AWP's own pass leaves no trace"


def test_moves_have_the_norm_that_gamma_says_and_raise_the_loss(make_training: Make):
    method = make_training("standard").method.double()
    perturbation = WeightPerturbation(method, GAMMA)
    images, labels = torch.rand(12, 1, 8, 8, dtype=torch.float64), torch.arange(12) % 10
    batch = Batch(images, labels, torch.arange(12), 0, 1, 0)
    kept = copy.deepcopy(method)
    low = total(method, batch, images).item()
    method.load_state_dict(kept.state_dict())
    perturbation.move(lambda: total(method, batch, images))
    expected = reference(kept, batch, images)
    kept.requires_grad_(False)
    for name, weight in kept.named_parameters():
        move = method.get_parameter(name).detach() - weight
        torch.testing.assert_close(move, expected.get(name, torch.zeros_like(weight)), rtol=1e-9, atol=1e-15, msg=name)
        if name in expected:
            assert float(move.norm()) == pytest.approx(GAMMA * float(weight.norm()), rel=1e-9)
    assert total(method, batch, images).item() > low
    method.load_state_dict({**method.state_dict(), **dict(kept.named_buffers())})
    perturbation.restore()
    for name, weight in kept.named_parameters():
        torch.testing.assert_close(method.get_parameter(name).detach(), weight, rtol=0, atol=1e-15)


def test_a_gradient_of_zero_moves_nothing_and_a_fixed_network_stays(make_training: Make):
    method = make_training("d2r").method
    method.guide.requires_grad_(False)
    perturbation = WeightPerturbation(method, GAMMA)
    fixed = {weight.data_ptr() for weight in method.guide.parameters()}
    assert perturbation.weights and not fixed & {weight.data_ptr() for weight in perturbation.weights}
    before = copy.deepcopy(method.state_dict())
    perturbation.move(lambda: sum((weight * 0.0).sum() for weight in method.target.parameters()))
    assert all(torch.equal(value, before[name]) for name, value in method.state_dict().items())


def test_it_begins_after_its_share_of_the_epochs(make_training: Make, tmp_path: Path):
    training, moved = make_training("standard", awp_gamma=GAMMA, awp_start=1 / 3), []
    original = training.weight_perturbation.move
    training.weight_perturbation.move = lambda loss: (moved.append(training.epoch), original(loss))
    training.run(tmp_path)
    assert moved == [1, 1, 1, 2, 2, 2]


def test_the_attack_is_made_before_the_weights_move(make_training: Make, tmp_path: Path):
    training, weights = make_training("pgd_at", awp_gamma=0.1, epochs=1), []
    perturb, losses = training.method.perturb, training.method.losses

    def value() -> Tensor:
        return next(training.method.target.parameters()).detach().clone()

    training.method.perturb = lambda batch: (weights.append(value()), perturb(batch))[1]
    training.method.losses = lambda batch, perturbed: (weights.append(value()), losses(batch, perturbed))[1]
    training.run(tmp_path)
    attack, inner, outer = weights[:3]
    assert torch.equal(attack, inner) and not torch.equal(inner, outer)


def test_a_method_that_shares_its_attacks_graph_is_refused_in_one_sentence(make_training: Make):
    method = make_training("fgsm_pgk").method
    with pytest.raises(HallmarkError, match=r"train\.awp_gamma: fgsm_pgk's loss goes through the graph") as caught:
        WeightPerturbation(method, GAMMA)
    assert "\n" not in str(caught.value)
