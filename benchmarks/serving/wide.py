"""A bundle of a CIFAR-size network for timing: preact_resnet18 of width 64 with random weights, on random pictures."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import numpy as np
import torch
from PIL import Image

from pipeline.networks import build_network

NAME = "benchmark-preact_resnet18"
CLASSES, PER_CLASS, SIZE = 10, 12, 32
#: Speed does not depend on how robust a model is; it is attacked just enough for its bundle to be whole.
SETTINGS = ["attack.images=10", "attack.eps_255=[8]", "threads=2"]


def network() -> torch.nn.Module:
    """The network; the same weights every time."""
    torch.manual_seed(0)
    return build_network("preact_resnet18", classes=CLASSES, channels=3, width=64)


def bundle(pictures: Path) -> Path:
    """The bundle's folder; made once by the product's own `python -m pipeline.evaluate`, from pictures in `pictures`."""
    made = Path("evaluations") / NAME / "out" / "bundle"
    _draw(pictures)
    options = [
        "--data",
        "folder",
        "--path",
        str(pictures),
        "--image-size",
        str(SIZE),
        "--channels",
        "3",
        "--no-certify",
    ]
    settings = [part for setting in SETTINGS for part in ("--set", setting)]
    command = [sys.executable, "-m", "pipeline.evaluate", "--model", f"{__name__}:network", "--name", NAME]
    subprocess.run([*command, *options, "--tier", "quick", *settings], check=True)
    return made


def _draw(folder: Path) -> None:
    generator = np.random.default_rng(0)
    for label in range(CLASSES):
        (folder / str(label)).mkdir(parents=True, exist_ok=True)
        for number in range(PER_CLASS):
            pixels = generator.integers(0, 256, (SIZE, SIZE, 3), dtype=np.uint8)
            Image.fromarray(pixels).save(folder / str(label) / f"{number}.png")
