"""TRADES against its formula: loss, images, settings and schedule."""

from __future__ import annotations

import copy

import pytest
import torch
from pydantic import ValidationError
from torch import Tensor

from pipeline.methods import Method
from pipeline.resolve import complete
from pipeline.training.optimisation import learning_rate
from tests.pipeline.methods import by_hand, checks
from tests.pipeline.methods.by_hand import assert_same_loss, build, cross_entropy, kl_batchmean, kl_terms

PERTURBED = torch.rand(6, *by_hand.SHAPE, generator=torch.Generator().manual_seed(9), dtype=torch.float64)


def objective(method: Method, clean: Tensor, images: Tensor) -> Tensor:
    """Σ KL(p(x)‖p(x')), both in eval mode, p(x) computed anew."""
    copied = copy.deepcopy(method).eval()
    return kl_terms(copied.target(clean).detach(), copied.target(images)).sum()


def noisy(images: Tensor) -> Tensor:
    return images + 0.001 * torch.randn(images.shape)


@pytest.mark.parametrize("beta", [6.0, 1.5])
def test_the_loss_is_cross_entropy_and_beta_times_the_kl_from_clean_to_adversarial(beta: float):
    """With two forwards of the clean images, as in the official code, and gradient through both."""
    batch = by_hand.batch()

    def expected(method: Method) -> Tensor:
        twice = method.target(batch.images)
        adversarial = method.target(PERTURBED)
        return cross_entropy(method.target(batch.images), batch.labels) + beta * kl_batchmean(twice, adversarial)

    assert_same_loss(build("trades", beta=beta), expected, checks.total(batch, PERTURBED))


def test_the_kl_is_not_the_reverse_and_not_detached():
    batch, method = by_hand.batch(), build("trades")
    term = method.losses(batch, PERTURBED)["adversarial_kl"]
    clean, adversarial = method.target(batch.images), method.target(PERTURBED)
    assert (term - 6 * kl_batchmean(adversarial, clean)).abs() > 1e-3 * term
    weight = method.target.linear.weight
    (found,) = torch.autograd.grad(term, weight)
    (detached,) = torch.autograd.grad(6 * kl_batchmean(clean.detach(), adversarial), weight)
    assert (found - detached).abs().max() > 1e-3


def test_the_terms_are_named_and_weighted():
    batch, method = by_hand.batch(), build("trades", beta=0.0)
    terms = method.losses(batch, PERTURBED)
    assert list(terms) == ["cross_entropy", "adversarial_kl"]
    assert terms["adversarial_kl"] == 0 and terms["cross_entropy"] > 0


def test_the_images_are_the_loop_written_by_hand():
    """With confident outputs, where the reverse KL leads to other images."""
    method, batch = build("trades"), by_hand.batch()
    with torch.no_grad():
        method.target.linear.weight.mul_(50)
    target = copy.deepcopy(method.target).eval()

    def reverse(images: Tensor) -> Tensor:
        return kl_terms(target(images), target(batch.images).detach()).sum()

    torch.manual_seed(11)
    start = noisy(batch.images)
    expected, other = (
        checks.ascend_by_hand(start, batch.images, attacked, share=0.007 / 0.031)
        for attacked in (lambda images: objective(method, batch.images, images), reverse)
    )
    torch.manual_seed(11)
    torch.testing.assert_close(method.perturb(batch), expected, rtol=0, atol=1e-12)
    assert (expected - other).abs().max() > 0.1 * by_hand.THREAT.eps


@pytest.mark.parametrize("steps", [1, 10])
def test_images_lie_in_the_ball_and_in_the_pixel_range(steps: int):
    batch = by_hand.batch()
    checks.assert_in_ball(build("trades", steps=steps).perturb(batch), batch)


def test_crafting_raises_the_divergence_it_attacks():
    method, batch = build("trades"), by_hand.batch(12)
    torch.manual_seed(2)
    begun = objective(method, batch.images, noisy(batch.images))
    torch.manual_seed(2)
    assert objective(method, batch.images, method.perturb(batch)) > 10 * begun


def test_crafting_leaves_modes_statistics_and_gradients_alone():
    checks.assert_crafting_leaves_all_alone(build("trades"), by_hand.batch())


def test_modes_come_back_after_an_exception(monkeypatch: pytest.MonkeyPatch):
    checks.assert_modes_come_back_after_an_exception(build("trades"), by_hand.batch(), monkeypatch)


def test_clean_images_enter_batchnorms_statistics_last():
    method, batch = build("trades"), by_hand.batch()
    seen: list[Tensor] = []
    method.target.register_forward_pre_hook(lambda module, inputs: seen.append(inputs[0]))
    method.losses(batch, PERTURBED)
    assert seen[0] is PERTURBED and seen[1] is batch.images and len(seen) == 2


def test_passes_are_those_that_a_step_really_makes():
    method = build("trades")
    assert checks.passes_of(method, by_hand.batch()) == method.passes


@pytest.mark.parametrize("wrong", [{"beta": -1.0}, {"steps": 0}, {"relative_step": 0.0}, {"lambda": 1.0}])
def test_wrong_settings_are_refused(wrong: dict):
    with pytest.raises(ValidationError):
        build("trades", **wrong)


def test_settings_and_schedule_are_the_papers():
    """76 epochs; the official code divides the rate by 10 in epochs 75 and 76, counted from 1."""
    params = complete({"data": {"name": "cifar10"}, "method": {"name": "trades"}})
    assert params.method == {"name": "trades", "beta": 6.0, "steps": 10, "relative_step": 0.007 / 0.031}
    train = params.train
    assert (train.epochs, train.lr, train.batch_size, train.weight_decay) == (76, 0.1, 128, 2e-4)
    assert (train.averaging, params.network.guide) == ("none", None)
    rates = [learning_rate(epoch * 351, 76 * 351, train) for epoch in range(76)]
    assert rates == pytest.approx([0.1] * 74 + [0.01] * 2)
