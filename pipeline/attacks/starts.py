"""Random starts that belong to an image: drawn from (seed, index, restart), whatever batch the image is in."""

from __future__ import annotations

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from bundle.threats import Norm
from pipeline.attacks.threat import Threat, project


def uniform_start(images: Tensor, threat: Threat, *, seed: int, index: Tensor, restart: int = 0) -> Tensor:
    """Images moved uniformly at random inside the ball, then projected on it and on [0, 1].

    Parameters: `images` (N, C, H, W) in [0, 1]; `index` (N,), each image's row in its split.
    """
    shape = images.shape[1:]
    noise = np.stack(
        [
            _unit_noise(np.random.default_rng([seed, restart, int(row)]), shape, threat.norm).astype(np.float32)
            for row in index.tolist()
        ]
    )
    moved = images + threat.eps * torch.from_numpy(noise).to(images)
    return project(moved, images, threat)


def _unit_noise(generator: np.random.Generator, shape: tuple[int, ...], norm: Norm) -> NDArray[np.float64]:
    """A uniform draw from the ball of radius 1 around 0.

    l2 and l1: a direction uniform on the sphere, at the distance U^(1/d) from its centre.
    """
    if norm == "linf":
        return generator.uniform(-1, 1, shape)
    direction = generator.standard_normal(shape) if norm == "l2" else generator.laplace(size=shape)
    length = np.linalg.norm(direction.ravel(), 2 if norm == "l2" else 1)
    return direction / length * generator.uniform() ** (1 / direction.size)
