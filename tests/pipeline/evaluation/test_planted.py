"""The planted test: adversarial images that exist for certain, hidden from chance, found by attacks that work."""

from __future__ import annotations

from functools import cache
from importlib import import_module

import pytest
import torch
from torch import Tensor, nn

from pipeline.attacks.pgd import pgd
from pipeline.attacks.threat import Threat, uniform_start
from pipeline.evaluation.sanity.planted import (
    RIDGE,
    NoReadout,
    discriminants,
    feature_extractor,
    plant,
    planted,
    surface_point,
)
from pipeline.evaluation.victim import Sample

THREATS = [Threat("linf", 32), Threat("l2", 0.5), Threat("l1", 2)]


def network(seed: int = 0, head: nn.Module | None = None) -> nn.Module:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return nn.Sequential(
            nn.Conv2d(1, 12, 3, padding=1),
            nn.ReLU(),
            nn.Conv2d(12, 12, 3, stride=2, padding=1),
            nn.ReLU(),
            nn.Flatten(),
            nn.Linear(12 * 16, 40),
            nn.ReLU(),
            nn.Linear(40, 10),
            head or nn.Identity(),
        ).eval()


@cache
def sample(count: int = 24) -> Sample:
    images = 0.1 + 0.8 * torch.rand(count, 1, 8, 8, generator=torch.Generator().manual_seed(1))
    return Sample(images, torch.zeros(count, dtype=torch.long), torch.arange(count))


def distance(images: Tensor, threat: Threat) -> Tensor:
    order = {"linf": float("inf"), "l2": 2, "l1": 1}[threat.norm]
    return (images - sample().images).flatten(1).norm(order, dim=1)


@pytest.mark.parametrize("threat", THREATS, ids=str)
def test_an_attack_that_works_finds_them_and_chance_does_not(threat: Threat):
    item = planted(network(), sample(), threat, seed=0)
    assert item["outcome"] == "pass" and item["statistic"] >= 0.95
    assert "pgd-50 and margin" in item["meaning"]


@pytest.mark.parametrize("threat", THREATS, ids=str)
def test_the_planted_image_is_there(threat: Threat):
    """The clean image is class 0 and a point of the ball is class 1, by the readout's own answer."""
    part, trunk = sample(), network()
    test = plant(trunk, feature_extractor(trunk, part.images), part, threat, seed=0)
    assert test.planted.float().mean() > 0.9
    points = [surface_point(part, threat, seed=2, number=number) for number in range(16)]
    assert all((distance(point, threat) <= threat.eps * (1 + 1e-6)).all() for point in points)
    with torch.no_grad():
        assert (test.model(part.images).argmax(1)[test.planted] == 0).all()
        reached = torch.stack([test.model(point).argmax(1) == 1 for point in points]).any(0)
    assert reached[test.planted].all()


def test_attacks_that_do_not_work_miss_them():
    """No step at all, steps far too small, and steps down the slope: each fails the model's evaluation."""
    threat = THREATS[0]

    def standing_still(model: object, images: Tensor, labels: Tensor, index: Tensor) -> Tensor:
        return uniform_start(images, threat, seed=0, index=index)

    def crawling(model, images: Tensor, labels: Tensor, index: Tensor) -> Tensor:
        return pgd(model, images, labels, threat=threat, seed=0, index=index, steps=5, relative_step=0.001)

    def downhill(model, images: Tensor, labels: Tensor, index: Tensor) -> Tensor:
        return pgd(
            model, images, labels, threat=threat, seed=0, index=index, objective=lambda logits, labels: -logits[:, 1]
        )

    for search in (standing_still, crawling, downhill):
        item = planted(network(), sample(), threat, seed=0, searches={"this": search})
        assert item["outcome"] == "fail" and item["statistic"] < 0.5, search.__name__


def test_what_chance_finds_is_no_test(monkeypatch: pytest.MonkeyPatch):
    """With lower thresholds random points find some; an attack gets no credit for finding those."""
    for name, value in {"CLOSENESS": 0.6, "INNER": 16, "CANDIDATES": 1}.items():
        # The package has a function of the module's name.
        monkeypatch.setattr(import_module("pipeline.evaluation.sanity.planted"), name, value)
    part, trunk, threat = sample(), network(), THREATS[0]
    tries = [surface_point(part, threat, seed=4, number=number) for number in range(25)]
    test = plant(trunk, feature_extractor(trunk, part.images), part, threat, seed=0)
    with torch.no_grad():
        best = torch.stack([test.model(points)[:, 1] for points in tries]).argmax(0)
        lucky = torch.stack(tries)[best, torch.arange(len(part))]
        assert (test.model(lucky).argmax(1) == 1).sum() >= 2
    item = planted(trunk, part, threat, seed=0, searches={"luck": lambda *_: lucky})
    assert item["statistic"] == 0.0 and item["outcome"] == "fail"


def test_gradients_that_rounding_hides_fail_it():
    class Rounding(nn.Module):
        def forward(self, images: Tensor) -> Tensor:
            return (images * 8).round() / 8

    item = planted(nn.Sequential(Rounding(), network()).eval(), sample(), THREATS[0], seed=0)
    assert item["outcome"] == "fail"


def test_the_readout_is_fishers():
    """Against the covariance written out and solved, for more features than points and fewer."""
    generator = torch.Generator().manual_seed(0)
    for features in (5, 40):
        inner, outer = (torch.randn(2, n, features, dtype=torch.float64, generator=generator) for n in (20, 3))
        for row in range(2):
            covariance = inner[row].T.cov()
            ridge = RIDGE * covariance.diagonal().mean() * torch.eye(features, dtype=torch.float64)
            expected = torch.linalg.solve(covariance + ridge, (outer[row] - inner[row].mean(0)).T).T
            found = discriminants(inner, outer)[row]
            cosine = torch.nn.functional.cosine_similarity(found, expected)
            assert cosine.tolist() == pytest.approx([1.0] * 3, abs=1e-9)


def test_each_image_has_its_own_test_whatever_its_batch():
    part, trunk, threat = sample(), network(), THREATS[0]
    half = next(part.batches(12))
    whole, alone = (plant(trunk, feature_extractor(trunk, some.images), some, threat, seed=0) for some in (part, half))
    direction = torch.nn.functional.cosine_similarity(whole.weights[:12], alone.weights)
    assert torch.equal(whole.planted[:12], alone.planted) and (direction > 0.999).all()


def test_a_network_without_linear_readout_is_not_tested_and_says_so():
    scaled = network(head=nn.Softmax(1))
    with pytest.raises(NoReadout, match="not the output of a linear layer"):
        feature_extractor(scaled, sample().images)
    item = planted(scaled, sample(), THREATS[0], seed=0)
    assert item["outcome"] == "warn" and item["passed"] and item["meaning"].startswith("not tested: ")


def test_where_chance_finds_everything_there_is_no_test():
    """One feature, and so a ball of which about half lies beyond any threshold near its middle."""

    class Brightness(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.readout = nn.Linear(1, 2)

        def forward(self, images: Tensor) -> Tensor:
            return self.readout(images.mean(dim=(1, 2, 3))[:, None].round(decimals=1))

    item = planted(Brightness().eval(), sample(), THREATS[0], seed=0)
    assert item["outcome"] == "warn" and "too few for a test" in item["meaning"]


def test_the_network_is_left_as_it_was():
    trunk, part = network(), sample()
    before = {name: tensor.clone() for name, tensor in trunk.state_dict().items()}
    state = torch.get_rng_state()
    planted(trunk, part, THREATS[0], seed=0)
    assert all(torch.equal(tensor, before[name]) for name, tensor in trunk.state_dict().items())
    assert not any(module._forward_hooks or module._forward_pre_hooks for module in trunk.modules())
    assert torch.equal(torch.get_rng_state(), state)
    assert all(parameter.grad is None for parameter in trunk.parameters())
