"""E-AT: extreme norms adversarial training (Croce and Hein 2022, arXiv 2105.12508)."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, ClassVar, NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional

from pipeline.attacks.ascent import image_gradient, random_start, stepped
from pipeline.methods.method import Batch, Task, classes_of, crafting
from pipeline.methods.multi_norm import SeveralNorms
from pipeline.methods.pgd_at import cross_entropy_loss
from pipeline.params.defaults import COMMON_SCHEDULE


class Extreme(NamedTuple):
    """Images (N, C, H, W) attacked in one norm; its place, 0 for l∞ and 1 for l1, (); how many stayed right, ()."""

    images: Tensor
    place: Tensor
    right: Tensor


class EAT(SeveralNorms):
    """CE(f(x'), y), x' attacked in one norm a batch: l∞ or l1, whose union holds most of the l2 ball between them.

    Norm p is drawn with a probability that grows with its error: P(p) ∝ 1 − (images that stayed right under p) / (images
    attacked in p), both counted over the whole training so far; a half each until both norms were seen. An image stays
    right when every point of its attack is answered right. l2 is not trained against; it is validated and evaluated.

    The norm is drawn on the device and both norms' steps are computed, which costs no pass. The paper's attack is APGD
    with ten steps; here it is the PGD of the other methods, from a uniform start.
    """

    name = "e_at"
    title = "E-AT"
    paper = "Croce and Hein 2022, arXiv 2105.12508"
    passes = (12, 11)
    paper_schedule: ClassVar[dict[str, Any]] = {**COMMON_SCHEDULE, "epochs": 80, "lr": 0.05, "milestones": [70 / 80]}

    def __init__(self, settings: Any, task: Task, build: Callable[[str], nn.Module]) -> None:
        super().__init__(settings, task, build)
        self.register_buffer("right", torch.zeros(2))
        self.register_buffer("seen", torch.zeros(2))
        self.right: Tensor
        self.seen: Tensor

    def probability(self) -> Tensor:
        """Of l1, (): the share that its error has in both errors."""
        errors = 1 - self.right / self.seen.clamp_min(1)
        share = errors[1] / errors.sum().clamp_min(1e-12)
        return torch.where((self.seen > 0).all() & (errors.sum() > 0), share, 0.5)

    def perturb(self, batch: Batch) -> Extreme:
        linf, _, l1 = self.balls
        is_l1 = torch.rand_like(self.seen[0]) < self.probability()
        classes = classes_of(batch.labels)
        point = torch.where(is_l1, random_start(batch.images, l1), random_start(batch.images, linf))
        right = torch.ones_like(classes, dtype=torch.bool)
        with crafting(self.target):
            for _ in range(self.settings.steps):
                gradient, logits = image_gradient(cross_entropy_loss(self.target, batch.labels), point)
                right = right & (logits.argmax(1) == classes)
                moved = [
                    stepped(point, gradient, batch.images, threat=ball, relative_step=self.settings.relative_step)
                    for ball in (linf, l1)
                ]
                point = torch.where(is_l1, moved[1], moved[0])
            right = right & (self.target(point).argmax(1) == classes)
        return Extreme(point, is_l1.long(), right.sum())

    def losses(self, batch: Batch, perturbed: Extreme) -> dict[str, Tensor]:
        return {"cross_entropy": self.values(perturbed.images, batch).mean()}

    def attacked(self, perturbed: Extreme) -> Tensor:
        return perturbed.images

    def after_step(self, batch: Batch, perturbed: Extreme) -> None:
        here = functional.one_hot(perturbed.place, 2).to(self.seen)
        self.right += here * perturbed.right
        self.seen += here * len(batch.images)
