"""What holds for every image and ball: projections stay where they brought an image, and the grid loses nothing it has."""

from __future__ import annotations

import numpy as np
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from bundle.table.threats import NORMS, Norm, Threat
from pipeline.attacks.grid import search_grid
from pipeline.attacks.threat import project, to_grid
from pipeline.networks.blocks import to_unit
from tests.pipeline.attacks.classifiers import perceptron

ORDER = {"linf": torch.inf, "l2": 2.0, "l1": 1.0}
SEEDS = st.integers(0, 2**32 - 1)
#: Of an l∞ radius in 255ths, of the others in their own unit.
SIZES = {"linf": st.floats(0.1, 255.0), "l2": st.floats(0.002, 6.0), "l1": st.floats(0.002, 30.0)}
BALLS = st.sampled_from(NORMS).flatmap(lambda norm: SIZES[norm].map(lambda size: Threat(norm, size)))


def drawn(seed: int, spread: float) -> tuple[Tensor, Tensor]:
    """Float points and clean 8-bit images of 4 × 4; a third of the pixels are black or white."""
    generator = np.random.default_rng(seed)
    clean = generator.integers(0, 256, (6, 1, 4, 4))
    clean = np.where(generator.random(clean.shape) < 0.3, 255 * (clean > 127), clean).astype(np.uint8)
    moved = clean / 255 + spread * generator.standard_normal(clean.shape)
    return torch.from_numpy(moved.astype(np.float32)), torch.from_numpy(clean)


def sizes(images: Tensor, clean: Tensor, norm: Norm) -> Tensor:
    return (images.double() - clean.double()).flatten(1).norm(ORDER[norm], dim=1)


@settings(max_examples=300, deadline=None)
@given(BALLS, st.sampled_from([0.0, 0.01, 0.3, 10.0, 1e6]), SEEDS)
def test_a_projection_lies_in_ball_and_box_and_projected_again_stays(threat: Threat, spread: float, seed: int) -> None:
    points, clean = drawn(seed, spread)
    center = to_unit(clean)
    found = project(points, center, threat)
    assert found.min() >= 0 and found.max() <= 1
    # In float32 a sum of clean and radius may be rounded up by half a unit of 1.
    assert (sizes(found, center, threat.norm) <= threat.eps + (2**-24 if threat.norm == "linf" else 0)).all()
    assert torch.equal(project(found, center, threat), found)
    nearer = sizes(found, points, "l2") <= sizes(center, points, "l2") + 1e-6 * (1 + spread)
    assert nearer.all(), "the clean image is in both, so nothing farther than it is nearest"


@settings(max_examples=200, deadline=None)
@given(BALLS, st.sampled_from([0.01, 0.3, 3.0]), SEEDS)
def test_the_grid_stays_in_the_ball_and_rounding_again_changes_nothing(
    threat: Threat, spread: float, seed: int
) -> None:
    points, clean = drawn(seed, spread)
    found = to_grid(project(points, to_unit(clean), threat), clean, threat)
    inside = threat.inside(clean.permute(0, 2, 3, 1).numpy(), found.permute(0, 2, 3, 1).numpy())
    assert inside.all() and found.dtype == torch.uint8
    assert torch.equal(to_grid(to_unit(found), clean, threat), found)


@settings(max_examples=60, deadline=None)
@given(BALLS, st.sampled_from([0.02, 0.1, 0.5]), SEEDS)
def test_a_search_counts_what_it_lost_and_keeps_what_rounding_kept(threat: Threat, spread: float, seed: int) -> None:
    network = perceptron(3 + seed % 5, dtype=torch.float32)
    points, clean = drawn(seed, spread)
    images = project(points, to_unit(clean), threat)
    labels = network(to_unit(clean)).argmax(1)
    rounded = to_grid(images, clean, threat)
    found = search_grid(network, images, clean, labels, threat)
    inside = threat.inside(clean.permute(0, 2, 3, 1).numpy(), found.images.permute(0, 2, 3, 1).numpy())
    assert inside.all()
    with torch.no_grad():
        before, kept, after = (
            network(item).argmax(1) != labels for item in (images, to_unit(rounded), to_unit(found.images))
        )
    assert found.lost == int((before & ~after).sum())
    assert (after | ~kept).all(), "what was wrong on the grid stays so"
    untouched = kept | ~before
    assert torch.equal(found.images[untouched], rounded[untouched])
