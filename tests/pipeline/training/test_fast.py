"""What makes a training fast leaves its mathematics alone: here in float32, where only rounding may differ."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from pipeline.data.split import Split
from pipeline.networks.folding import foldable_pairs
from pipeline.params import Params
from pipeline.run.devices import make_fabric
from pipeline.training.batches import Sampling
from pipeline.training.build import build_method
from pipeline.training.loop import Training
from tests.pipeline.training.conftest import small_params

CPU = torch.device("cpu")


def make(params: Params, fast: bool) -> Training:
    """A training on 24 random images of 3 x 16 x 16."""
    drawn = np.random.default_rng(5)
    split = Split(drawn.integers(0, 256, (24, 16, 16, 3), dtype=np.uint8), drawn.integers(0, 10, 24))
    torch.manual_seed(0)
    return Training(
        build_method(params, split, 10, own=24),
        split,
        split,
        params.train,
        sampling=Sampling(24, 0, 0.0, 12, 0),
        seed=0,
        fabric=make_fabric(CPU, params.train, fast=fast),
        fast=fast,
    )


@pytest.mark.parametrize("method", ["d2r_cag", "trades", "pgd_at", "mat"])
def test_a_fast_step_is_the_plain_step(method: str) -> None:
    params = small_params(method, precision="fp32")
    plain, fast = make(params, fast=False), make(params, fast=True)
    assert foldable_pairs(fast.method.target)
    found = []
    for training in (plain, fast):
        rows = training.batches.order(0)[0]
        training.method.train()
        torch.manual_seed(1)
        found.append(training.step(rows, 0, 0.05))
    assert found[0].keys() == found[1].keys()
    for name, value in found[0].items():
        # A rounded gradient changes its sign here and there, and its pixel moves the other way.
        assert float(found[1][name]) == pytest.approx(float(value), rel=1e-2, abs=1e-4), name


def test_images_are_crafted_against_folded_networks() -> None:
    images = []
    for fast in (False, True):
        training = make(small_params("d2r_cag", precision="fp32"), fast)
        norm = foldable_pairs(training.method.target)[0].norm
        seen: list[bool] = []
        norm.register_forward_hook(lambda module, inputs, output, seen=seen: seen.append(output is inputs[0]))
        torch.manual_seed(1)
        batch = training.batches.batch(torch.arange(12), 0, 3, 0)
        images.append(training.method.train().perturb(batch))
        assert seen == [fast] * 2  # the steps of small_params: nothing happens there once it is folded
        training.method.losses(batch, images[-1])
        assert seen[2:] == [False] * 2
    # A gradient of nearly 0 may be rounded to the other sign.
    assert ((images[0] - images[1]).abs() < 1e-5).float().mean() > 0.98
