"""FGSM-PGK's priors, momentum and averaging against the official script's steps, written out one by one."""

from __future__ import annotations

import copy
from dataclasses import replace

import pytest
import torch
from torch import Tensor

from pipeline.methods import Batch, Method
from tests.pipeline.methods import by_hand
from tests.pipeline.methods.by_hand import SHAPE, THREAT, build, mean_square, smoothed

EPS = THREAT.eps


class ByHand:
    """The same training step, with tensors of its own for the priors; one plain SGD step on the target."""

    def __init__(self, method: Method, momentum: float, weight: float) -> None:
        self.network = copy.deepcopy(method.target).train()
        self.prior, self.velocity = torch.zeros(12, *SHAPE), torch.zeros(12, *SHAPE)
        self.momentum, self.weight = momentum, weight
        self.optimiser = torch.optim.SGD(self.network.parameters(), lr=0.1)

    def reset(self, rows: Tensor) -> None:
        """ε·sign(U), drawn as the method draws, and no momentum."""
        self.prior[rows] = EPS * (torch.rand(len(rows), *SHAPE) - 0.5).sign()
        self.velocity[rows] = 0

    def step(self, batch: Batch) -> dict[str, Tensor]:
        rows = batch.index
        delta = self.prior[rows].clone().requires_grad_()
        initial = self.network(batch.images + delta)
        (gradient,) = torch.autograd.grad(smoothed(initial, batch.labels, 0.5), delta, retain_graph=True)
        images = (batch.images + (delta.detach() + EPS * gradient.sign()).clamp(-EPS, EPS)).clamp(0, 1)
        final = self.network(images)
        loss = smoothed(final, batch.labels, 0.5) + self.weight * mean_square(final, initial)
        self.optimiser.zero_grad()
        loss.backward()
        self.optimiser.step()
        right = [(logits.argmax(1) == batch.labels).sum().item() for logits in (initial, final)]
        gain = 2 - right[1] / right[0] if right[0] else 1.0
        self.velocity[rows] = self.momentum * self.velocity[rows] + gain * gradient / gradient.abs().sum()
        moved = (self.prior[rows] + EPS * self.velocity[rows].sign()).clamp(-EPS, EPS)
        self.prior[rows] = torch.minimum(torch.maximum(moved, -batch.images), 1 - batch.images)
        return {"images": images, "loss": loss.detach(), "ratio": torch.tensor(right[1] / max(right[0], 1))}


def run_step(method: Method, optimiser: torch.optim.Optimizer, batch: Batch) -> dict[str, Tensor]:
    perturbed = method.perturb(batch)
    loss = torch.stack(list(method.losses(batch, perturbed).values())).sum()
    optimiser.zero_grad()
    loss.backward()
    optimiser.step()
    method.after_step(batch, perturbed)
    return {"images": perturbed.final, "loss": loss.detach()}


def test_three_steps_are_the_official_scripts():
    """Reset in epoch 0, then two epochs on other crops with momentum; images, loss, priors, momentum and weights agree."""
    method = build("fgsm_pgk")
    reference = ByHand(method, momentum=0.3, weight=5.6)
    optimiser = torch.optim.SGD(method.trained(), lr=0.1)
    for epoch in range(3):
        batch = replace(by_hand.batch(epoch=epoch, seed=epoch), index=torch.tensor([4, 1, 11, 0, 7, 2]))
        if epoch == 0:
            torch.manual_seed(21)
            reference.reset(batch.index)
        torch.manual_seed(21)
        found, expected = run_step(method, optimiser, batch), reference.step(batch)
        torch.testing.assert_close(found["images"], expected["images"], rtol=0, atol=1e-12)
        torch.testing.assert_close(found["loss"], expected["loss"], rtol=1e-10, atol=0)
        # The count of right images is kept in float32, so the gain has seven digits.
        torch.testing.assert_close(method.velocity, reference.velocity, rtol=1e-6, atol=1e-12)
        torch.testing.assert_close(method.prior, reference.prior, rtol=0, atol=1e-12)
    for name, value in method.target.state_dict().items():
        torch.testing.assert_close(value, reference.network.state_dict()[name], rtol=1e-9, atol=1e-12)


def test_a_reset_puts_priors_on_the_corners_and_forgets_momentum():
    method, batch = build("fgsm_pgk", reset_epochs=4), by_hand.batch(epoch=8)
    method.velocity.fill_(1.0)
    method.prior.fill_(0.01)
    method.perturb(batch)
    assert torch.equal(method.prior[batch.index].abs(), torch.full((6, *SHAPE), EPS))
    assert 0.2 < (method.prior[batch.index] > 0).double().mean() < 0.8
    assert method.velocity[batch.index].abs().max() == 0
    others = [row for row in range(12) if row not in batch.index.tolist()]
    assert (method.prior[others] == 0.01).all() and (method.velocity[others] == 1).all()


@pytest.mark.parametrize("epoch", [1, 3, 5, 9])
def test_no_reset_between(epoch: int):
    method = build("fgsm_pgk", reset_epochs=4)
    method.prior.fill_(0.01)
    method.perturb(by_hand.batch(epoch=epoch))
    assert (method.prior == 0.01).all()


def test_the_final_image_is_clipped_and_the_initial_is_not(monkeypatch: pytest.MonkeyPatch):
    """The prior was made for another crop: with this one the initial image may leave [0, 1]."""
    method, batch, seen = build("fgsm_pgk"), by_hand.batch(epoch=1), []
    method.prior.fill_(EPS)
    method.target.register_forward_pre_hook(lambda module, inputs: seen.append(inputs[0].detach().clone()))
    perturbed = method.perturb(batch)
    assert torch.equal(seen[0], batch.images + EPS) and seen[0].max() > 1
    assert perturbed.final.min() >= 0 and perturbed.final.max() <= 1
    assert (perturbed.final - batch.images).abs().max() <= EPS + 1e-12
    assert not perturbed.final.requires_grad and perturbed.initial_logits.requires_grad


def test_the_stored_prior_keeps_the_image_it_was_made_for_in_the_pixel_range():
    method, batch = build("fgsm_pgk"), by_hand.batch()
    optimiser = torch.optim.SGD(method.trained(), lr=0.1)
    run_step(method, optimiser, batch)
    stored = batch.images + method.prior[batch.index]
    assert stored.min() >= 0 and stored.max() <= 1
    assert method.prior.abs().max() <= EPS + 1e-12


def test_momentum_is_normalised_over_the_whole_batch_and_scaled_by_the_gain():
    method, batch = build("fgsm_pgk", momentum=0.3), by_hand.batch(epoch=1)
    perturbed = method.perturb(batch)
    method.velocity.fill_(0.5)
    method.right_initially, method.right_finally = torch.tensor(4.0), torch.tensor(1.0)
    method.after_step(batch, perturbed)
    moved = method.velocity[batch.index] - 0.3 * 0.5
    assert moved.abs().sum().item() == pytest.approx(2 - 1 / 4, rel=1e-9)
    torch.testing.assert_close(moved, 1.75 * perturbed.gradient / perturbed.gradient.abs().sum(), rtol=1e-9, atol=1e-15)


def test_the_counts_are_those_of_the_initial_and_the_final_images():
    method, batch = build("fgsm_pgk"), by_hand.batch(epoch=1)
    perturbed = method.perturb(batch)
    with torch.no_grad():
        final = copy.deepcopy(method).target(perturbed.final)
    method.losses(batch, perturbed)
    assert method.right_initially == (perturbed.initial_logits.argmax(1) == batch.labels).sum()
    assert method.right_finally == (final.argmax(1) == batch.labels).sum()


def test_no_image_right_initially_divides_by_nothing():
    method = build("fgsm_pgk")
    method.right_initially, method.right_finally = torch.tensor(0.0), torch.tensor(0.0)
    # The ratio counts as 1, which is above the threshold: the decay is the warm-up's bound alone.
    assert float(method.averaging_decay(10**6, 0.999)) == pytest.approx((10**6 + 1) / (10**6 + 10), abs=2e-7)
    batch = by_hand.batch(epoch=1)
    method.after_step(batch, method.perturb(batch))
    assert torch.isfinite(method.velocity).all()


@pytest.mark.parametrize(
    ("initially", "finally_", "step", "expected"),
    [
        (100, 70, 10**6, 0.999),  # below the threshold: the schedule's decay
        (100, 82, 10**6, 0.99999),  # at the threshold: 0.99999 · ratio / threshold
        (100, 95, 10**6, 1 - 9 / (10**6 + 10)),  # above: at most 1, and at most (s + 1)/(s + 10)
        (100, 70, 0, 0.1),  # warm-up
        (100, 95, 90, 0.91),
    ],
)
def test_averaging_decay_has_two_regimes_and_a_warm_up(initially: int, finally_: int, step: int, expected: float):
    method = build("fgsm_pgk")
    method.right_initially, method.right_finally = torch.tensor(float(initially)), torch.tensor(float(finally_))
    assert float(method.averaging_decay(step, 0.999)) == pytest.approx(expected, abs=2e-7)


def test_batch_statistics_move_while_crafting():
    """The line crafts in train mode: the forward at the initial images updates BatchNorm and uses the batch's statistics."""
    method, batch = build("fgsm_pgk"), by_hand.batch(epoch=1)
    assert method.crafting_mode == "train"
    before = method.target.normalisation.running_mean.clone()
    perturbed = method.perturb(batch)
    assert not torch.equal(method.target.normalisation.running_mean, before)
    expected = copy.deepcopy(method.target).train()(batch.images + method.prior[batch.index])
    torch.testing.assert_close(perturbed.initial_logits, expected, rtol=1e-12, atol=1e-14)


@pytest.mark.parametrize("name", ["fgsm_pgk", "regmix", "regmix_amr"])
def test_crafting_touches_no_parameter_gradient(name: str):
    method, batch = build(name), by_hand.batch()
    method.perturb(batch)
    assert all(parameter.grad is None for parameter in method.parameters())


@pytest.mark.parametrize("name", ["fgsm_pgk", "regmix", "regmix_amr"])
def test_what_is_kept_between_steps_is_in_the_state(name: str):
    assert {"prior", "velocity", "right_initially", "right_finally"} <= set(build(name).state_dict())


@pytest.mark.parametrize("name", ["fgsm_pgk", "regmix_d2r_cag"])
def test_additional_images_start_again_when_a_round_first_shows_them(name: str):
    """Not every epoch shows them: one that the round's first epoch left out starts anew when it comes, and only then."""
    method = build(name, extra=6, reset_epochs=4)
    before = by_hand.batch(epoch=8)
    method.after_step(before, method.perturb(before))
    late = replace(by_hand.batch(epoch=9), index=torch.arange(12)[~torch.isin(torch.arange(12), before.index)])
    known = by_hand.batch(epoch=9)
    started = {}
    for batch in (known, late):
        method.prior[batch.index] = 0.01
        made = method.perturb(batch)
        initial = getattr(made, "initial", None)
        moves = method.prior[batch.index] if initial is None else initial - batch.images
        started[batch is late] = bool((moves - 0.01).abs().amin() > 1e-3 and moves.std() > 0.2 * THREAT.eps)
    assert started == {False: False, True: True}
