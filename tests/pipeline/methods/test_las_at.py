"""LAS-AT against the official code's step: the strategy's attack image by image, its reward, and what it learns."""

from __future__ import annotations

import copy
from dataclasses import replace

import pytest
import torch
from torch import Tensor

from pipeline.attacks.ascent import random_start
from pipeline.methods import Method
from pipeline.methods.las_at import RADII, SIZES, STEPS, Chosen, drawn
from pipeline.resolve import complete
from tests.pipeline.methods import by_hand, checks
from tests.pipeline.methods.by_hand import SHAPE, THREAT, assert_same_loss, build, clip, cross_entropy, log_p, smoothed

PERTURBED = torch.rand(6, *SHAPE, generator=torch.Generator().manual_seed(9), dtype=torch.float64)
CHOICES = torch.tensor([[0, 12, 5, 3, 7, 1], [11, 0, 5, 2, 9, 4], [0, 4, 1, 2, 3, 4]])


def test_the_loss_is_smoothed_cross_entropy_and_the_reward_begins_with_the_plain_one():
    batch = by_hand.batch()

    def expected(method: Method) -> Tensor:
        loss = smoothed(method.target(PERTURBED), batch.labels, 0.7)
        return loss + 0 * sum(weight.sum() for weight in method.strategy.parameters())

    method = build("las_at")
    assert_same_loss(method, expected, checks.total(batch, Chosen(PERTURBED, CHOICES)))
    method.losses(batch, Chosen(PERTURBED, CHOICES))
    wanted = cross_entropy(copy.deepcopy(method.target).train()(PERTURBED), batch.labels)
    torch.testing.assert_close(method.reward, wanted.detach())


def test_every_image_is_attacked_with_its_own_radius_steps_and_size(monkeypatch: pytest.MonkeyPatch):
    method, batch = build("las_at"), by_hand.batch()
    target, unit = copy.deepcopy(method.target).eval(), THREAT.eps / 8
    torch.manual_seed(5)
    starts, ends = random_start(batch.images, THREAT), []
    for row, (label, choice) in enumerate(zip(batch.labels, CHOICES.T.tolist(), strict=True)):
        radius, steps, size = RADII[choice[0]], STEPS[choice[1]], SIZES[choice[2]]
        point, clean = starts[row, None], batch.images[row, None]
        for _ in range(steps):
            point = point.detach().requires_grad_()
            (gradient,) = torch.autograd.grad(cross_entropy(target(point), label[None]), point)
            point = clip(point.detach() + size * unit * gradient.sign(), clean, radius * unit)
        ends.append(point.detach())
    torch.manual_seed(5)
    with torch.no_grad():
        method.eval()
        found = method._attack(batch, CHOICES)
    torch.testing.assert_close(found, torch.cat(ends), rtol=0, atol=1e-12)
    assert (found - batch.images).abs().max() > THREAT.eps, "a strategy may leave the ball"


def test_choices_are_drawn_from_the_three_heads():
    method, batch = build("las_at"), by_hand.batch()
    assert method.strategy.linear.weight.shape[0] == 13 + 12 + 5
    choices = method.perturb(batch).choices
    assert choices.shape == (3, 6) and [int(each.max()) < size for each, size in zip(choices, (13, 12, 5), strict=True)]
    logits = torch.tensor([0.0, 1.0, -1.0]).expand(20_000, 3)
    shares = torch.bincount(drawn(logits), minlength=3) / 20_000
    torch.testing.assert_close(shares, logits[0].softmax(0), rtol=0, atol=0.02)


def test_the_strategy_moves_up_its_reward_by_reinforce():
    """The gradient is that of −R · Σ_heads mean_i log π, clipped to a norm of 1; R is of the target after its step."""
    method = build("las_at", strategy_lr=0.5, interval=3)
    batch = by_hand.batch(step=2)
    given = Chosen(PERTURBED, CHOICES)
    method.losses(batch, given)
    first, before = method.reward.clone(), copy.deepcopy(method)
    torch.manual_seed(8)
    method.after_step(batch, given)
    torch.manual_seed(8)
    reward = first + reward_by_hand(before, batch.images, batch.labels)
    heads = before.strategy.train()(batch.images).split([13, 12, 5], dim=1)
    logs = [log_p(head).gather(1, choice[:, None]).mean() for head, choice in zip(heads, CHOICES, strict=True)]
    weights = list(before.strategy.parameters())
    gradients = torch.autograd.grad(-reward * sum(logs), weights)
    norm = sum((gradient**2).sum() for gradient in gradients).sqrt()
    assert norm > 1
    for weight, gradient, found in zip(weights, gradients, method.strategy.parameters(), strict=True):
        torch.testing.assert_close(found, weight - 0.5 * gradient / norm, rtol=1e-4, atol=1e-7)
    assert all(torch.equal(a, b) for a, b in zip(before.target.parameters(), method.target.parameters(), strict=True))


def reward_by_hand(method: Method, images: Tensor, labels: Tensor) -> float:
    """4 · share right under two runs of PGD-10 + 2 · share right when clean, in eval mode."""
    target = copy.deepcopy(method.target).eval()
    right = torch.ones(len(labels), dtype=torch.bool)
    for _ in range(2):
        point = random_start(images, THREAT)
        for _ in range(10):
            point = point.detach().requires_grad_()
            logits = target(point)
            right &= logits.argmax(1) == labels
            (gradient,) = torch.autograd.grad(cross_entropy(logits, labels), point)
            point = clip(point.detach() + 0.25 * THREAT.eps * gradient.sign(), images, THREAT.eps)
        right &= target(point).argmax(1) == labels
    return 4 * right.double().mean() + 2 * (target(images).argmax(1) == labels).double().mean()


def test_between_its_steps_the_strategy_stays_as_it_is():
    method, batch = build("las_at", strategy_lr=0.5), by_hand.batch()
    before = copy.deepcopy(method.state_dict())
    for step in (0, 18, 20):
        method.after_step(replace(batch, step=step), Chosen(PERTURBED, CHOICES))
    assert all(torch.equal(value, before[key]) for key, value in method.state_dict().items())


def test_the_strategy_is_in_the_state_and_neither_trained_by_the_loop_nor_attacked_from():
    method = build("las_at")
    assert "strategy.linear.weight" in method.state_dict() and "reward" in method.state_dict()
    assert method.companions() == {} and method.served() is method.target
    assert {id(weight) for weight in method.trained()} == {id(weight) for weight in method.target.parameters()}


def test_crafting_leaves_all_alone_and_costs_what_is_said():
    checks.assert_crafting_leaves_all_alone(build("las_at"), by_hand.batch())
    assert checks.passes_of(build("las_at"), by_hand.batch()) == build("las_at").passes


def test_settings_and_schedule_are_the_official_codes():
    params = complete({"data": {"name": "cifar10"}, "method": {"name": "las_at"}})
    keys = ("true_class", "interval", "strategy_lr", "robust_reward", "clean_reward")
    assert [params.method[key] for key in keys] == [0.7, 20, 1e-4, 4.0, 2.0]
    assert params.train.milestones == [99 / 110, 104 / 110]
