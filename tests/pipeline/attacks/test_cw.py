"""C&W: distances that are measured, images that are adversarial, and ends that are decided image by image."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from bundle.table.threats import Threat
from pipeline.attacks.cw import cw, cw_l2
from tests.pipeline.attacks.classifiers import images, perceptron

SETTINGS = {"steps": 60, "binary_search_steps": 5, "initial_constant": 0.1, "lr": 0.02}


def test_images_are_adversarial_at_their_distances_and_wrong_ones_stay():
    network, clean = perceptron(5, dtype=torch.float32), images(12, dtype=torch.float32)
    labels = network(clean).argmax(1)
    labels[3] = (labels[3] + 1) % 5
    found = cw_l2(network, clean, labels, **SETTINGS)
    assert (network(found.images).argmax(1) != labels).all()
    measured = (found.images.double() - clean.double()).flatten(1).norm(dim=1)
    torch.testing.assert_close(found.distances, measured, rtol=0, atol=1e-12)
    assert found.distances[3] == 0 and (found.distances > 0).sum() == 11
    assert found.images.min() >= 0 and found.images.max() <= 1


def test_nothing_found_is_infinitely_far_and_the_clean_image():
    class Constant(nn.Module):
        def forward(self, images: Tensor) -> Tensor:
            return torch.tensor([[1.0, 0.0]]) + 0 * images.flatten(1).sum(dim=1, keepdim=True)

    clean = images(3, dtype=torch.float32)
    found = cw_l2(Constant(), clean, torch.zeros(3, dtype=torch.long), **SETTINGS)
    assert found.distances.isinf().all() and torch.equal(found.images, clean)


def test_early_ends_save_passes_and_cost_little():
    network, clean = perceptron(5, dtype=torch.float32), images(12, dtype=torch.float32)
    labels, rows = network(clean).argmax(1), []

    class Counted(nn.Module):
        def forward(self, images: Tensor) -> Tensor:
            rows.append(len(images))
            return network(images)

    patient = cw_l2(Counted(), clean, labels, **SETTINGS | {"steps": 120}, abort_early=False)
    all_rows, done = sum(rows), len(rows)
    early = cw_l2(Counted(), clean, labels, **SETTINGS | {"steps": 120})
    assert all_rows == 12 + 5 * 120 * 12 and sum(rows[done:]) < 0.8 * all_rows
    assert (early.distances / patient.distances).max() < 1.05


def test_more_constants_never_lose():
    network, clean = perceptron(5, dtype=torch.float32), images(12, dtype=torch.float32)
    labels = network(clean).argmax(1)
    few, many = (cw_l2(network, clean, labels, **SETTINGS | {"binary_search_steps": n}).distances for n in (2, 6))
    assert (many <= few).all() and (many < 0.99 * few).any()


def test_at_a_radius_exactly_the_closer_images_are_broken():
    """The projection keeps what lies inside; what it shortens no longer crosses the boundary that it just crossed."""
    network, clean = perceptron(5, dtype=torch.float32), images(16, dtype=torch.float32)
    labels = network(clean).argmax(1)
    distances = cw_l2(network, clean, labels, **SETTINGS | {"steps": 120}).distances
    threat = Threat("l2", float(distances.median()) * 1.01)
    options = SETTINGS | {"steps": 120}
    found = cw(network, clean, labels, threat=threat, seed=0, index=torch.arange(16), **options)
    broken = network(found).argmax(1) != labels
    assert torch.equal(broken | (distances > threat.eps * 0.99), torch.ones(16, dtype=torch.bool))
    assert not broken[distances > 1.1 * threat.eps].any() and 4 < broken.sum() < 16
