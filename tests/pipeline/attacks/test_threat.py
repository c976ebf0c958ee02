"""The ball for floats, and the ball on the 8-bit grid, which is judged in integers."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from pipeline.attacks.threat import Threat, project, to_grid
from pipeline.networks.blocks import to_unit


def test_projection_by_hand():
    clean = torch.tensor([0.0, 0.5, 1.0, 0.5, 0.5]).view(1, 1, 1, 5)
    moved = torch.tensor([-0.3, 0.9, 1.4, 0.1, 0.55]).view(1, 1, 1, 5)
    found = project(moved, clean, Threat("linf", 51))
    torch.testing.assert_close(found.flatten(), torch.tensor([0.0, 0.7, 1.0, 0.3, 0.55]), rtol=0, atol=1e-7)


def test_projection_takes_images_with_pixels_outside_back_inside():
    clean = torch.rand(5, 1, 4, 4, generator=torch.Generator().manual_seed(0))
    found = project(torch.randn(5, 1, 4, 4) * 9, clean, Threat("linf", 8))
    assert found.min() >= 0 and found.max() <= 1
    assert (found.double() - clean.double()).abs().max() <= 8 / 255 + 1e-7


def test_units_are_a_division_by_255_in_float32():
    levels = torch.arange(256, dtype=torch.uint8)
    expected = np.arange(256, dtype=np.float32) / np.float32(255)
    assert to_unit(levels).dtype == torch.float32
    assert np.array_equal(to_unit(levels).numpy(), expected)


@settings(max_examples=200, deadline=None)
@given(st.one_of(st.integers(1, 64).map(float), st.floats(1.0, 64.0)), st.integers(0, 2**32 - 1))
def test_grid_images_are_the_nearest_levels_inside_the_ball(eps_255: float, seed: int):
    """For float images of the ball, and for those that lie a little outside by rounding."""
    generator = np.random.default_rng(seed)
    threat = Threat("linf", eps_255)
    clean = generator.integers(0, 256, (2, 1, 3, 3), dtype=np.uint8)
    noise = generator.uniform(-1.001, 1.001, clean.shape) * eps_255
    images = np.clip((clean + noise) / 255, 0, 1)
    found = to_grid(torch.from_numpy(images).float(), torch.from_numpy(clean), threat)
    assert found.dtype == torch.uint8
    distance = np.abs(found.numpy().astype(int) - clean.astype(int))
    assert distance.max() <= math.floor(eps_255)
    assert threat.inside(clean.transpose(0, 2, 3, 1), found.numpy().transpose(0, 2, 3, 1)).all()
    exact = images * 255
    nearest = np.clip(
        np.round(exact),
        np.maximum(clean.astype(int) - threat.levels, 0),
        np.minimum(clean.astype(int) + threat.levels, 255),
    )
    away_from_ties = np.abs(exact % 1 - 0.5) > 1e-3
    assert np.array_equal(found.numpy()[away_from_ties], nearest[away_from_ties])


@pytest.mark.parametrize(("eps_255", "levels"), [(7.9, 7), (8, 8), (8.0, 8), (7.905, 7), (0.5, 0)])
def test_a_fractional_radius_admits_whole_levels_below_it(eps_255: float, levels: int):
    clean = torch.tensor([0, 100, 255], dtype=torch.uint8).view(1, 1, 1, 3)
    threat = Threat("linf", eps_255)
    up = to_grid((to_unit(clean) + threat.eps).clamp(0, 1), clean, threat)
    down = to_grid((to_unit(clean) - threat.eps).clamp(0, 1), clean, threat)
    assert threat.levels == levels
    assert up.flatten().tolist() == [levels, 100 + levels, 255]
    assert down.flatten().tolist() == [0, 100 - levels, 255 - levels]


def test_images_on_the_grid_stay_as_they_are():
    clean = torch.arange(256, dtype=torch.uint8).view(1, 1, 16, 16)
    assert torch.equal(to_grid(to_unit(clean), clean, Threat("linf", 8)), clean)
