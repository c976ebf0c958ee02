"""Random starts that belong to an image: drawn from (seed, index, restart), whatever batch the image is in."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from pipeline.attacks.threat import Threat, project


def uniform_start(images: Tensor, threat: Threat, *, seed: int, index: Tensor, restart: int = 0) -> Tensor:
    """Images moved uniformly at random inside the ball.

    Parameters: `images` (N, C, H, W) in [0, 1]; `index` (N,), each image's row in its split.
    """
    shape = images.shape[1:]
    noise = np.stack(
        [
            np.random.default_rng([seed, restart, int(row)]).uniform(-1, 1, shape).astype(np.float32)
            for row in index.tolist()
        ]
    )
    moved = images + threat.eps * torch.from_numpy(noise).to(images)
    return project(moved, images, threat)
