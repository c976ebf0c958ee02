"""FGSM-RS and N-FGSM against their formulas: the one step, what is clipped and what is not, and the schedules."""

from __future__ import annotations

import copy

import pytest
import torch

from pipeline.methods import Batch, Method
from pipeline.resolve import complete
from pipeline.training.optimisation import learning_rate
from tests.pipeline.methods import by_hand, checks
from tests.pipeline.methods.by_hand import THREAT, assert_same_loss, build, clip, cross_entropy

PERTURBED = torch.rand(6, *by_hand.SHAPE, generator=torch.Generator().manual_seed(9), dtype=torch.float64)
EPS, BOTH = THREAT.eps, ["fgsm_rs", "n_fgsm"]


def step_by_hand(method: Method, batch: Batch, noise: float) -> tuple[torch.Tensor, torch.Tensor]:
    """Where the step starts and the sign of its gradient, in train mode on the whole batch."""
    start = (batch.images + noise * EPS * (2 * torch.rand(batch.images.shape) - 1)).clamp(0, 1).requires_grad_()
    loss = cross_entropy(copy.deepcopy(method.target).train()(start), batch.labels)
    (gradient,) = torch.autograd.grad(loss, start)
    return start.detach(), gradient.sign()


def test_fgsm_rs_steps_five_quarters_of_eps_and_clips():
    method, batch = build("fgsm_rs"), by_hand.batch()
    torch.manual_seed(4)
    start, sign = step_by_hand(method, batch, 1.0)
    torch.manual_seed(4)
    images = method.perturb(batch)
    torch.testing.assert_close(images, clip(start + 1.25 * EPS * sign, batch.images, EPS), rtol=0, atol=1e-12)
    checks.assert_in_ball(images, batch)


def test_n_fgsm_starts_in_twice_the_ball_and_does_not_clip_to_it():
    method, batch = build("n_fgsm"), by_hand.batch()
    torch.manual_seed(4)
    start, sign = step_by_hand(method, batch, 2.0)
    torch.manual_seed(4)
    images = method.perturb(batch)
    torch.testing.assert_close(images, (start + EPS * sign).clamp(0, 1), rtol=0, atol=1e-12)
    moved = (images - batch.images).abs().max()
    assert 1.5 * EPS < moved <= 3 * EPS and images.min() >= 0 and images.max() <= 1


@pytest.mark.parametrize("name", BOTH)
def test_the_loss_is_cross_entropy(name: str):
    batch = by_hand.batch()
    assert_same_loss(
        build(name),
        lambda method: cross_entropy(method.target(PERTURBED), batch.labels),
        checks.total(batch, PERTURBED),
    )


@pytest.mark.parametrize("name", BOTH)
def test_a_step_costs_two_passes_and_sees_the_batchs_statistics(name: str):
    method, batch = build(name), by_hand.batch()
    before = method.target.normalisation.running_mean.clone()
    images = method.perturb(batch)
    assert not torch.equal(method.target.normalisation.running_mean, before) and method.crafting_mode == "train"
    assert all(weight.grad is None for weight in method.parameters()) and not images.requires_grad
    assert checks.passes_of(build(name), batch) == method.passes == (2, 2)


@pytest.mark.parametrize(("name", "epochs"), [("fgsm_rs", 15), ("n_fgsm", 30)])
def test_the_learning_rate_rises_and_falls_once(name: str, epochs: int):
    params = complete({"data": {"name": "cifar10"}, "method": {"name": name}})
    assert (params.train.epochs, params.train.lr, params.train.weight_decay) == (epochs, 0.2, 5e-4)
    rates = [learning_rate(step, 1000, params.train) for step in range(1000)]
    assert max(rates) == pytest.approx(0.2) and rates.index(max(rates)) in (499, 500)
    assert rates[0] < 0.001 and rates[-1] < 0.001
