"""A linear classifier, whose best perturbations have a closed form: what every attack must find, and at what radius."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

import pytest
import torch
from torch import Tensor, nn

from bundle.table.threats import NORMS, Norm, Threat
from pipeline.attacks.adaptive import adaptive, transfer
from pipeline.attacks.autoattack import autoattack
from pipeline.attacks.cw import cw, cw_l2
from pipeline.attacks.pgd import fgsm, margin_pgd, noise, pgd
from pipeline.attacks.single import apgd_ce, apgd_t, fab_t, square

SIDE, CLASSES, COUNT = 6, 4, 64
#: The smallest successful radius of every image below, for images in [0, 1].
OPTIMUM: dict[Norm, float] = {"linf": 0.02, "l2": 0.1, "l1": 0.2}
ORDER = {"linf": torch.inf, "l2": 2, "l1": 1}
SIZES = (1, 3, 64)


class Linear(nn.Module):
    """Logits ±w (x − 1/2) of two classes that compete, and two far below them, which some losses need; float32.

    With more than two that compete the margin has several peaks, and an attack from one start may climb the wrong one.
    """

    def __init__(self, tilt: float = 0) -> None:
        super().__init__()
        generator = torch.Generator().manual_seed(0)
        weight, other = torch.randn(2, SIDE**2, generator=generator)
        # Square's smallest windows never reach the last row and column.
        seen = nn.functional.pad(torch.ones(SIDE - 1, SIDE - 1), (0, 1, 0, 1)).flatten()
        self.weight = nn.Parameter(seen * (weight + tilt * other))

    def forward(self, images: Tensor) -> Tensor:
        score = (images.flatten(1) - 0.5) @ self.weight
        return torch.stack([score, -score, torch.full_like(score, -5), torch.full_like(score, -6)], dim=1)


MODEL = Linear()


def images(norm: Norm) -> Tensor:
    """Near grey, each moved along w until it lies OPTIMUM from the boundary: |w (x − 1/2)| over w's dual norm."""
    generator = torch.Generator().manual_seed(1)
    drawn = 0.2 * torch.rand(COUNT, SIDE**2, generator=generator) - 0.1
    weight = MODEL.weight.detach()
    side = torch.where(torch.rand(COUNT, generator=generator) < 0.5, -1, 1)
    wanted = side * OPTIMUM[norm] * weight.norm({"linf": 1, "l2": 2, "l1": torch.inf}[norm])
    moved = drawn + ((wanted - drawn @ weight) / weight.square().sum())[:, None] * weight
    return 0.5 + moved.view(COUNT, 1, SIDE, SIDE)


def threat(norm: Norm, times: float) -> Threat:
    size = times * OPTIMUM[norm]
    return Threat(norm, size * 255 if norm == "linf" else size)


def whole(model: nn.Module, images: Tensor, labels: Tensor, *, threat: Threat, seed: int, index: Tensor) -> Tensor:
    return autoattack(model, images, labels, threat=threat, seed=seed, classes=CLASSES).images


def attacks(norm: Norm) -> dict[str, Callable[..., Tensor]]:
    found: dict[str, Callable[..., Tensor]] = {
        "pgd": pgd,
        "margin": margin_pgd,
        # In l1 a start misses about one image in thirty, another one on every processor; AutoAttack has five as well.
        "apgd_ce": partial(apgd_ce, steps=30, restarts=5 if norm == "l1" else 1),
        "apgd_t": partial(apgd_t, steps=30),
        "fab_t": partial(fab_t, steps=20),
        "autoattack": whole,
        "adaptive": partial(adaptive, steps=20, companions={"guide": Linear(0.3)}),
        "transfer": partial(transfer, source=Linear(0.3)),
    }
    if norm == "linf":
        found["fgsm"] = lambda *given, seed, index, **options: fgsm(*given, **options)
        found["square"] = partial(square, queries=2000)
    if norm == "l2":
        found["cw"] = partial(cw, steps=100, lr=0.02, binary_search_steps=5)
    return found


CASES = [pytest.param(norm, name, id=f"{norm}-{name}") for norm in NORMS for name in attacks(norm)]


def test_the_images_are_what_they_should_be():
    for norm in NORMS:
        clean = images(norm)
        assert (clean - 0.5).abs().max() + 1.25 * OPTIMUM[norm] < 0.5, "the box does not bind"
        assert 16 < MODEL(clean).argmax(1).sum() < 48 and MODEL(clean).argmax(1).max() == 1


@pytest.mark.parametrize(("norm", "name"), CASES)
def test_success_at_five_quarters_of_the_smallest_radius_and_none_below_it(norm: Norm, name: str):
    attack, clean = attacks(norm)[name], images(norm)
    labels = MODEL(clean).argmax(1)
    for size in SIZES:
        rows = torch.arange(size)
        found = attack(MODEL, clean[rows], labels[rows], threat=threat(norm, 1.25), seed=0, index=rows)
        assert (MODEL(found).argmax(1) != labels[rows]).all(), size
        moves = (found.double() - clean[rows].double()).flatten(1)
        assert moves.norm(ORDER[norm], dim=1).max() <= 1.25 * OPTIMUM[norm] + 1e-7
    if name != "autoattack":  # its attacks are here one by one
        found = attack(MODEL, clean[:4], labels[:4], threat=threat(norm, 0.99), seed=0, index=torch.arange(4))
        assert (MODEL(found).argmax(1) == labels[:4]).all(), "below the smallest radius there is nothing to find"


@pytest.mark.parametrize("size", SIZES)
def test_the_smallest_distances_of_cw_are_the_closed_forms(size: int):
    clean = images("l2")[:size]
    found = cw_l2(MODEL, clean, MODEL(clean).argmax(1), steps=100, lr=0.02, binary_search_steps=5)
    assert (MODEL(found.images).argmax(1) != MODEL(clean).argmax(1)).all()
    assert found.distances.min() >= OPTIMUM["l2"] * (1 - 1e-3)
    assert found.distances.max() <= OPTIMUM["l2"] * 1.25
    assert found.distances.median() <= OPTIMUM["l2"] * 1.05


@pytest.mark.parametrize("norm", NORMS)
def test_noise_is_the_floor(norm: Norm):
    """It finds nothing where every attack succeeds, and something in a ball many times as large."""
    clean = images(norm)
    labels, rows = MODEL(clean).argmax(1), torch.arange(COUNT)
    found = [
        noise(MODEL, clean, labels, threat=threat(norm, times), seed=0, index=rows, draws=5) for times in (1.25, 16)
    ]
    broken = [int((MODEL(item).argmax(1) != labels).sum()) for item in found]
    assert broken[0] <= 4 and broken[1] >= 20
