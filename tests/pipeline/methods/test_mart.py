"""MART against its formula: loss, images, settings and schedule."""

from __future__ import annotations

import pytest
import torch
from pydantic import ValidationError
from torch import Tensor

from pipeline.methods import Method
from pipeline.resolve import complete
from pipeline.training.optimisation import learning_rate
from tests.pipeline.methods import by_hand, checks
from tests.pipeline.methods.by_hand import assert_same_loss, build, cross_entropy, kl_terms, p

PERTURBED = torch.rand(6, *by_hand.SHAPE, generator=torch.Generator().manual_seed(9), dtype=torch.float64)


def expected(method: Method, labels: Tensor, images: Tensor, beta: float) -> Tensor:
    """Image by image, as the paper's equation 11 has it, with the official code's guard against log 0."""
    clean, adversarial = method.target(images), method.target(PERTURBED)
    loss = torch.zeros(())
    for row, label in enumerate(labels.tolist()):
        others = [p(adversarial)[row, k] for k in range(by_hand.CLASSES) if k != label]
        boosted = -p(adversarial)[row, label].log() - (1.0001 - max(others)).log()
        loss = loss + boosted + beta * kl_terms(clean, adversarial)[row].sum() * (1 - p(clean)[row, label])
    return loss / len(labels)


@pytest.mark.parametrize("beta", [5.0, 0.7])
def test_the_loss_is_the_papers(beta: float):
    batch = by_hand.batch()
    assert_same_loss(
        build("mart", beta=beta),
        lambda method: expected(method, batch.labels, batch.images, beta),
        checks.total(batch, PERTURBED),
    )


def test_a_certain_wrong_answer_costs_what_the_guard_allows():
    method, batch = build("mart"), by_hand.batch()
    with torch.no_grad():
        method.target.linear.bias[0] = 1e4
    terms = method.losses(batch, PERTURBED)
    assert torch.isfinite(torch.stack(list(terms.values()))).all()
    wrong = (batch.labels != 0).double().mean()
    assert float(terms["margin"].detach()) == pytest.approx(float(-wrong * torch.tensor(1e-4).log()), rel=1e-2)


def test_clean_images_enter_batchnorms_statistics_first():
    method, batch, seen = build("mart"), by_hand.batch(), []
    method.target.register_forward_pre_hook(lambda module, inputs: seen.append(inputs[0]))
    method.losses(batch, PERTURBED)
    assert seen[0] is batch.images and seen[1] is PERTURBED and len(seen) == 2


def test_the_images_are_the_loop_written_by_hand():
    method, batch = build("mart"), by_hand.batch()
    objective = checks.evaluated(method.target, lambda logits: cross_entropy(logits, batch.labels))
    torch.manual_seed(11)
    start = batch.images + 0.001 * torch.randn(batch.images.shape)
    wanted = checks.ascend_by_hand(start, batch.images, objective, share=0.007 / 0.031)
    torch.manual_seed(11)
    images = method.perturb(batch)
    torch.testing.assert_close(images, wanted, rtol=0, atol=1e-12)
    checks.assert_in_ball(images, batch)


def test_crafting_leaves_all_alone_and_costs_what_is_said():
    checks.assert_crafting_leaves_all_alone(build("mart"), by_hand.batch())
    assert checks.passes_of(build("mart"), by_hand.batch()) == build("mart").passes


@pytest.mark.parametrize("wrong", [{"beta": -1.0}, {"steps": 0}, {"relative_step": 0.0}])
def test_wrong_settings_are_refused(wrong: dict):
    with pytest.raises(ValidationError):
        build("mart", **wrong)


def test_settings_and_schedule_are_the_papers_for_resnet18():
    params = complete({"data": {"name": "cifar10"}, "method": {"name": "mart"}})
    assert params.method == {"name": "mart", "beta": 5.0, "steps": 10, "relative_step": 0.007 / 0.031}
    assert (params.train.epochs, params.train.lr, params.train.weight_decay) == (120, 0.01, 3.5e-3)
    rates = [learning_rate(epoch * 351, 120 * 351, params.train) for epoch in range(120)]
    assert rates == pytest.approx([0.01] * 74 + [1e-3] * 15 + [1e-4] * 10 + [1e-5] * 21)
