"""RAMP against its formulas: the pairing of the logits, and the projection at the end of every epoch."""

from __future__ import annotations

import copy
from dataclasses import replace

import pytest
import torch
from torch import Tensor

from bundle.table.threats import Threat
from pipeline.methods import Method
from pipeline.methods.ramp import Paired, projected
from pipeline.resolve import complete
from tests.pipeline.methods import by_hand, checks
from tests.pipeline.methods.by_hand import SHAPE, THREAT, assert_same_loss, cross_entropy, kl_terms

SETS = torch.rand(3, 6, *SHAPE, generator=torch.Generator().manual_seed(9), dtype=torch.float64)


def build(**settings: object) -> Method:
    method = by_hand.build("ramp", **{"eps_l2": 0.4, "eps_l1": 1.5, **settings})
    with torch.no_grad():
        for weight in method.natural.parameters():
            weight.add_(0.1 * torch.randn_like(weight))
    return method


@pytest.mark.parametrize("weight", [5.0, 1.5])
def test_the_loss_is_the_worst_cases_the_pairing_and_the_natural_networks(weight: float):
    batch = by_hand.batch()
    method = build(**{"lambda": weight})
    right = copy.deepcopy(method.target)(SETS[0]).argmax(1) == batch.labels
    labels = batch.labels.clone()
    labels[0] = copy.deepcopy(method.target)(SETS[0]).argmax(1)[0]
    right[0] = True
    assert 0 < right.sum() < 6
    batch = replace(batch, labels=labels)

    def expected(method: Method) -> Tensor:
        l1, linf = method.target(SETS[1]), method.target(SETS[0])
        paired = sum(kl_terms(linf, l1)[row].sum() for row in range(6) if right[row]) / right.sum()
        loss = cross_entropy(method.target(SETS[2]), batch.labels) + weight * paired
        return loss + cross_entropy(method.natural(batch.images), batch.labels)

    assert_same_loss(method, expected, checks.total(batch, Paired(*SETS)))


def test_no_image_right_pairs_nothing():
    method, batch = build(), by_hand.batch()
    wrong = (copy.deepcopy(method.target)(SETS[0]).argmax(1) + 1) % by_hand.CLASSES
    assert method.losses(replace(batch, labels=wrong), Paired(*SETS))["logit_pairing"] == 0


def test_images_lie_in_their_balls_and_the_worst_is_one_of_the_two():
    method, batch = build(), by_hand.batch(12)
    found = method.perturb(batch)
    for images, norm, eps in ((found.linf, torch.inf, THREAT.eps), (found.l1, 1, 1.5)):
        sizes = torch.linalg.vector_norm((images - batch.images).flatten(1), ord=norm, dim=1)
        assert 0.5 * eps < sizes.max() <= eps * (1 + 1e-6)
    target = copy.deepcopy(method.target).eval()
    for row, label in enumerate(batch.labels):
        losses = [float(cross_entropy(target(images[row, None]), label[None]).detach()) for images in found[:2]]
        assert torch.equal(found.worst[row], found[losses.index(max(losses))][row])


def test_the_projection_keeps_half_of_the_own_move_and_of_the_clean_one_what_points_the_same_way():
    beginning, own, clean = torch.randn(3, 4), torch.randn(3, 4), torch.randn(3, 4)
    cosine = (own * clean).sum() / ((own**2).sum() * (clean**2).sum()).sqrt()
    clean = clean * cosine.sign()
    found = projected(beginning + own, beginning + clean, beginning, 0.3)
    torch.testing.assert_close(found, beginning + 0.7 * own + 0.3 * cosine.abs() * clean)
    torch.testing.assert_close(projected(beginning + own, beginning - clean, beginning, 0.3), beginning + 0.7 * own)
    torch.testing.assert_close(projected(beginning + own, beginning + clean, beginning, 0.0), beginning + own)


def test_three_networks_meet_when_every_image_was_shown_and_not_before():
    """Twelve own images in two batches, with additional rows in each that count for nothing."""
    method = by_hand.build("ramp", images=16, extra=4, eps_l2=0.4, eps_l1=1.5)
    states = [network.state_dict() for network in (method.target, method.natural, method.beginning)]
    with torch.no_grad():
        for weight in (*method.target.parameters(), *method.natural.parameters()):
            weight.add_(0.1 * torch.randn_like(weight))
    before = copy.deepcopy(states)
    wanted = {
        name: projected(value, before[1][name], before[2][name], 0.5) if value.dim() else value
        for name, value in before[0].items()
    }
    first = replace(by_hand.batch(8), index=torch.tensor([0, 2, 4, 6, 8, 10, 12, 13]))
    last = replace(by_hand.batch(8), index=torch.tensor([1, 3, 5, 7, 9, 11, 14, 15]))
    given = Paired(*[torch.zeros(8, *SHAPE)] * 3)
    method.after_step(first, given)
    for state, kept in zip(states, before, strict=True):
        assert all(torch.equal(value, kept[name]) for name, value in state.items())
    assert method.shown == 6
    method.after_step(last, given)
    for state in states:
        assert all(torch.equal(value, wanted[name]) for name, value in state.items())
    assert method.shown == 0


def test_the_natural_network_is_a_companion_that_begins_where_the_target_does():
    method = by_hand.build("ramp", eps_l2=0.4, eps_l1=1.5)
    assert list(method.companions()) == ["natural"] and method.threats[1:] == (Threat("l2", 0.4), Threat("l1", 1.5))
    assert torch.equal(method.natural.linear.weight, method.target.linear.weight)
    assert len(method.trained()) == 2 * len(list(method.target.parameters()))


def test_crafting_leaves_all_alone_and_costs_what_is_said():
    checks.assert_crafting_leaves_all_alone(build(), by_hand.batch())
    assert checks.passes_of(build(), by_hand.batch()) == build().passes


def test_settings_are_those_from_scratch():
    params = complete({"data": {"name": "cifar10"}, "method": {"name": "ramp"}})
    assert (params.method["lambda"], params.method["beta"]) == (5.0, 0.5)
    assert (params.train.epochs, params.train.lr, params.train.milestones) == (80, 0.05, [70 / 80])
