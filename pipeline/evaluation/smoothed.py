"""The smoothed classifier: its votes on a sample, and its description. It is not the classifier that is served."""

from __future__ import annotations

import sys
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from rich.progress import track
from torch import nn

from bundle.smoothing import Scores, certified_radii, vote
from pipeline.params import CertifySettings

RADII = [round(0.1 * step, 1) for step in range(11)]


def smoothed_columns(
    network: nn.Module,
    images: NDArray[np.uint8],
    index: NDArray[np.int64],
    settings: CertifySettings,
    device: torch.device,
) -> dict[str, NDArray[Any]]:
    """Selected class, count and radius of every image uint8 (N, H, W, C); `index` seeds each image's noise."""
    network = network.to(device).eval()
    votes = [
        vote(
            _scores(network, device),
            image.astype(np.float32) / np.float32(255),
            sigma=settings.sigma,
            selection=settings.selection,
            estimation=settings.estimation,
            seed=settings.seed,
            index=int(row),
        )
        for image, row in track(
            zip(images, index, strict=True),
            "certifying",
            total=len(images),
            disable=not sys.stdout.isatty(),
            transient=True,
        )
    ]
    name, successes = smoothed_name(settings), np.array([item.successes for item in votes])
    return {
        f"{name}/selected": np.array([item.selected for item in votes]),
        f"{name}/successes": successes,
        f"{name}/radius": certified_radii(successes, settings.estimation, settings.sigma, settings.alpha),
    }


def smoothed_name(settings: CertifySettings) -> str:
    """The smoothed classifier's name: it is another classifier than the one that answers."""
    return f"smoothed-{settings.sigma:g}"


def describe(settings: CertifySettings) -> dict[str, Any]:
    """The smoothing as the attestation's predicate records it."""
    return {
        "name": smoothed_name(settings),
        **settings.model_dump(include={"sigma", "selection", "estimation", "alpha", "seed"}),
        "radii": RADII,
        "statement": "About the smoothed classifier (the class that the served network answers most often under "
        "Gaussian noise), in l2, each image's radius with confidence 1 - alpha; /predict answers with the network.",
    }


def _scores(network: nn.Module, device: torch.device) -> Scores:
    @torch.no_grad()
    def scores(images: NDArray[np.float32]) -> NDArray[np.float32]:
        return network(torch.from_numpy(images).permute(0, 3, 1, 2).to(device)).float().cpu().numpy()

    return scores
