"""Sixty digits and networks of width 8: a training of three epochs takes about a second."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from sklearn.datasets import load_digits

from bundle.table.threats import Threat
from pipeline.data.split import Split
from pipeline.methods import Method, Task
from pipeline.params import Params
from pipeline.resolve import complete
from pipeline.run.devices import make_fabric
from pipeline.training.batches import Sampling
from pipeline.training.build import build_method
from pipeline.training.loop import Training


@pytest.fixture(scope="session")
def digits() -> tuple[Split, Split]:
    """60 training and 40 validation images."""
    source = load_digits()
    images = np.rint(source.images * 255 / 16).astype(np.uint8)[..., None]
    labels = source.target.astype(np.int64)
    return Split(images[:60], labels[:60]), Split(images[60:100], labels[60:100])


def small_params(method: str, seed: int = 0, **train: Any) -> Params:
    settings: dict[str, Any] = {"name": method}
    if method in ("pgd_at", "d2r", "d2r_cag"):
        settings["steps"] = 2
    if method.startswith(("regmix", "fgsm")):
        settings["reset_epochs"] = 2
    return complete(
        {
            "seed": seed,
            "device": "cpu",
            "data": {"name": "digits"},
            "network": {"width": 8, "guide_width": 8},
            "method": settings,
            "train": {"epochs": 3, "batch_size": 20, **train},
        }
    )


@pytest.fixture
def make_training(digits: tuple[Split, Split]) -> Callable[..., Training]:
    """A fresh training as the stage builds it: the seed decides weights, order and noise.

    `kind` is a method of the test's own; of the 60 training images, those from `own` on are additional ones.
    """

    def make(
        method: str, seed: int = 0, own: int = 60, share: float = 0.0, kind: type[Method] | None = None, **train: Any
    ) -> Training:
        params = small_params(method, seed, **train)
        torch.manual_seed(seed)
        built = build_method(params, digits[0], 10, own=len(digits[0]))
        if kind is not None:
            built = kind(built.settings, Task(Threat("linf", 16), 10, 60, (1, 8, 8)), lambda role: built.target)
        assert params.train.batch_size
        return Training(
            built,
            *digits,
            params.train,
            sampling=Sampling(own, 60 - own, share, params.train.batch_size, seed),
            seed=seed,
            fabric=make_fabric(torch.device("cpu"), params.train),
        )

    return make
