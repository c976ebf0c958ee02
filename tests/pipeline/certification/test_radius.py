"""The largest proved radius of each image: proved itself, the next not, exact where it is known, broken nowhere."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

from bundle.numbers.proofs import proof_bounds
from bundle.table.outcomes import Outcomes
from pipeline.certification import radius
from pipeline.certification.program import UnprovableError, read
from pipeline.certification.radius import Search, default_technique, margins, proved_radii
from pipeline.run.cache import Cache
from tests.pipeline.certification.networks import IMAGE, SHALLOW, own_labels, random_images, random_network, unit
from tests.pipeline.certification.soundness import assert_sound, broken_within


@pytest.mark.parametrize("technique", ["ibp", "crown-forward", "crown"])
def test_the_radius_is_proved_and_the_next_step_is_not(technique):
    network, images = random_network("plain4"), random_images(8)
    labels = own_labels(network, images)
    search = Search(technique, tolerance_255=0.125)
    radii = torch.from_numpy(proved_radii(network, images, labels.numpy(), search))
    assert (radii > 0).sum() > 4

    def least(sizes: torch.Tensor) -> torch.Tensor:
        return margins(read(network, IMAGE), unit(images), labels, sizes / 255, technique=technique).amin(1)

    assert (least(radii)[radii > 0] > 0).all()
    assert (least(radii + 0.125) <= 0).all()
    assert (radii / 0.125 == (radii / 0.125).round()).all()


def linear(weights: list[list[float]]) -> nn.Module:
    network = nn.Sequential(nn.Flatten(), nn.Linear(64, len(weights)))
    with torch.no_grad():
        network[1].weight.copy_(torch.tensor(weights)[:, :1] * torch.ones(64))
        network[1].bias.copy_(torch.tensor(weights)[:, 1])
    return network.eval()


def test_on_a_linear_network_the_radius_is_the_closed_form():
    """Margin over the l1 norm of the difference of the weights, but for a step and rounding; grey images, so no cut."""
    network = linear([[0.5, -16.0], [-0.25, 8.0], [0.125, -4.0]])
    images = np.random.default_rng(0).integers(90, 160, (20, 8, 8, 1)).astype(np.uint8)
    labels = own_labels(network, images)
    weight, bias = network[1].weight.detach().double(), network[1].bias.detach().double()
    logits = unit(images).flatten(1) @ weight.T + bias
    rows = torch.arange(20)
    distances = (logits[rows, labels][:, None] - logits) / (weight[labels][:, None] - weight[None]).abs().sum(2)
    distances[rows, labels] = torch.inf
    exact = 255 * distances.amin(1).numpy()
    radii = proved_radii(network, images, labels.numpy(), Search("crown-ibp", tolerance_255=0.01, limit_255=80))
    assert (radii <= exact).all() and (exact - radii < 0.012).all() and len(set(radii)) > 10


def test_the_limit_is_the_end():
    network, images = linear([[0.0, 1.0], [0.0, 0.0]]), random_images(3)
    assert proved_radii(network, images, np.zeros(3, np.int64), Search("ibp", limit_255=7.3)).tolist() == [7.25] * 3


def test_a_wrong_answer_proves_nothing():
    network, images = random_network("plain4"), random_images(6)
    labels = own_labels(network, images).numpy()
    right = proved_radii(network, images, labels, Search("crown-forward"))
    mixed = np.where(np.arange(6) % 2, (labels + 1) % 5, labels)
    assert proved_radii(network, images, mixed, Search("crown-forward")).tolist() == [
        0.0 if row % 2 else size for row, size in enumerate(right)
    ]


@pytest.mark.parametrize("size", [1, 3, 20])
def test_radii_do_not_depend_on_the_batch(size: int):
    network, images = random_network("plain4"), random_images(7)
    labels = own_labels(network, images).numpy()
    whole = proved_radii(network, images, labels, Search("crown-forward"))
    parts = proved_radii(network, images, labels, Search("crown-forward", batch_size=size))
    assert whole[0] > 0 and parts.tolist() == whole.tolist()


@pytest.mark.parametrize("technique", ["ibp", "crown-forward", "crown"])
def test_bounds_that_overflow_prove_nothing(technique):
    network, images = random_network("plain4"), random_images(3)
    labels = own_labels(network, images).numpy()
    with torch.no_grad():
        for parameter in network.parameters():
            parameter.mul_(1e30)
    assert not proved_radii(network, images, labels, Search(technique)).any()


def test_where_the_first_batch_has_no_proof_the_search_ends(monkeypatch: pytest.MonkeyPatch):
    seen: list[int] = []
    original = radius.largest_radii

    def counted(program, images, labels, search):
        seen.append(len(images))
        return original(program, images, labels, search)

    monkeypatch.setattr(radius, "largest_radii", counted)
    network, images = random_network("plain4"), random_images(6)
    wrong = (own_labels(network, images).numpy() + 1) % 5
    assert not proved_radii(network, images, wrong, Search("ibp", batch_size=2)).any()
    assert seen == [2]


def test_finished_batches_are_kept(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    network, images = random_network("plain4"), random_images(5)
    labels = own_labels(network, images).numpy()
    original, calls = radius.largest_radii, []

    def stopping(program, chosen, target, search):
        calls.append(len(chosen))
        if len(calls) == 2:
            raise KeyboardInterrupt
        return original(program, chosen, target, search)

    search, cache = Search("crown-forward", batch_size=2), Cache(tmp_path)
    monkeypatch.setattr(radius, "largest_radii", stopping)
    with pytest.raises(KeyboardInterrupt):
        proved_radii(network, images, labels, search, cache=cache)
    resumed = proved_radii(network, images, labels, search, cache=cache)
    assert calls == [2, 2, 2, 1]  # the first batch is not computed again
    assert resumed.tolist() == proved_radii(network, images, labels, search).tolist()


@pytest.mark.parametrize("technique", ["ibp", "crown-forward", "crown"])
@pytest.mark.parametrize("name", SHALLOW)
def test_no_image_is_proved_and_broken(name: str, technique):
    network, images = random_network(name), random_images(4)
    assert_sound(network, images, own_labels(network, images).numpy(), technique=technique, limit_255=16)


def test_the_attack_that_looks_for_contradictions_finds_them():
    """Twice the exact radius of a linear network is broken, and a hundredth less than it is not."""
    network = linear([[0.5, -1.0], [-0.25, 1.0]])
    images = np.random.default_rng(0).integers(90, 160, (8, 8, 8, 1)).astype(np.uint8)
    labels = own_labels(network, images).numpy()
    radii = torch.from_numpy(proved_radii(network, images, labels, Search("crown-ibp", tolerance_255=0.01)))
    assert broken_within(network, images, labels, 2 * radii + 0.1).all()
    assert not broken_within(network, images, labels, radii).any()


def test_a_network_with_an_unknown_layer_says_so():
    network = nn.Sequential(nn.Flatten(), nn.Linear(64, 4), nn.GELU(), nn.Linear(4, 3)).eval()
    with pytest.raises(UnprovableError, match="nothing proved: no bounds are known through GELU"):
        proved_radii(network, random_images(2), np.zeros(2, np.int64), Search("ibp"))


def test_small_images_are_worth_a_coefficient_a_pixel():
    assert default_technique((8, 8, 1)) == "crown-forward" and default_technique((8, 8, 1), thorough=True) == "crown"
    assert default_technique((32, 32, 3)) == default_technique((32, 32, 3), thorough=True) == "ibp"


def test_the_record_is_the_proof_that_bounds_are_made_of():
    record = radius.describe(Search("crown", tolerance_255=0.5), [8.0, 2.0])
    assert (record["name"], record["norm"], record["technique"]) == ("served-linf", "linf", "CROWN")
    assert record["eps_255"] == [2.0, 8.0] and record["tolerance_255"] == 0.5
    assert "float32" in record["arithmetic"] and set(record["harness"]) == {"name", "version", "digest"}
    outcomes = Outcomes({"proved/linf/eps_255": [0.0, 2.5, 8.0]})
    assert [bound["correct"] for bound in proof_bounds(outcomes, record)] == [2, 1]
