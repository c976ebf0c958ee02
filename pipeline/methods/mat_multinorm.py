"""MAT against several norms (Liu et al. 2021, arXiv 2112.05005), reconstructed from its abstracts.

One specialist a norm, trained against that norm alone, and a generalist that learns from all of them and is served.
Published is that division of work; the loss, its weights and whom the images are made against are this project's.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from pydantic import Field
from torch import Tensor, nn
from torch.nn import functional

from pipeline.attacks.divergence import at_least_float32, kl_divergence
from pipeline.methods.mat import PeerImages
from pipeline.methods.method import Batch, Task, crafting
from pipeline.methods.multi_norm import SeveralNorms


class MATMultinorm(SeveralNorms):
    """L_G = mean_p [ (1 − τ) · CE(f_G(x̂^p), y) + τ · KL(p_p(x̂^p)‖p_G(x̂^p)) ], and CE(f_p(x̃^p), y) for each specialist p.

    x̂^p is PGD-10 on CE against the generalist in norm p, x̃^p the same against specialist p, both from a random start.
    Specialists are constant where they teach, and learn nothing from the generalist. All have the target's
    architecture and move in the same step; the generalist is the target, which is validated under all norms at once.
    """

    name = "mat_multinorm"
    title = "MAT-style multi-norm, reconstructed"
    paper = "Liu et al. 2021, arXiv 2112.05005"
    reconstructed = True
    passes = (69, 66)

    class Settings(SeveralNorms.Settings):
        tau: float = Field(
            default=0.5, ge=0, le=1, description="share of the specialists' distributions, the labels have the rest"
        )

    def __init__(self, settings: Any, task: Task, build: Callable[[str], nn.Module]) -> None:
        super().__init__(settings, task, build)
        # Direct children, because the loop compiles a method's children.
        for threat in self.threats:
            self.add_module(f"specialist_{threat.norm}", build("target"))

    @property
    def specialists(self) -> list[nn.Module]:
        """One per norm, in the order of `threats`."""
        return [self.get_submodule(f"specialist_{threat.norm}") for threat in self.threats]

    def perturb(self, batch: Batch) -> PeerImages:
        """Against the generalist in every norm, then against each specialist in its own."""
        networks = [*([self.target] * len(self.balls)), *self.specialists]
        return PeerImages(
            tuple(self.attack(network, batch, ball) for network, ball in zip(networks, self.balls * 2, strict=True))
        )

    def losses(self, batch: Batch, perturbed: PeerImages) -> dict[str, Tensor]:
        count, tau = len(self.threats), self.settings.tau
        labelled, taught, terms = [], [], {}
        for threat, specialist, images, own in zip(
            self.threats, self.specialists, perturbed.sets[:count], perturbed.sets[count:], strict=True
        ):
            answer = at_least_float32(self.target(images))
            labelled.append(functional.cross_entropy(answer, batch.labels))
            taught.append(kl_divergence(self._lesson(specialist, images), answer))
            terms[f"specialist_{threat.norm}"] = functional.cross_entropy(
                at_least_float32(specialist(own)), batch.labels
            )
        return {
            "cross_entropy": (1 - tau) * torch.stack(labelled).mean(),
            "specialists_kl": tau * torch.stack(taught).mean(),
            **terms,
        }

    def attacked(self, perturbed: PeerImages) -> Tensor:
        return perturbed.sets[0]

    def _lesson(self, specialist: nn.Module, images: Tensor) -> Tensor:
        """The specialist's logits, constant, in eval mode: its BatchNorm statistics are of the images that it learns from."""
        with crafting(specialist):
            # Not under no_grad: autocast would keep the weights that it casts there, without their gradient.
            return at_least_float32(specialist(images)).detach()
