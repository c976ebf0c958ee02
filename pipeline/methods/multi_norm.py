"""Training against several norms at once: MAX, AVG and MSD.

MAX and AVG (Tramèr and Boneh 2019, arXiv 1904.13000), and multi steepest descent (Maini et al. 2020, arXiv 1909.04068).
"""

from __future__ import annotations

from typing import Any, ClassVar

import torch
from pydantic import Field
from torch import Tensor, nn
from torch.nn import functional

from bundle.table.threats import Norm, Threat
from pipeline.attacks.ascent import image_gradient, stepped
from pipeline.attacks.divergence import at_least_float32
from pipeline.methods.mat import PeerImages
from pipeline.methods.method import Batch, Method, crafting
from pipeline.methods.pgd_at import cross_entropy_ascent, cross_entropy_loss
from pipeline.params import RADII, Section


class SeveralNorms(Method):
    """What methods against l∞, l2 and l1 share: the radii, PGD in each norm, and validation under all of them."""

    trains_in = ("linf",)
    norms: ClassVar[tuple[Norm, ...]] = ("l2", "l1")

    class Settings(Section):
        eps_l2: float = Field(
            default=0.5, gt=0, le=1000, description="l2 radius for images in [0, 1]; linf's is threat.eps_255"
        )
        eps_l1: float = Field(default=12.0, gt=0, le=1000, description="l1 radius for images in [0, 1]")
        steps: int = Field(default=10, ge=1, le=100_000, description="steps of the training attacks")
        relative_step: float = Field(default=0.25, gt=0, le=1e3, description="step size as a share of eps")

    @classmethod
    def defaults(cls, data: str) -> dict[str, Any]:
        return {f"eps_{norm}": RADII[data][norm] for norm in cls.norms}

    @property
    def threats(self) -> tuple[Threat, ...]:
        return (self.task.threat, *(Threat(norm, getattr(self.settings, f"eps_{norm}")) for norm in self.norms))

    @property
    def balls(self) -> list[Threat]:
        """Those of this step, in the order of `threats`: l∞, l2, l1."""
        return [threat.scaled(self.radius_share) for threat in self.threats]

    def attack(self, network: nn.Module, batch: Batch, ball: Threat) -> Tensor:
        """PGD on CE against `network` in one of the norms, from a uniform start."""
        return cross_entropy_ascent(
            network, batch, ball, steps=self.settings.steps, relative_step=self.settings.relative_step
        )

    def values(self, images: Tensor, batch: Batch) -> Tensor:
        """CE of each image, (N,), in the mode that the target is in."""
        return functional.cross_entropy(at_least_float32(self.target(images)), batch.labels, reduction="none")


class Max(SeveralNorms):
    """CE(f(x'), y), x' the one of PGD's three images, one a norm, that has the largest CE: the worst case, image by image."""

    name = "max"
    title = "MAX"
    paper = "Tramèr and Boneh 2019, arXiv 1904.13000"
    passes = (34, 31)

    def perturb(self, batch: Batch) -> Tensor:
        images = [self.attack(self.target, batch, ball) for ball in self.balls]
        with crafting(self.target):
            return worst(images, [self.values(each, batch).detach() for each in images])

    def losses(self, batch: Batch, perturbed: Tensor) -> dict[str, Tensor]:
        return {"cross_entropy": self.values(perturbed, batch).mean()}


class Avg(SeveralNorms):
    """mean over the norms of CE(f(x'_p), y), x'_p from PGD in norm p. Maini et al. make an update a norm instead of one."""

    name = "avg"
    title = "AVG"
    paper = "Tramèr and Boneh 2019, arXiv 1904.13000"
    passes = (33, 33)

    def perturb(self, batch: Batch) -> PeerImages:
        return PeerImages(tuple(self.attack(self.target, batch, ball) for ball in self.balls))

    def losses(self, batch: Batch, perturbed: PeerImages) -> dict[str, Tensor]:
        return {
            f"cross_entropy_{ball.norm}": self.values(images, batch).mean() / len(perturbed.sets)
            for ball, images in zip(self.balls, perturbed.sets, strict=True)
        }

    def attacked(self, perturbed: PeerImages) -> Tensor:
        return perturbed.sets[0]


class MSD(SeveralNorms):
    """CE(f(x'), y), x' by multi steepest descent: in every step the norm whose step raises an image's CE most makes it.

    From x, with one gradient a step: a steepest step and the projection in each norm, then the candidate with the
    largest CE, image by image. x' is the point with the largest CE of all steps, as in the official code, which makes 50
    steps of a tenth of ε and attacks l2 at 0.3 while it trains for 0.5.
    """

    name = "msd"
    title = "MSD"
    paper = "Maini et al. 2020, arXiv 1909.04068"
    passes = (41, 11)

    def perturb(self, batch: Batch) -> Tensor:
        point = found = batch.images
        largest = torch.full_like(at_least_float32(point[:, 0, 0, 0]), -torch.inf)
        with crafting(self.target):
            for _ in range(self.settings.steps):
                candidates = self._candidates(point, batch)
                values = [self.values(each, batch).detach() for each in candidates]
                point, reached = worst(candidates, values), torch.stack(values).amax(dim=0)
                found = torch.where((reached > largest).view(-1, 1, 1, 1), point, found)
                largest = torch.maximum(largest, reached)
        return found

    def losses(self, batch: Batch, perturbed: Tensor) -> dict[str, Tensor]:
        return {"cross_entropy": self.values(perturbed, batch).mean()}

    def _candidates(self, point: Tensor, batch: Batch) -> list[Tensor]:
        """One steepest step in every norm, projected on its ball, all from one gradient."""
        gradient, _ = image_gradient(cross_entropy_loss(self.target, batch.labels), point)
        return [
            stepped(point, gradient, batch.images, threat=ball, relative_step=self.settings.relative_step)
            for ball in self.balls
        ]


def worst(images: list[Tensor], values: list[Tensor]) -> Tensor:
    """Of several sets of images (N, C, H, W), for each image the one with the largest of its values (N,)."""
    place = torch.stack(values).argmax(dim=0).view(1, -1, 1, 1, 1)
    stacked = torch.stack(images)
    return stacked.gather(0, place.expand(1, *stacked.shape[1:])).squeeze(0)
