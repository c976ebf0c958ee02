"""Bounds contain what is inside the ball, in float64, in float32 and in the ONNX file, and are tight where they can be."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from bundle.served.runtime import OnnxClassifier
from bundle.table.threats import Threat
from pipeline.attacks.pgd import margin_pgd
from pipeline.certification import intervals
from pipeline.certification import relaxed as forms
from pipeline.certification.intervals import Bounds, box, propagate
from pipeline.certification.program import Program, read
from pipeline.certification.radius import _tightened, differences, margins
from pipeline.networks.serialisation import to_onnx
from tests.pipeline.certification.networks import (
    IMAGE,
    SHALLOW,
    evaluated,
    own_labels,
    points,
    random_images,
    random_network,
    unit,
)

TECHNIQUES = ("ibp", "crown-ibp", "crown-forward", "crown")


def bounds_of(program: Program, images: Tensor, eps: float, kind: str) -> Bounds:
    start = box(images, torch.full((len(images),), eps, dtype=torch.float64))
    if kind == "ibp":
        return propagate(program, start)
    return forms.propagate(program, start, tighten=_tightened if kind == "crown" else None)


def proved(network: nn.Module, images: np.ndarray, eps_255: float, technique: str) -> Tensor:
    """The lower bounds (N, K − 1) for the network's own answers."""
    eps = torch.full((len(images),), eps_255 / 255, dtype=torch.float64)
    labels = own_labels(network, images)
    return margins(read(network, IMAGE), unit(images), labels, eps, technique=technique)  # type: ignore[arg-type]


def reached(logits: Tensor, labels: Tensor) -> Tensor:
    """Margins (N, K − 1) of logits (N, K)."""
    return (differences(labels, logits.shape[1]) @ logits.double()[..., None]).squeeze(2)


@pytest.mark.parametrize(
    ("name", "kind"),
    [*((name, kind) for name in SHALLOW for kind in ("ibp", "forms", "crown")), ("wide_resnet_34_10", "forms")],
)
def test_no_value_of_any_node_leaves_its_interval(name: str, kind: str):
    """For 150 points of each ball, in float64; at a small and at a large radius."""
    network, images = random_network(name).double(), unit(random_images(2))
    program = read(network, IMAGE)
    for eps in (0.5 / 255, 6 / 255):
        bounds = bounds_of(program, images, eps, kind)
        inside = points(images, eps, 150)
        for value, interval in zip(evaluated(program, inside.flatten(0, 1)), bounds.nodes, strict=True):
            value = value.unflatten(0, inside.shape[:2])
            assert (value >= interval.lower).all() and (value <= interval.upper).all()


@pytest.mark.parametrize("technique", TECHNIQUES)
@pytest.mark.parametrize("name", SHALLOW)
def test_no_margin_lies_below_its_bound(name: str, technique: str):
    """For 120 points and an attack, in float32 as the evaluation computes."""
    network, images = random_network(name), random_images(3)
    labels, clean = own_labels(network, images), unit(images, torch.float32)
    for eps_255 in (0.5, 6.0):
        bound = proved(network, images, eps_255, technique)
        attacked = margin_pgd(
            network, clean, labels, threat=Threat("linf", eps_255), seed=0, index=torch.arange(3), steps=10
        )
        with torch.no_grad():
            for point in (clean, attacked, *points(clean, eps_255 / 255, 60)):
                assert (reached(network(point), labels) >= bound).all()


@pytest.mark.parametrize("name", ["plain4", "preact_resnet8"])
def test_the_onnx_file_keeps_the_bounds(name: str):
    """On the 8-bit grid, folded BatchNorm and all; at radius 0 too, where the rounding term is all the room there is."""
    network, images = random_network(name), random_images(3)
    served = OnnxClassifier(to_onnx(network, (8, 8, 1), opset=20), threads=1, device="cpu")
    labels, generator = own_labels(network, images), np.random.default_rng(0)
    for levels in (0, 4):
        bound = proved(network, images, float(levels), "crown-forward")
        for _ in range(20):
            moves = levels * generator.choice([-1, 1], size=images.shape)
            near = np.clip(images.astype(int) + moves, 0, 255).astype(np.uint8)
            assert (reached(torch.from_numpy(served.logits(near)), labels) >= bound).all()


@pytest.mark.parametrize("name", SHALLOW)
def test_at_radius_zero_the_bound_is_the_margin_but_for_rounding(name: str):
    network, images = random_network(name), random_images(3)
    with torch.no_grad():
        exact = reached(network.double()(unit(images)), own_labels(network.float(), images))
    bound = proved(network.float(), images, 0.0, "crown")
    assert (exact - bound).abs().max() < 1e-2 * exact.abs().max() and (bound < exact).all()


class Cancelling(nn.Module):
    """Sums of large terms that cancel: what float32 makes of them depends on the order, and is wrong by thousands of ulps."""

    def __init__(self) -> None:
        super().__init__()
        self.convolution = nn.Conv2d(1, 64, 3, padding=1, bias=False)
        self.linear = nn.Linear(64 * 64, 2)
        with torch.no_grad():
            self.convolution.weight.normal_().mul_(1e3)
            self.linear.weight.normal_().mul_(1e3)

    def forward(self, images: Tensor) -> Tensor:
        return self.linear(torch.relu(self.convolution(images)).flatten(1))


def test_the_rounding_term_is_there_and_is_needed():
    """Without it the intervals at radius 0 miss what float32 computes; with it they never do."""
    torch.manual_seed(0)
    network, images = Cancelling().eval(), random_images(50)
    with torch.no_grad():
        logits = network(unit(images, torch.float32)).double()
    program = read(network, IMAGE)
    start = box(unit(images), torch.zeros(50, dtype=torch.float64), rounded=False)
    with torch.no_grad():
        *_, bare = propagate(program, start, rounded=False).nodes
        *_, safe = propagate(program, box(unit(images), torch.zeros(50, dtype=torch.float64))).nodes
    assert ((logits < bare.lower) | (logits > bare.upper)).float().mean() > 0.5
    assert ((logits >= safe.lower) & (logits <= safe.upper)).all()


@pytest.mark.parametrize("technique", TECHNIQUES[1:])
@pytest.mark.parametrize("name", SHALLOW)
def test_crown_is_nowhere_below_ibp(name: str, technique: str):
    network, images = random_network(name), random_images(3)
    for eps_255 in (0.5, 6.0):
        assert (proved(network, images, eps_255, technique) >= proved(network, images, eps_255, "ibp")).all()


def test_each_technique_is_tighter_than_the_cheaper_one_on_a_residual_network():
    """On random weights the order is clear; each bound is an average of several margins."""
    network, images = random_network("preact_resnet8"), random_images(4)
    means = [float(proved(network, images, 3.0, technique).mean()) for technique in TECHNIQUES]
    assert means == sorted(means) and means[0] < means[1] < means[2] < means[3]


def test_a_linear_networks_bounds_are_exact():
    """Everything but ReLU, so that the least margin in the ball is known: at the corner against the gradient's sign."""
    torch.manual_seed(0)
    network = nn.Sequential(
        nn.Conv2d(1, 4, 3, padding=1), nn.BatchNorm2d(4), nn.Conv2d(4, 3, 3, stride=2), nn.Flatten(), nn.Linear(27, 4)
    ).eval()
    images = random_images(4)
    labels, eps = own_labels(network, images), 5 / 255
    clean = unit(images).requires_grad_()
    network.double()
    wanted = []
    for row in range(3):
        margin = reached(network(clean), labels)[:, row]
        (gradient,) = torch.autograd.grad(margin.sum(), clean)
        corner = (clean - eps * gradient.sign()).clamp(0, 1)
        wanted.append(reached(network(corner), labels)[:, row])
    exact = torch.stack(wanted, dim=1)
    for technique in TECHNIQUES:
        bound = proved(network.float(), images, 5.0, technique)
        assert (bound <= exact).all() and (exact - bound).max() < 1e-3


def test_the_ball_is_cut_at_zero_and_one():
    interval = box(torch.tensor([0.0, 0.5, 1.0]).view(1, 1, 1, 3).double(), torch.tensor([0.1]).double())
    assert interval.lower.flatten().tolist() == pytest.approx([0.0, 0.4, 0.9], abs=1e-6)
    assert interval.upper.flatten().tolist() == pytest.approx([0.1, 0.6, 1.0], abs=1e-6)
    assert interval.upper[0, 0, 0, 1] > 0.6 and interval.lower[0, 0, 0, 1] < 0.4  # room for float32's edge


def test_an_interval_after_a_layer_is_the_formula():
    """Centre W c + b, radius |W| r, by hand."""
    network = nn.Sequential(nn.Linear(2, 1))
    layer = read(network, (2,)).steps[0].layer
    with torch.no_grad():
        network[0].weight.copy_(torch.tensor([[2.0, -3.0]]))
        network[0].bias.fill_(1.0)
        found = intervals.through(layer, intervals.Interval(torch.tensor([[0.0, 1.0]]), torch.tensor([[1.0, 3.0]])))
    assert (found.lower.item(), found.upper.item()) == (-8.0, 0.0)
