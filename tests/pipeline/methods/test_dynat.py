"""DyNAT and AdaGAT against their formulas: what the guide's answers do, and what the squared errors move."""

from __future__ import annotations

import copy

import pytest
import torch
from torch import Tensor

from pipeline.methods import Method, method_class
from pipeline.resolve import complete
from tests.pipeline.methods import by_hand, checks
from tests.pipeline.methods.by_hand import assert_same_loss, build, cross_entropy, mean_square

PERTURBED = torch.rand(6, *by_hand.SHAPE, generator=torch.Generator().manual_seed(9), dtype=torch.float64)


@pytest.mark.parametrize("weight", [1.0, 0.2])
def test_the_target_learns_what_the_guide_answers(weight: float):
    batch = by_hand.batch()

    def expected(method: Method) -> Tensor:
        g = method.guide(batch.images)
        answers = g.detach().argmax(dim=1)
        assert (answers != batch.labels).any()
        return cross_entropy(g, batch.labels) + weight * cross_entropy(method.target(PERTURBED), answers)

    assert_same_loss(build("dynat", weight=weight), expected, checks.total(batch, PERTURBED))


def test_images_lead_away_from_the_guides_answers_of_this_very_batch():
    method, batch = build("dynat"), by_hand.batch()
    answers = copy.deepcopy(method.guide).train()(batch.images).argmax(dim=1)
    torch.manual_seed(11)
    wanted = checks.ascend_by_hand(
        batch.images + 0.001 * torch.randn(batch.images.shape),
        batch.images,
        checks.evaluated(method.target, lambda logits: cross_entropy(logits, answers)),
        share=0.007 / 0.031,
    )
    torch.manual_seed(11)
    images = method.perturb(batch)
    torch.testing.assert_close(images, wanted, rtol=0, atol=1e-12)
    checks.assert_in_ball(images, batch)


def test_two_squared_errors_one_of_which_moves_the_guide_alone():
    batch = by_hand.batch()

    def expected(method: Method) -> Tensor:
        a, g = method.target(PERTURBED), method.guide(batch.images)
        return cross_entropy(g, batch.labels) + mean_square(a, g) + 3.0 * mean_square(a.detach(), g)

    assert_same_loss(build("adagat", guide_weight=3.0), expected, checks.total(batch, PERTURBED))
    method = build("adagat")
    term = method.losses(batch, PERTURBED)["guide_squared_error"]
    weights = [method.target.linear.weight, method.guide.linear.weight]
    target, guide = torch.autograd.grad(term, weights, allow_unused=True)
    assert target is None and guide.abs().max() > 0
    assert method_class("adagat").reconstructed and "reconstructed" in method_class("adagat").title


def test_without_its_own_term_adagat_is_lbgat0():
    method, batch = build("adagat", guide_weight=0.0), by_hand.batch()
    torch.manual_seed(3)
    images = method.perturb(batch)
    torch.manual_seed(3)
    assert torch.equal(images, method_class("lbgat").perturb(method, batch))
    found = checks.total(batch, images)(copy.deepcopy(method))
    lbgat = build("lbgat", beta=0.0)
    lbgat.load_state_dict(method.state_dict())
    torch.testing.assert_close(found, checks.total(batch, images)(lbgat))


@pytest.mark.parametrize("name", ["dynat", "adagat"])
def test_clean_images_move_the_targets_batchnorm_last_and_a_step_costs_what_is_said(name: str):
    method, batch, seen = build(name), by_hand.batch(), []
    method.target.register_forward_pre_hook(lambda module, inputs: seen.append(inputs[0]))
    method.losses(batch, PERTURBED)
    assert seen[0] is PERTURBED and seen[1] is batch.images and len(seen) == 2
    assert checks.passes_of(build(name), batch) == method.passes


@pytest.mark.parametrize("name", ["dynat", "adagat"])
@pytest.mark.parametrize("data", ["cifar10", "cifar100"])
def test_settings_and_schedule_are_d2rs(name: str, data: str):
    params, d2r = (complete({"data": {"name": data}, "method": {"name": each}}) for each in (name, "d2r"))
    assert params.train == d2r.train and params.network == d2r.network
    assert params.method["relative_step"] == 0.007 / 0.031
