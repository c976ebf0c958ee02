"""LBGAT against its formula: loss, images, settings and schedule."""

from __future__ import annotations

import copy

import pytest
import torch
from pydantic import ValidationError
from torch import Tensor

from pipeline.methods import Method, method_class
from pipeline.resolve import complete
from tests.pipeline.methods import by_hand, checks
from tests.pipeline.methods.by_hand import (
    assert_same_loss,
    build,
    cross_entropy,
    kl_batchmean,
    kl_terms,
    mean_square,
)

PERTURBED = torch.rand(6, *by_hand.SHAPE, generator=torch.Generator().manual_seed(9), dtype=torch.float64)


def objective(method: Method, clean: Tensor, images: Tensor) -> Tensor:
    """Σ KL(p(x)‖p(x')) of the target in eval mode."""
    target = copy.deepcopy(method.target).eval()
    return kl_terms(target(clean).detach(), target(images)).sum()


@pytest.mark.parametrize("beta", [0.0, 6.0])
def test_the_loss_is_the_papers(beta: float):
    """CE(g(x), y) + MSE(f(x'), g(x)) + β KL(p_f(x)‖p_f(x')), summed over classes, nothing detached."""
    batch = by_hand.batch()

    def expected(method: Method) -> Tensor:
        a, n, g = method.target(PERTURBED), method.target(batch.images), method.guide(batch.images)
        return cross_entropy(g, batch.labels) + mean_square(a, g) + beta * kl_batchmean(n, a)

    assert_same_loss(build("lbgat", beta=beta), expected, checks.total(batch, PERTURBED))


def test_the_squared_error_moves_both_networks_and_labels_move_the_guide_alone():
    method, batch = build("lbgat"), by_hand.batch()
    terms = method.losses(batch, PERTURBED)
    weights = [method.target.linear.weight, method.guide.linear.weight]
    squared = torch.autograd.grad(terms["mean_squared_error"], weights, retain_graph=True)
    assert all(gradient.abs().max() > 0 for gradient in squared)
    labelled = torch.autograd.grad(terms["guide_cross_entropy"], weights, allow_unused=True)
    assert labelled[0] is None and labelled[1].abs().max() > 0


def test_both_networks_are_trained_and_the_target_is_served():
    method = build("lbgat")
    assert len(method.trained()) == len(list(method.target.parameters())) + len(list(method.guide.parameters()))
    assert method.served() is method.target


def test_the_images_are_those_of_trades_from_the_target_alone(monkeypatch: pytest.MonkeyPatch):
    method, batch = build("lbgat"), by_hand.batch()
    monkeypatch.setattr(method.guide, "forward", lambda images: pytest.fail("the guide has no part in the generation"))
    torch.manual_seed(11)
    start = batch.images + 0.001 * torch.randn(batch.images.shape)
    expected = checks.ascend_by_hand(
        start, batch.images, lambda x: objective(method, batch.images, x), share=0.007 / 0.031
    )
    torch.manual_seed(11)
    torch.testing.assert_close(method.perturb(batch), expected, rtol=0, atol=1e-12)


@pytest.mark.parametrize("steps", [1, 10])
def test_images_lie_in_the_ball_and_in_the_pixel_range(steps: int):
    batch = by_hand.batch()
    checks.assert_in_ball(build("lbgat", steps=steps).perturb(batch), batch)


def test_crafting_raises_the_divergence_it_attacks():
    method, batch = build("lbgat"), by_hand.batch(12)
    begun = objective(method, batch.images, batch.images + 0.001 * torch.randn(batch.images.shape))
    assert objective(method, batch.images, method.perturb(batch)) > 10 * begun


def test_crafting_leaves_modes_statistics_and_gradients_alone():
    checks.assert_crafting_leaves_all_alone(build("lbgat"), by_hand.batch())


def test_modes_come_back_after_an_exception(monkeypatch: pytest.MonkeyPatch):
    checks.assert_modes_come_back_after_an_exception(build("lbgat"), by_hand.batch(), monkeypatch)


def test_clean_images_enter_the_targets_statistics_last_with_beta_0_too():
    """The official code computes the target's clean output for LBGAT0 as well."""
    method, batch = build("lbgat", beta=0.0), by_hand.batch()
    seen: list[Tensor] = []
    method.target.register_forward_pre_hook(lambda module, inputs: seen.append(inputs[0]))
    method.losses(batch, PERTURBED)
    assert seen[0] is PERTURBED and seen[1] is batch.images and len(seen) == 2


@pytest.mark.parametrize("beta", [0.0, 6.0])
def test_passes_are_those_that_a_step_really_makes(beta: float):
    method = build("lbgat", beta=beta)
    assert checks.passes_of(method, by_hand.batch()) == method.passes


@pytest.mark.parametrize("wrong", [{"beta": -1.0}, {"steps": 0}, {"relative_step": 0.0}, {"alpha": 1.0}])
def test_wrong_settings_are_refused(wrong: dict):
    with pytest.raises(ValidationError):
        build("lbgat", **wrong)


@pytest.mark.parametrize(
    ("data", "beta"), [("digits", 0.0), ("cifar10", 0.0), ("cifar100", 6.0), ("tiny_imagenet", 6.0), ("folder", 0.0)]
)
def test_beta_by_data(data: str, beta: float):
    assert complete({"data": {"name": data}, "method": {"name": "lbgat"}}).method["beta"] == beta


def test_beta_given_by_hand_stays():
    given = {"name": "lbgat", "beta": 0.0}
    assert complete({"data": {"name": "cifar100"}, "method": given}).method["beta"] == 0.0


def test_the_schedule_is_d2rs():
    params = complete({"data": {"name": "cifar10"}, "method": {"name": "lbgat"}})
    assert params.train == complete({"data": {"name": "cifar10"}, "method": {"name": "d2r"}}).train
    assert params.network.guide == "guide_resnet18" and method_class("lbgat").needs_guide
