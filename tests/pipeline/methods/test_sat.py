"""The curriculum of difficulty against what it is reconstructed from: ψ, the level over the epochs, and where PGD stops."""

from __future__ import annotations

import copy
from dataclasses import replace

import pytest
import torch

from pipeline.attacks.ascent import random_start
from pipeline.methods import method_class
from pipeline.methods.sat import difficulty
from tests.pipeline.methods import by_hand, checks
from tests.pipeline.methods.by_hand import THREAT, assert_same_loss, build, clip, cross_entropy, p

PERTURBED = torch.rand(6, *by_hand.SHAPE, generator=torch.Generator().manual_seed(9), dtype=torch.float64)


def psi(logits: torch.Tensor, label: int) -> float:
    shares = p(logits)[0].tolist()
    return (1 + max(share for k, share in enumerate(shares) if k != label) - shares[label]) / 2


def test_difficulty_is_zero_half_and_one_for_right_undecided_and_wrong():
    logits = torch.tensor([[50.0, 0.0, 0.0], [3.0, 3.0, -50.0], [0.0, 50.0, 0.0]])
    assert difficulty(logits, torch.zeros(3, 1, dtype=torch.int64)).tolist() == pytest.approx([0, 0.5, 1], abs=1e-12)


def test_the_level_rises_in_a_straight_line_and_then_stays_at_one():
    method = build("sat", level=0.4, ramp=0.5)
    levels = [method.level(by_hand.batch(epoch=epoch)) for epoch in range(10)]
    assert levels == pytest.approx([0.4, 0.52, 0.64, 0.76, 0.88, 1, 1, 1, 1, 1])
    assert build("sat", ramp=0.0).level(by_hand.batch()) == 1


@pytest.mark.parametrize("epoch", [0, 1, 8])
def test_pgd_stops_image_by_image_where_the_level_is_passed(epoch: int):
    method = build("sat")
    with torch.no_grad():
        method.target.linear.weight.mul_(3)
    batch, target = by_hand.batch(12, epoch=epoch), copy.deepcopy(method.target).eval()
    torch.manual_seed(7)
    starts, ends, made = random_start(batch.images, THREAT), [], set()
    for row, label in enumerate(batch.labels):
        point, clean, steps = starts[row, None], batch.images[row, None], 0
        for _ in range(10):
            point = point.detach().requires_grad_()
            logits = target(point)
            if psi(logits, int(label)) > method.level(batch):
                break
            (gradient,) = torch.autograd.grad(cross_entropy(logits, label[None]), point)
            point = clip(point.detach() + 0.25 * THREAT.eps * gradient.sign(), clean, THREAT.eps)
            steps += 1
        ends.append(point.detach())
        made.add(steps)
    assert made == {10} if epoch == 8 else len(made) > 1
    torch.manual_seed(7)
    images = method.perturb(batch)
    torch.testing.assert_close(images, torch.cat(ends), rtol=0, atol=1e-12)
    checks.assert_in_ball(images, batch)


def test_at_the_highest_level_it_is_pgd_at():
    method, batch = build("sat"), replace(by_hand.batch(), epoch=9)
    torch.manual_seed(2)
    images = method.perturb(batch)
    torch.manual_seed(2)
    assert torch.equal(images, method_class("pgd_at").perturb(method, batch))


def test_the_loss_is_cross_entropy_and_it_says_what_it_is():
    batch = by_hand.batch()
    assert_same_loss(
        build("sat"),
        lambda method: cross_entropy(method.target(PERTURBED), batch.labels),
        checks.total(batch, PERTURBED),
    )
    checks.assert_crafting_leaves_all_alone(build("sat"), batch)
    assert checks.passes_of(build("sat"), batch) == build("sat").passes
    assert method_class("sat").reconstructed and "reconstructed" in method_class("sat").title
