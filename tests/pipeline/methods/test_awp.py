"""The two rows with weight perturbation: the method that they perturb, by how much, and what it costs."""

from __future__ import annotations

import pytest
import torch

from pipeline.resolve import complete
from tests.pipeline.methods import by_hand, checks
from tests.pipeline.methods.by_hand import build

ROWS = [("pgd_at_awp", "pgd_at", 0.01), ("trades_awp", "trades", 0.005)]


@pytest.mark.parametrize(("name", "plain", "gamma"), ROWS)
@pytest.mark.parametrize("data", ["cifar10", "digits"])
def test_only_the_perturbation_and_the_papers_schedule_are_added(name: str, plain: str, gamma: float, data: str):
    found, bare = (complete({"data": {"name": data}, "method": {"name": each}}) for each in (name, plain))
    assert (found.train.awp_gamma, bare.train.awp_gamma) == (gamma, None)
    assert {**found.method, "name": plain} == bare.method
    if data == "cifar10":
        assert (found.train.epochs, found.train.milestones, found.train.weight_decay) == (200, [0.5, 0.75], 5e-4)
    else:
        assert found.train.model_copy(update={"awp_gamma": None}) == bare.train


@pytest.mark.parametrize(("name", "plain", "gamma"), ROWS)
def test_images_and_loss_are_the_plain_methods_and_the_loss_is_paid_twice(name: str, plain: str, gamma: float):
    batch, terms = by_hand.batch(), []
    for each in (name, plain):
        torch.manual_seed(1)
        method = build(each)
        torch.manual_seed(2)
        terms.append(method.losses(batch, method.perturb(batch)))
    assert {key: float(value.detach()) for key, value in terms[0].items()} == pytest.approx(
        {key: float(value.detach()) for key, value in terms[1].items()}
    )
    whole, images = build(plain), build(plain)
    images.losses = lambda batch, perturbed: {"none": sum(weight.sum() for weight in images.parameters()) * 0}
    once, crafted = (checks.passes_of(method, batch) for method in (whole, images))
    assert build(name).passes == tuple(2 * one - other for one, other in zip(once, crafted, strict=True))


def test_another_strength_may_be_asked_for():
    params = complete({"data": {"name": "digits"}, "method": {"name": "pgd_at_awp"}, "train": {"awp_gamma": 0.02}})
    assert params.train.awp_gamma == 0.02
