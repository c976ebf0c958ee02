"""FAB, the fast adaptive boundary attack (Croce and Hein 2020, arXiv 1907.02044), targeted, through pyautoattack."""

from __future__ import annotations

from torch import Tensor

from pipeline.attacks.autoattack import NORMS, class_count
from pipeline.attacks.containment import contained
from pipeline.attacks.pgd import Model
from pipeline.attacks.threat import Threat, project


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
