"""The loss surface is the loss where it says, and its roughness tells a bend from a slope."""

from __future__ import annotations

import json

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional

from pipeline.attacks.threat import Threat
from pipeline.evaluation.surface import loss_surface, roughness
from pipeline.evaluation.victim import Sample
from tests.pipeline.attacks.classifiers import Linear, images, perceptron

THREATS = [Threat("linf", 16), Threat("l2", 0.3), Threat("l1", 0.8)]


def sample(network: nn.Module, count: int = 10) -> Sample:
    drawn = images(count)
    return Sample(drawn, network(drawn).argmax(1), torch.arange(100, 100 + count))


class Rounded(nn.Module):
    """Rounds the input to few values before the network, so that its loss climbs in steps."""

    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        self.network = network

    def forward(self, images: Tensor) -> Tensor:
        return self.network((images * 64).round() / 64)


def test_roughness_of_known_surfaces():
    a, b = np.meshgrid(np.arange(21.0), np.arange(21.0), indexing="ij")
    assert roughness(3 * a - 2 * b + 7) < 1e-9
    assert roughness(np.full((21, 21), 5.0)) == 0
    # Second differences 2 along one axis, 19 of them; first ones 1, 3, …, 39, which sum to 400.
    assert roughness(a**2) == pytest.approx(19 * 2 / 400)
    assert roughness(100 * a**2) == pytest.approx(roughness(a**2))
    stairs = np.floor(a / 4) + np.floor(b / 4)
    assert roughness(stairs) == pytest.approx(2 * 9 / 10)  # of five jumps a line, the last is at the border, bent once
    assert roughness(np.where(a % 2, 1.0, -1.0)) == pytest.approx(2 * 19 / 20)


@pytest.mark.parametrize("threat", THREATS, ids=lambda threat: threat.name)
def test_rounded_inputs_are_rougher_than_the_network_behind_them(threat: Threat):
    network = perceptron()
    smooth = loss_surface(network, sample(network), threat=threat, seed=0)
    masked = loss_surface(Rounded(network), sample(network), threat=threat, seed=0)
    assert 0 < smooth["roughness"] < 0.5 < 1 < masked["roughness"] <= 2


@pytest.mark.parametrize("threat", THREATS, ids=lambda threat: threat.name)
def test_the_grid_holds_the_losses_at_its_places(threat: Threat):
    network = Linear()
    part = sample(network)
    surface = loss_surface(network, part, threat=threat, seed=0, span=0.5, steps=5, images=3, batch_size=7)
    losses = np.array(surface["losses"])
    assert losses.shape == (5, 5) and surface["rows"] == [100, 101, 102] and surface["steps"] == 5
    image, label = part.images[:1].clone().requires_grad_(), part.labels[:1]
    loss = functional.cross_entropy(network(image), label)
    assert losses[2, 2] == pytest.approx(loss.item(), abs=1e-4)
    (gradient,) = torch.autograd.grad(loss, image)
    size = {"l2": gradient.norm(2), "l1": gradient.norm(1)}
    direction = gradient.sign() if threat.norm == "linf" else gradient / size[threat.norm]
    end = functional.cross_entropy(network(image.detach() + 0.5 * threat.eps * direction), label)
    assert losses[4, 2] == pytest.approx(end.item(), abs=1e-4)
    assert (np.diff(losses[:, 2]) > 0).all()  # up the gradient of a convex loss
    json.dumps(surface, allow_nan=False)


def test_directions_belong_to_the_image_and_the_seed():
    network = perceptron()
    part = sample(network)
    first = loss_surface(network, part, threat=THREATS[0], seed=0, steps=5, images=2)
    alone = Sample(part.images[:1], part.labels[:1], part.index[:1])
    assert loss_surface(network, alone, threat=THREATS[0], seed=0, steps=5)["losses"] == first["losses"]
    assert loss_surface(network, alone, threat=THREATS[0], seed=1, steps=5)["losses"] != first["losses"]


def test_images_stay_in_the_pixel_range():
    class Strict(nn.Module):
        def forward(self, images: Tensor) -> Tensor:
            assert images.min() >= 0 and images.max() <= 1
            return Linear()(images)

    part = sample(Linear())
    loss_surface(Strict(), Sample(part.images.round(), part.labels, part.index), threat=Threat("linf", 64), seed=0)


@pytest.mark.parametrize("steps", [1, 20])
def test_a_grid_without_a_middle_is_refused(steps: int):
    with pytest.raises(ValueError, match="odd"):
        loss_surface(Linear(), sample(Linear()), threat=THREATS[0], seed=0, steps=steps)
