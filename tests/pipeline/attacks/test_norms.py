"""The l2 and l1 balls: projection, steepest step, random starts, the 8-bit grid, FGSM and PGD in closed form."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from scipy.optimize import brentq
from torch import Tensor

from bundle.table.threats import NORMS, Norm
from pipeline.attacks import ascent
from pipeline.attacks.pgd import fgsm, margin_pgd, pgd
from pipeline.attacks.threat import Threat, project, steepest, to_grid, uniform_start
from pipeline.evaluation.tiers import attacked_threats
from pipeline.networks.blocks import to_unit
from pipeline.params import AttackSettings
from tests.pipeline.attacks.classifiers import SHAPE, Linear, images, perceptron

BALLS: list[Norm] = ["l2", "l1"]
ORDER = {"linf": torch.inf, "l2": 2, "l1": 1}
ROWS = torch.arange(64)


def size_of(moved: Tensor, clean: Tensor, norm: Norm) -> Tensor:
    return (moved.double() - clean.double()).flatten(1).norm(ORDER[norm], dim=1)


def slow_projection(point: NDArray, clean: NDArray, threat: Threat) -> NDArray:
    """One image in float64: Brent's method on the multiplier of the optimality conditions."""

    def at(multiplier: float) -> NDArray:
        if threat.norm == "l2":
            return np.clip((point + multiplier * clean) / (1 + multiplier), 0, 1)
        moves = point - clean
        return np.clip(clean + np.sign(moves) * np.maximum(np.abs(moves) - multiplier, 0), 0, 1)

    def excess(multiplier: float) -> float:
        return float(np.linalg.norm(at(multiplier) - clean, ORDER[threat.norm])) - threat.eps

    if excess(0.0) <= 0:
        return at(0.0)
    largest = 1.0
    while excess(largest) > 0:
        largest *= 2
    return at(brentq(excess, 0.0, largest, xtol=1e-14, rtol=1e-14))


def drawn(seed: int, spread: float, count: int = 3) -> tuple[Tensor, Tensor]:
    """Points and clean images, float64; some pixels of the clean images are black or white."""
    generator = np.random.default_rng(seed)
    clean = generator.uniform(0, 1, (count, 1, 3, 4))
    clean = np.where(generator.random(clean.shape) < 0.3, clean.round(), clean)
    return torch.from_numpy(clean + spread * generator.standard_normal(clean.shape)), torch.from_numpy(clean)


@settings(max_examples=150, deadline=None)
@given(
    st.sampled_from(BALLS), st.floats(1e-3, 20.0), st.sampled_from([0.01, 0.3, 3.0, 100.0]), st.integers(0, 2**32 - 1)
)
def test_projection_is_the_nearest_point_of_ball_and_box(norm: Norm, size: float, spread: float, seed: int):
    points, clean = drawn(seed, spread)
    threat = Threat(norm, size)
    found = project(points, clean, threat)
    assert size_of(found, clean, norm).max() <= size
    assert found.min() >= 0 and found.max() <= 1
    for row in range(len(points)):
        expected = slow_projection(points[row].numpy().ravel(), clean[row].numpy().ravel(), threat)
        np.testing.assert_allclose(found[row].numpy().ravel(), expected, rtol=0, atol=1e-6 * max(1.0, spread * 1e-2))


@settings(max_examples=60, deadline=None)
@given(st.sampled_from(BALLS), st.floats(0.05, 4.0), st.integers(0, 2**32 - 1))
def test_no_other_point_of_ball_and_box_lies_on_the_side_of_the_image(norm: Norm, size: float, seed: int):
    """The inequality that makes a point the projection: <image − projection, other − projection> ≤ 0."""
    points, clean = drawn(seed, 1.0)
    threat, generator = Threat(norm, size), torch.Generator().manual_seed(seed % 2**31)
    nearest = project(points, clean, threat)
    for _ in range(20):
        moves = torch.randn(clean.shape, generator=generator, dtype=torch.float64)
        moves *= (torch.rand(clean.shape, generator=generator) < 0.4) | (moves.abs() == moves.abs().amax())
        box = (clean + 2 * size * moves).clamp(0, 1) - clean
        share = (size / box.flatten(1).norm(ORDER[norm], dim=1)).clamp(max=1)[:, None, None, None]
        other = clean + share.nan_to_num(1.0) * box
        inner = ((points - nearest) * (other - nearest)).flatten(1).sum(1)
        assert inner.max() <= 1e-6


@pytest.mark.parametrize("shape", [(20, 1, 8, 8), (4, 3, 32, 32)])
@pytest.mark.parametrize(("norm", "size"), [(norm, size) for norm in BALLS for size in (1e-3, 0.5, 2.0, 12.0, 5000.0)])
def test_float32_results_are_inside_and_stay_where_they_are(norm: Norm, size: float, shape: tuple[int, ...]):
    generator = torch.Generator().manual_seed(0)
    clean = torch.randint(0, 256, shape, generator=generator).float() / 255
    points = clean + torch.randn(shape, generator=generator)
    found = project(points, clean, Threat(norm, size))
    measured = size_of(found, clean, norm)
    assert measured.max() <= size and found.min() >= 0 and found.max() <= 1
    if size < 1:
        assert measured.min() >= size * (1 - 2e-3)
    assert torch.equal(project(found, clean, Threat(norm, size)), found)
    if size == 5000.0:
        assert torch.equal(found, points.clamp(0, 1))


def test_projection_by_hand():
    """l2: half of the way; l1: what both coordinates have too much is taken from both, then the box takes the rest."""
    clean = torch.tensor([[0.5, 0.5], [0.9, 0.5]], dtype=torch.float64).view(2, 1, 1, 2)
    moved = torch.tensor([[0.8, 0.9], [1.9, 0.8]], dtype=torch.float64).view(2, 1, 1, 2)
    l2, l1 = (project(moved, clean, Threat(norm, 0.25)).view(2, 2) for norm in BALLS)
    expected = torch.tensor([[0.65, 0.7], [1.0, 0.5 + (0.25**2 - 0.1**2) ** 0.5]], dtype=torch.float64)
    torch.testing.assert_close(l2, expected, rtol=0, atol=1e-9)
    expected = torch.tensor([[0.575, 0.675], [1.0, 0.65]], dtype=torch.float64)
    torch.testing.assert_close(l1, expected, rtol=0, atol=1e-8)


@pytest.mark.parametrize("norm", NORMS)
def test_steepest_step_has_size_one_and_no_step_of_that_size_gains_more(norm: Norm):
    """Against the dual norm of the gradient; for l1 the mean of the largest entries, since it moves several."""
    gradient = torch.randn(5, *SHAPE, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    threat = Threat(norm, 2.0)
    step = steepest(gradient, images(5), threat)
    assert step.flatten(1).norm(ORDER[norm], dim=1).tolist() == pytest.approx([1.0] * 5)
    gain = (step * gradient).flatten(1).sum(1)
    lengths = gradient.flatten(1).abs()
    best = {"linf": lengths.sum(1), "l2": lengths.norm(dim=1), "l1": lengths.sort(1).values[:, -3:].mean(1)}[norm]
    torch.testing.assert_close(gain, best)


def test_an_l1_step_passes_over_pixels_at_their_limit():
    gradient = torch.tensor([5.0, -4.0, 3.0, -2.0]).view(1, 1, 2, 2)
    points = torch.tensor([1.0, 0.0, 0.5, 0.5]).view(1, 1, 2, 2)
    assert steepest(gradient, points, Threat("l1", 0.5)).flatten().tolist() == [0, 0, 1, 0]
    assert steepest(gradient, points, Threat("l1", 2.0)).flatten().tolist() == [0, 0, 0.5, -0.5]
    assert steepest(gradient, points, Threat("l1", 900.0)).flatten().tolist() == [0, 0, 0.5, -0.5]


@pytest.mark.parametrize("norm", NORMS)
def test_steps_without_a_gradient_are_zero_and_tiny_gradients_count(norm: Norm):
    gradient = torch.zeros(2, *SHAPE)
    gradient[1, 0, 1, 2] = 1e-30
    step = steepest(gradient, torch.full((2, *SHAPE), 0.5), Threat(norm, 2.0))
    assert not step[0].any() and step[1].abs().sum() == 1


@pytest.mark.parametrize("norm", BALLS)
@pytest.mark.parametrize("of", ["row", "global"])
def test_starts_are_uniform_in_the_ball(norm: Norm, of: str):
    """Radii are distributed as U^(1/d), directions without a preference; within the box, so nothing is projected."""
    clean, threat = torch.full((2000, 1, 2, 2), 0.5), Threat(norm, 0.4)
    torch.manual_seed(0)
    if of == "row":
        moved = uniform_start(clean, threat, seed=0, index=torch.arange(2000))
    else:
        moved = ascent.random_start(clean, threat)
    radii = size_of(moved, clean, norm) / threat.eps
    assert radii.max() <= 1
    assert radii.pow(4).mean().item() == pytest.approx(1 / 2, abs=0.02)
    assert radii.pow(8).mean().item() == pytest.approx(1 / 3, abs=0.02)
    shares = (moved - clean).flatten(1) / size_of(moved, clean, norm)[:, None]
    assert shares.mean(0).abs().max() < 0.03
    # One coordinate's share on the sphere: of squares 1/d for l2; for l1 lengths 1/d, squares 2/(d (d + 1)).
    expected = 1 / 4 if norm == "l2" else 2 / (4 * 5)
    assert shares.pow(2).mean(0).tolist() == pytest.approx([expected] * 4, rel=0.1)


@settings(max_examples=150, deadline=None)
@given(st.sampled_from(BALLS), st.floats(0.004, 6.0), st.sampled_from([0.02, 0.3, 2.0]), st.integers(0, 2**32 - 1))
def test_grid_images_are_in_the_ball_and_no_farther_than_truncated_ones(
    norm: Norm, size: float, spread: float, seed: int
):
    generator = np.random.default_rng(seed)
    clean = torch.from_numpy(generator.integers(0, 256, (3, 1, 4, 4), dtype=np.uint8))
    threat = Threat(norm, size)
    points = to_unit(clean) + spread * torch.from_numpy(generator.standard_normal(clean.shape)).float()
    found = project(points, to_unit(clean), threat)
    grid = to_grid(found, clean, threat)
    assert grid.dtype == torch.uint8
    assert threat.inside(clean.permute(0, 2, 3, 1).numpy(), grid.permute(0, 2, 3, 1).numpy()).all()
    exact = found.double() * 255
    truncated = clean + (exact - clean).trunc()
    farther = [(other - exact).flatten(1).norm(dim=1) for other in (grid.double(), truncated)]
    assert (farther[0] <= farther[1] + 1e-3).all()
    assert ((grid.double() - exact).abs() < 1 + 1e-3).all()


@pytest.mark.parametrize("norm", BALLS)
def test_images_on_the_grid_stay_as_they_are(norm: Norm):
    """A whole budget spent in whole levels survives the float32 in between, at every level of grey."""
    clean = torch.arange(256, dtype=torch.uint8).view(16, 1, 4, 4)
    moved = clean.to(torch.int16)
    moved[:, 0, 0, 0] += 7
    moved[:, 0, 2, 1] += 24 * torch.where(moved[:, 0, 2, 1] < 128, 1, -1)
    moved = moved.clamp(0, 255).to(torch.uint8)
    threat = Threat(norm, (7**2 + 24**2) ** 0.5 / 255 if norm == "l2" else 31 / 255)
    assert torch.equal(to_grid(to_unit(moved), clean, threat), moved)


def test_an_image_outside_the_ball_is_brought_in():
    clean = torch.full((1, 1, 2, 2), 100, dtype=torch.uint8)
    for norm in BALLS:
        threat = Threat(norm, 0.1)
        grid = to_grid(torch.ones(1, 1, 2, 2), clean, threat)
        assert threat.inside(clean.permute(0, 2, 3, 1).numpy(), grid.permute(0, 2, 3, 1).numpy()).all()
        assert (grid > clean).any()


def test_attacked_threats_come_norm_by_norm_and_ascending():
    chosen = AttackSettings(eps_255=[16.0, 8.0], eps_l2=[1.0, 0.5], eps_l1=[2.0])
    assert [threat.name for threat in attacked_threats(chosen)] == ["linf-8", "linf-16", "l2-0.5", "l2-1", "l1-2"]
    assert attacked_threats(AttackSettings()) == []


@pytest.mark.parametrize("norm", NORMS)
def test_fgsm_is_one_step_of_the_whole_radius(norm: Norm):
    """Of a linear classifier with two classes: along w_other − w_label, whatever the image."""
    model, clean = Linear(2), images(6)
    labels = model(clean).argmax(1)
    threat = Threat(norm, 2.55 if norm == "linf" else 0.05)
    found = fgsm(model, clean, labels, threat=threat)
    direction = (model.weight[1 - labels] - model.weight[labels]).detach()
    largest = torch.zeros_like(direction).scatter(1, direction.abs().argmax(1, keepdim=True), 1.0)
    unit = {
        "linf": direction.sign(),
        "l2": direction / direction.norm(dim=1, keepdim=True),
        "l1": direction.sign() * largest,
    }[norm]
    eps = 0.01 if norm == "linf" else 0.05
    torch.testing.assert_close(found, clean + eps * unit.view_as(clean), rtol=0, atol=1e-7)
    assert not found.requires_grad and not clean.requires_grad


@pytest.mark.parametrize("norm", BALLS)
@pytest.mark.parametrize("attack", [pgd, margin_pgd])
def test_success_close_to_the_smallest_radius_and_never_below_it(attack: Callable, norm: Norm):
    """Two classes: with more, one pixel that serves the nearest class need not serve the most probable one."""
    model, clean = Linear(2), images(64)
    clean = 0.5 + (clean - 0.5) / 4  # so that the balls lie inside [0, 1]
    labels = model(clean).argmax(1)
    radii = model.smallest_radius(clean, labels, norm)
    threat = Threat(norm, float(radii.median()))
    assert threat.eps < 0.4
    found = attack(model, clean, labels, threat=threat, seed=0, index=ROWS, steps=50)
    broken = model(found).argmax(1) != labels
    assert broken[radii * 1.25 <= threat.eps].all()
    assert not broken[radii > threat.eps * (1 + 1e-9)].any()
    assert (radii * 1.25 <= threat.eps).sum() >= 12 and (radii > threat.eps).sum() >= 16


def best_l1_gain(direction: Tensor, clean: Tensor, eps: float) -> float:
    """The most that a linear function can grow in the l1 ball and the box: the steepest pixels first, each to its end."""
    room = torch.where(direction > 0, 1 - clean, clean)
    gain = 0.0
    for place in direction.abs().argsort(descending=True).tolist():
        step = min(float(room[place]), eps)
        gain, eps = gain + step * float(direction[place].abs()), eps - step
    return gain


def test_l1_ascent_fills_the_steepest_pixels_up_to_the_box():
    """A radius that no single pixel can spend: PGD comes within a tenth of the fractional knapsack's optimum."""
    model, clean = Linear(2), images(12, spread=0.9)
    labels = model(clean).argmax(1)
    threat = Threat("l1", 1.7)
    found = pgd(model, clean, labels, threat=threat, seed=0, index=ROWS[:12], steps=50)
    for row in range(12):
        direction = (model.weight[1 - labels[row]] - model.weight[labels[row]]).detach()
        gained = float(((found - clean)[row].flatten() * direction).sum())
        assert 0.9 * (best := best_l1_gain(direction, clean[row].flatten(), 1.7)) <= gained <= best + 1e-9


@pytest.mark.parametrize("norm", BALLS)
@pytest.mark.parametrize("size", [0.02, 0.7, 40.0])
@pytest.mark.parametrize("attack", [pgd, margin_pgd])
def test_results_lie_in_the_ball_and_an_image_is_alone_in_its_batch(attack: Callable, size: float, norm: Norm):
    model, clean, threat = perceptron(), images(9, spread=1.0), Threat(norm, size)
    clean[:4] = clean[:4].round()
    labels = model(clean).argmax(1)
    whole = attack(model, clean, labels, threat=threat, seed=3, index=ROWS[:9], steps=10)
    assert size_of(whole, clean, norm).max() <= size and whole.min() >= 0 and whole.max() <= 1
    order = torch.tensor([5, 0, 8])
    part = attack(model, clean[order], labels[order], threat=threat, seed=3, index=order, steps=10)
    torch.testing.assert_close(part, whole[order], rtol=0, atol=1e-9)


@pytest.mark.parametrize("norm", BALLS)
def test_the_methods_ascent_stays_inside_and_climbs(norm: Norm):
    model, clean, threat = perceptron(), images(8, spread=1.0), Threat(norm, 0.5)
    labels = model(clean).argmax(1)

    def objective(points: Tensor) -> Tensor:
        return torch.nn.functional.cross_entropy(model(points), labels, reduction="sum")

    start = ascent.random_start(clean, threat)
    found = ascent.steepest_ascent(start, clean, objective, threat=threat, steps=10, relative_step=0.25)
    assert size_of(found, clean, norm).max() <= 0.5 and found.min() >= 0 and found.max() <= 1
    assert objective(found) > 1.5 * objective(start)
    assert not found.requires_grad
