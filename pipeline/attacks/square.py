"""Square, the black-box attack by random search (Andriushchenko et al. 2020, arXiv 1912.00049), through pyautoattack."""

from __future__ import annotations

import torch
from torch import Tensor

from bundle.errors import HallmarkError
from pipeline.attacks.autoattack import NORMS, SQUARE_SIDE
from pipeline.attacks.containment import contained
from pipeline.attacks.pgd import Model
from pipeline.attacks.threat import Threat, project


@torch.no_grad()
def square(
    model: Model,
    images: Tensor,
    labels: Tensor,
    *,
    threat: Threat,
    seed: int,
    index: Tensor,
    queries: int = 5000,
) -> Tensor:
    """Random search over square patches, by answers alone.

    Parameters
    ----------
    model : images (N, C, H, W) in [0, 1] to logits (N, K), in eval mode.
    images, labels : (N, C, H, W) float in [0, 1], and (N,).
    threat : the ball. seed : the patches are drawn from it for the batch as a whole, so that `index` decides nothing.
    queries : at most so many for each image.

    Returns float32 images inside the ball and [0, 1], the clean one where no adversarial one was found. Raises
    HallmarkError for images in l2 and l1 that the first pattern does not fit in.
    """
    from pyautoattack.square import SquareAttack

    side = min(images.shape[2:])
    if threat.norm != "linf" and side < SQUARE_SIDE:
        raise HallmarkError(f"square in {threat.norm} needs images of {SQUARE_SIDE} pixels a side; these have {side}")
    with contained(model):
        attack = SquareAttack(
            model,
            norm=NORMS[threat.norm],
            eps=threat.eps,
            n_queries=queries,
            seed=seed,
            resc_schedule=False,
            device=images.device,
        )
        return project(attack.perturb(images.float(), labels), images.float(), threat)
