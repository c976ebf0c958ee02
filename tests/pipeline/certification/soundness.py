"""What must hold for every model: no image is proved at a radius within which an attack breaks it."""

from __future__ import annotations

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from bundle.table.threats import Threat
from pipeline.attacks.pgd import margin_pgd
from pipeline.certification.radius import Search, Technique, proved_radii
from pipeline.networks.blocks import to_unit


def broken_within(network: nn.Module, images: NDArray[np.uint8], labels: NDArray[np.int64], radii: Tensor) -> Tensor:
    """Which images (N,) margin PGD breaks within their own radius (N,), in 255ths; float32, as the evaluation attacks."""
    clean, target = to_unit(torch.from_numpy(images).permute(0, 3, 1, 2)), torch.from_numpy(labels)
    threat = Threat("linf", radii.to(torch.float32).view(-1, 1, 1, 1))  # type: ignore[arg-type]  # a radius per image
    found = margin_pgd(
        network, clean, target, threat=threat, seed=0, index=torch.arange(len(labels)), steps=20, restarts=2
    )
    with torch.no_grad():
        return network(found).argmax(1) != target


def assert_sound(
    network: nn.Module,
    images: NDArray[np.uint8],
    labels: NDArray[np.int64],
    *,
    technique: Technique = "crown-forward",
    limit_255: float = 64.0,
) -> NDArray[np.float64]:
    """Fails where an image is proved and broken; returns the proved radii (N,), so that a test can ask for some.

    `network` in eval mode on the CPU, images uint8 (N, H, W, C).
    """
    radii = proved_radii(network, images, labels, Search(technique, limit_255=limit_255))
    proved = radii > 0
    if proved.any():
        broken = broken_within(network, images[proved], labels[proved], torch.from_numpy(radii[proved]))
        assert not broken.any(), f"proved and broken: rows {np.flatnonzero(proved)[broken.numpy()].tolist()}"
    return radii
