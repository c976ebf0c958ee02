"""PGD and the margin attack on classifiers whose smallest adversarial perturbation is known."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn

from pipeline.attacks.pgd import Objective, cross_entropy, margin, margin_pgd, pgd, steps_to_break, trajectory
from pipeline.attacks.threat import Threat, uniform_start
from tests.pipeline.attacks.classifiers import SHAPE, Linear, images, perceptron

ATTACKS = [pgd, margin_pgd]
ROWS = torch.arange(64)


def labelled(model: nn.Module, clean: Tensor) -> Tensor:
    """The model's own answers as labels: every clean image is right."""
    return model(clean).argmax(1)


@pytest.mark.parametrize("size", [1, 3, 64])
@pytest.mark.parametrize("attack", ATTACKS)
def test_success_within_a_quarter_of_the_smallest_radius_and_never_below_it(attack: Callable, size: int):
    model, clean = Linear(), images(64)
    labels = labelled(model, clean)
    radii = model.smallest_radius(clean, labels)
    threat = Threat("linf", float(radii.median()) * 255)
    found = torch.cat(
        [
            attack(model, clean[rows], labels[rows], threat=threat, seed=0, index=rows, steps=50)
            for rows in ROWS.split(size)
        ]
    )
    broken = model(found).argmax(1) != labels
    assert broken[radii * 1.25 <= threat.eps].all()
    assert not broken[radii > threat.eps * (1 + 1e-9)].any()
    assert (radii * 1.25 <= threat.eps).sum() >= 16 and (radii > threat.eps).sum() >= 16


@pytest.mark.parametrize("attack", ATTACKS)
@pytest.mark.parametrize("eps_255", [0.5, 8, 7.9, 64, 255])
def test_results_lie_in_the_ball_and_in_the_pixel_range(attack: Callable, eps_255: float):
    model, clean, threat = perceptron(), images(16, spread=1.0), Threat("linf", eps_255)
    clean[:4] = clean[:4].round()  # black and white pixels, where clipping bites
    found = attack(model, clean, labelled(model, clean), threat=threat, seed=0, index=ROWS[:16], steps=10)
    assert (found - clean).abs().max() <= threat.eps + 1e-12
    assert found.min() >= 0 and found.max() <= 1
    assert not found.requires_grad


@pytest.mark.parametrize("attack", ATTACKS)
def test_an_image_gets_the_same_result_alone_and_in_any_batch(attack: Callable):
    model, clean, threat = perceptron(), images(9), Threat("linf", 30)
    labels = labelled(model, clean)
    whole = attack(model, clean, labels, threat=threat, seed=3, index=ROWS[:9], steps=10)
    order = torch.tensor([5, 0, 8, 3])
    part = attack(model, clean[order], labels[order], threat=threat, seed=3, index=order, steps=10)
    torch.testing.assert_close(part, whole[order], rtol=0, atol=1e-12)
    alone = attack(model, clean[3:4], labels[3:4], threat=threat, seed=3, index=torch.tensor([3]), steps=10)
    torch.testing.assert_close(alone, whole[3:4], rtol=0, atol=1e-12)


def test_starts_depend_on_seed_row_and_restart():
    clean, threat = images(4), Threat("linf", 8)
    rows = torch.tensor([7, 2, 9, 4])
    one = uniform_start(clean, threat, seed=0, index=rows)
    assert torch.equal(one, uniform_start(clean, threat, seed=0, index=rows))
    assert torch.equal(one[[2, 0]], uniform_start(clean[[2, 0]], threat, seed=0, index=rows[[2, 0]]))
    for other in (
        uniform_start(clean, threat, seed=1, index=rows),
        uniform_start(clean, threat, seed=0, index=rows + 1),
        uniform_start(clean, threat, seed=0, index=rows, restart=1),
    ):
        assert (other != one).flatten(1).any(1).all()


def test_starts_leave_the_global_generator_alone():
    torch.manual_seed(0)
    before = torch.get_rng_state()
    model, clean = perceptron(), images(2)
    pgd(model, clean, labelled(model, clean), threat=Threat("linf", 8), seed=0, index=ROWS[:2], steps=2)
    assert torch.equal(torch.get_rng_state(), before)


def test_starts_are_uniform_in_the_ball():
    clean, threat = torch.full((200, *SHAPE), 0.5), Threat("linf", 16)
    noise = uniform_start(clean, threat, seed=0, index=torch.arange(200)) - clean
    assert noise.abs().max() <= threat.eps + 1e-6
    assert noise.abs().mean().item() == pytest.approx(threat.eps / 2, rel=0.05)
    assert noise.mean().abs() < 0.05 * threat.eps


@pytest.mark.parametrize("objective", [cross_entropy, lambda logits, labels: -margin(logits, labels)])
def test_ten_twenty_and_fifty_steps_are_prefixes_of_one_trajectory(objective: Callable):
    model, clean = perceptron(), images(40)
    labels = labelled(model, clean)
    given = {"threat": Threat("linf", 12), "seed": 0, "index": ROWS[:40], "restarts": 2, "objective": objective}
    broken_before = torch.zeros(40, dtype=torch.bool)
    previous = torch.full((40,), torch.inf, dtype=torch.float64)
    steps_seen = []
    for steps, found in trajectory(model, clean, labels, steps=(10, 20, 50), **given):
        kept = found.clone()
        assert torch.equal(found, pgd(model, clean, labels, steps=steps, **given))
        broken, reached = model(found).argmax(1) != labels, margin(model(found), labels).detach()
        assert (broken | ~broken_before).all(), "an image that fewer steps broke is broken by more"
        assert (reached <= previous + 1e-12).all()
        broken_before, previous = broken, reached
        steps_seen.append((steps, found, kept))
    assert [steps for steps, _, _ in steps_seen] == [10, 20, 50]
    assert all(torch.equal(found, kept) for _, found, kept in steps_seen), "what was yielded is not changed afterwards"
    assert 0 < broken_before.sum() < 40


def test_more_restarts_never_lose():
    model, clean = perceptron(), images(30)
    labels = labelled(model, clean)
    given = {"threat": Threat("linf", 10), "seed": 0, "index": ROWS[:30], "steps": 3}
    one, five = (margin(model(pgd(model, clean, labels, restarts=n, **given)), labels) for n in (1, 5))
    assert (five <= one + 1e-12).all() and (five < one - 1e-6).any()


def test_the_result_is_the_iterate_with_the_smallest_margin():
    """Against the trajectory written out: start included, the last point included."""
    model, clean, threat = perceptron(), images(8), Threat("linf", 40)
    labels = labelled(model, clean)
    point = uniform_start(clean, threat, seed=0, index=ROWS[:8])
    points = [point]
    for _ in range(4):
        point = point.clone().requires_grad_()
        logits = model(point)
        loss = (logits.exp().sum(1).log() - logits[torch.arange(8), labels]).sum()
        (gradient,) = torch.autograd.grad(loss, point)
        point = point.detach() + 0.25 * threat.eps * gradient.sign()
        point = torch.minimum(torch.maximum(point, clean - threat.eps), clean + threat.eps).clamp(0, 1)
        points.append(point)
    values = torch.stack([margin(model(item), labels) for item in points])
    expected = torch.stack([points[best][row] for row, best in enumerate(values.argmin(0).tolist())])
    found = pgd(model, clean, labels, threat=threat, seed=0, index=ROWS[:8], steps=4)
    torch.testing.assert_close(found, expected, rtol=0, atol=1e-12)


def test_inputs_gradients_and_mode_are_left_alone():
    model, clean = perceptron(), images(4)
    labels, copy = labelled(model, clean), clean.clone()
    pgd(model, clean, labels, threat=Threat("linf", 8), seed=0, index=ROWS[:4], steps=2)
    assert torch.equal(clean, copy) and not clean.requires_grad
    assert all(parameter.grad is None for parameter in model.parameters())


def test_margin_in_closed_form_with_ties():
    logits = torch.tensor([[3.0, 1.0, 2.0], [1.0, 4.0, 2.0], [5.0, 5.0, 0.0], [0.0, 0.0, 0.0], [-torch.inf, 1.0, 0.0]])
    found = margin(logits, torch.tensor([0, 0, 1, 2, 1]))
    assert found.tolist() == [1.0, -3.0, 0.0, 0.0, 1.0]


def test_margin_attack_maximises_the_margin_and_pgd_the_cross_entropy():
    """One step from the same start goes where each objective's gradient points."""
    model, clean, threat = Linear(3), images(6), Threat("linf", 20)
    labels = labelled(model, clean)
    start = uniform_start(clean, threat, seed=0, index=ROWS[:6])
    runner_up = model(start).masked_fill(nn.functional.one_hot(labels, 3).bool(), -torch.inf).argmax(1)
    direction = (model.weight[runner_up] - model.weight[labels]).detach().view(6, *SHAPE).sign()
    expected = torch.minimum(
        torch.maximum(start + 0.25 * threat.eps * direction, clean - threat.eps), clean + threat.eps
    ).clamp(0, 1)
    found = margin_pgd(model, clean, labels, threat=threat, seed=0, index=ROWS[:6], steps=1)
    torch.testing.assert_close(found, expected, rtol=0, atol=1e-12)


@pytest.mark.parametrize("restarts", [1, 3])
@pytest.mark.parametrize("objective", [cross_entropy, lambda logits, labels: -margin(logits, labels)])
def test_steps_to_break_are_the_verdicts_of_the_trajectory(restarts: int, objective: Objective):
    """Whatever leaves the batch early: an image is right under PGD-k exactly where more than k steps break it."""
    model, clean = perceptron(), images(64)
    labels = labelled(model, clean)
    labels[:4] = (labels[:4] + 1) % 2  # wrong before they are attacked
    search = {"threat": Threat("linf", 12), "seed": 3, "index": ROWS, "restarts": restarts, "objective": objective}
    broken_after = steps_to_break(model, clean, labels, steps=12, **search)
    assert broken_after.min() == 0 and len(set(broken_after.tolist())) > 2
    for steps, found in trajectory(model, clean, labels, steps=(0, 1, 2, 5, 12), **search):
        assert torch.equal(broken_after > steps, model(found).argmax(1) == labels), steps
