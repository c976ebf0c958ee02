"""Consistency regularisation against its formula: both views, the divergence between them, and how they are moved."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from pipeline.methods import Method
from pipeline.methods.consistency import moved
from pipeline.resolve import complete
from tests.pipeline.methods import by_hand, checks
from tests.pipeline.methods.by_hand import THREAT, assert_same_loss, build, cross_entropy, p

PERTURBED = torch.rand(12, *by_hand.SHAPE, generator=torch.Generator().manual_seed(9), dtype=torch.float64)


@pytest.mark.parametrize(("weight", "temperature"), [(1.0, 0.5), (3.0, 2.0)])
def test_the_loss_is_the_papers(weight: float, temperature: float):
    """CE over both views, and the Jensen-Shannon divergence from its definition, in logarithms of sums."""
    batch = by_hand.batch()

    def expected(method: Method) -> Tensor:
        logits = method.target(PERTURBED)
        one, other = (p(half / temperature) for half in (logits[:6], logits[6:]))
        middle = (one + other) / 2
        divergence = (one * (one / middle).log()).sum() / 12 + (other * (other / middle).log()).sum() / 12
        return cross_entropy(logits, torch.cat([batch.labels, batch.labels])) + weight * divergence

    method = build("consistency", weight=weight, temperature=temperature)
    assert_same_loss(method, expected, checks.total(batch, PERTURBED))


def test_both_views_are_attacked_around_their_own_images():
    method, batch = build("consistency", shift=1), by_hand.batch()
    torch.manual_seed(8)
    second = moved(batch.images, 1)
    torch.manual_seed(8)
    images = method.perturb(batch)
    assert len(images) == 12 and not torch.equal(second, batch.images)
    for found, clean in zip(images.chunk(2), (batch.images, second), strict=True):
        assert (found - clean).abs().max() <= THREAT.eps + 1e-12 and found.min() >= 0 and found.max() <= 1
    checks.assert_in_ball(method.attacked(images), batch)


def test_views_are_moved_as_a_window_over_zeros_and_each_image_by_its_own_step():
    images = torch.arange(1.0, 1 + 40 * 2 * 4 * 4).view(40, 2, 4, 4)
    padded = torch.nn.functional.pad(images, [1] * 4)
    found, places = moved(images, 1), set()
    for row in range(40):
        windows = {(top, left): padded[row, :, top : top + 4, left : left + 4] for top in range(3) for left in range(3)}
        (place,) = [place for place, window in windows.items() if torch.equal(window, found[row])]
        places.add(place)
    assert len(places) == 9, "every place of the window comes up among forty images"
    assert torch.equal(moved(images, 0), images)


def test_crafting_leaves_all_alone_and_a_pass_over_both_views_counts_twice():
    checks.assert_crafting_leaves_all_alone(build("consistency", shift=1), by_hand.batch())
    method = build("consistency", shift=1)
    assert tuple(2 * passes for passes in checks.passes_of(method, by_hand.batch())) == method.passes


def test_settings_are_the_papers_and_digits_are_moved_by_a_pixel():
    params = complete({"data": {"name": "cifar10"}, "method": {"name": "consistency"}})
    assert (params.method["weight"], params.method["temperature"], params.method["shift"]) == (1.0, 0.5, 4)
    assert (params.train.epochs, params.train.milestones) == (200, [0.5, 0.75])
    assert complete({"data": {"name": "digits"}, "method": {"name": "consistency"}}).method["shift"] == 1
