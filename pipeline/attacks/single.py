"""AutoAttack's attacks one by one, for plugins and evaluations that name them, each through pyautoattack.

* Auto-PGD: Croce and Hein 2020, arXiv 2003.01690; for l1 2021, arXiv 2103.01208.
* FAB, the fast adaptive boundary attack, targeted: Croce and Hein 2020, arXiv 1907.02044.
* Square, the black-box attack by random search: Andriushchenko et al. 2020, arXiv 1912.00049.
"""

from __future__ import annotations

import logging

import torch
from torch import Tensor

from bundle.errors import HallmarkError
from pipeline.attacks.autoattack import FEWEST_CLASSES, NORMS, SQUARE_SIDE, class_count, contained
from pipeline.attacks.pgd import Model
from pipeline.attacks.threat import Threat, project


def apgd_ce(
    model: Model,
    images: Tensor,
    labels: Tensor,
    *,
    threat: Threat,
    seed: int,
    index: Tensor,
    steps: int = 100,
    restarts: int = 1,
) -> Tensor:
    """APGD on cross-entropy.

    Parameters
    ----------
    model : images (N, C, H, W) in [0, 1] to logits (N, K), in eval mode.
    images, labels : (N, C, H, W) float in [0, 1], and (N,).
    threat : the ball. seed : the starts are drawn from it for the batch as a whole, so that `index` decides nothing.
    steps, restarts : iterations of a start, and starts; in l1 three tenths of the steps are made in a ball of 3 eps,
    three tenths in one of 2 eps.

    Returns float32 images inside the ball and [0, 1], the clean one where no adversarial one was found.
    """
    from pyautoattack.autopgd_base import APGDAttack

    with contained(model):
        attack = APGDAttack(
            model,
            norm=NORMS[threat.norm],
            eps=threat.eps,
            n_iter=steps,
            n_restarts=restarts,
            seed=seed,
            device=images.device,
            use_largereps=threat.norm == "l1",
        )
        return project(attack.perturb(images, labels).detach(), images.float(), threat)


def apgd_t(
    model: Model,
    images: Tensor,
    labels: Tensor,
    *,
    threat: Threat,
    seed: int,
    index: Tensor,
    steps: int = 100,
    targets: int = 9,
) -> Tensor:
    """APGD on the targeted difference-of-logits-ratio loss, against the most probable other classes one by one.

    `targets` is at most K − 1; the other parameters and the result are apgd_ce's. Raises HallmarkError below four
    classes, for which the loss is not defined.
    """
    from pyautoattack.autopgd_base import APGDAttack_targeted

    with contained(model):
        classes = class_count(model, images)
        if classes < FEWEST_CLASSES["apgd-t"]:
            raise HallmarkError(f"apgd-t needs at least {FEWEST_CLASSES['apgd-t']} classes; this network has {classes}")
        attack = APGDAttack_targeted(
            model,
            norm=NORMS[threat.norm],
            eps=threat.eps,
            n_iter=steps,
            seed=seed,
            n_target_classes=min(targets, classes - 1),
            device=images.device,
            use_largereps=threat.norm == "l1",
            logger=logging.getLogger(__name__),
        )
        return project(attack.perturb(images, labels).detach(), images.float(), threat)


def fab_t(
    model: Model,
    images: Tensor,
    labels: Tensor,
    *,
    threat: Threat,
    seed: int,
    index: Tensor,
    steps: int = 100,
    targets: int = 9,
) -> Tensor:
    """The closest image on the other side of the boundary to each of the most probable other classes.

    Parameters
    ----------
    model : images (N, C, H, W) in [0, 1] to logits (N, K), in eval mode.
    images, labels : (N, C, H, W) float in [0, 1], and (N,).
    threat : the ball. seed, index : decide nothing, since the one start is the image itself.
    steps : iterations for each target. targets : at most K − 1.

    Returns float32 images inside the ball and [0, 1], the clean one where what was found lies outside of the ball.
    """
    from pyautoattack.fab_pt import FABAttack_PT

    with contained(model):
        attack = FABAttack_PT(
            model,
            norm=NORMS[threat.norm],
            eps=threat.eps,
            n_iter=steps,
            seed=seed,
            targeted=True,
            n_target_classes=min(targets, class_count(model, images) - 1),
            device=images.device,
        )
        return project(attack.perturb(images.float(), labels).detach(), images.float(), threat)


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
