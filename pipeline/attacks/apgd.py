"""Auto-PGD (Croce and Hein 2020, arXiv 2003.01690; l1: 2021, arXiv 2103.01208) by itself, through pyautoattack."""

from __future__ import annotations

import logging

from torch import Tensor

from bundle.errors import HallmarkError
from pipeline.attacks.autoattack import FEWEST_CLASSES, NORMS, class_count
from pipeline.attacks.containment import contained
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
