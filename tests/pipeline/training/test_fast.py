"""What makes a training fast leaves its mathematics alone.

In float64: where float32 rounds a gradient of nearly 0 to the other sign, its pixel moves the other way.
"""

from __future__ import annotations

from collections.abc import Iterator

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


@pytest.fixture(autouse=True)
def _double(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.setattr("pipeline.training.batches.to_unit", lambda images: images.double() / 255)
    torch.set_default_dtype(torch.float64)
    yield
    torch.set_default_dtype(torch.float32)


def make(params: Params, fast: bool) -> Training:
    """A training on 24 random images of 3 x 16 x 16."""
    drawn = np.random.default_rng(5)
    split = Split(drawn.integers(0, 256, (24, 16, 16, 3), dtype=np.uint8), drawn.integers(0, 10, 24))
    torch.manual_seed(0)
    return Training(
        build_method(params, split, 10, own=24).double(),
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
        assert value.dtype == torch.float64
        assert float(found[1][name]) == pytest.approx(float(value), rel=1e-9), name


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
    torch.testing.assert_close(images[1], images[0])
