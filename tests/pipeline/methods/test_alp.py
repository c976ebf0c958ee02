"""Adversarial logit pairing against its formula."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from pipeline.methods import Method, method_class
from tests.pipeline.methods import by_hand, checks
from tests.pipeline.methods.by_hand import assert_same_loss, build, cross_entropy, mean_square

PERTURBED = torch.rand(6, *by_hand.SHAPE, generator=torch.Generator().manual_seed(9), dtype=torch.float64)


@pytest.mark.parametrize(("weight", "clean"), [(0.5, 1.0), (2.0, 0.0)])
def test_the_loss_is_the_papers(weight: float, clean: float):
    batch = by_hand.batch()

    def expected(method: Method) -> Tensor:
        a, n = method.target(PERTURBED), method.target(batch.images)
        labelled = cross_entropy(a, batch.labels) + clean * cross_entropy(n, batch.labels)
        return labelled + weight * mean_square(a, n)

    assert_same_loss(build("alp", weight=weight, clean_weight=clean), expected, checks.total(batch, PERTURBED))


def test_the_images_are_pgd_ats():
    method, batch, found = build("alp"), by_hand.batch(), []
    for name in ("alp", "pgd_at"):
        other = method_class(name)
        torch.manual_seed(6)
        found.append(other.perturb(method, batch))
    assert torch.equal(*found)
    checks.assert_in_ball(found[0], batch)


def test_crafting_leaves_all_alone_and_costs_what_is_said():
    checks.assert_crafting_leaves_all_alone(build("alp"), by_hand.batch())
    assert checks.passes_of(build("alp"), by_hand.batch()) == build("alp").passes
