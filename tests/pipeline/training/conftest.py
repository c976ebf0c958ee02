"""Sixty digits and networks of width 8: a training of three epochs takes about a second."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from sklearn.datasets import load_digits

from bundle.threats import Threat
from pipeline.data.split import Split
from pipeline.params import Params, complete
from pipeline.training.build import build_method
from pipeline.training.devices import make_fabric
from pipeline.training.loop import Training


@pytest.fixture(scope="session")
def digits() -> tuple[Split, Split]:
    """60 training and 40 validation images."""
    source = load_digits()
    images = np.rint(source.images * 255 / 16).astype(np.uint8)[..., None]
    labels = source.target.astype(np.int64)
    return Split(images[:60], labels[:60]), Split(images[60:100], labels[60:100])


@pytest.fixture
def manifest(tmp_path: Path) -> Path:
    path = tmp_path / "manifest.json"
    path.write_text(json.dumps({"classes": [str(digit) for digit in range(10)]}))
    return path


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
def make_training(digits: tuple[Split, Split], manifest: Path) -> Callable[..., Training]:
    """A fresh training as the stage builds it: the seed decides weights, order and noise."""

    def make(method: str, seed: int = 0, **train: Any) -> Training:
        params = small_params(method, seed, **train)
        threat = Threat("linf", params.threat.eps_255 or 0)
        torch.manual_seed(seed)
        return Training(
            build_method(params, threat, digits[0], manifest),
            *digits,
            params.train,
            threat=threat,
            seed=seed,
            fabric=make_fabric(torch.device("cpu"), params.train),
        )

    return make
