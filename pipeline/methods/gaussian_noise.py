"""Training with Gaussian noise, so that the smoothed classifier's certificates are worth something.

Cohen et al. 2019, arXiv 1902.02918 (noise alone), and Salman et al. 2019, arXiv 1906.04584 (SmoothAdv: noise on images
that attack the smoothed classifier). Both train from the start, or go on from weights that are there.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from pydantic import Field
from torch import Tensor, nn
from torch.nn import functional

from bundle.errors import HallmarkError
from bundle.table.threats import Threat
from pipeline.attacks.ascent import steepest_ascent
from pipeline.attacks.divergence import at_least_float32
from pipeline.external.weights import load_weights
from pipeline.methods.method import Batch, Method, Task, crafting
from pipeline.networks.names import NetworkError
from pipeline.params import RADII, Section


class GaussianNoise(Method):
    """CE(f(x + σ · n), y), n standard normal, drawn anew in every step and not clamped to the pixel range.

    The threat has no part in the loss. The epoch is chosen by clean accuracy: no attack was trained against.
    """

    name = "gaussian_noise"
    title = "Gaussian noise"
    paper = "Cohen et al. 2019, arXiv 1902.02918"
    passes = (1, 1)
    for_certificates = True
    selected_by = "clean"

    class Settings(Section):
        sigma: float = Field(
            default=0.25, gt=0, le=4, description="standard deviation of the noise; certify.sigma's, as a rule"
        )
        init_weights: str | None = Field(
            default=None,
            min_length=1,
            description="file of weights that training goes on from, of the same network; null: none",
        )

    def __init__(self, settings: Any, task: Task, build: Callable[[str], nn.Module]) -> None:
        super().__init__(settings, task, build)
        if settings.init_weights is not None:
            _load(self.target, settings.init_weights)

    def perturb(self, batch: Batch) -> Tensor:
        return batch.images + self._noise(batch.images)

    def losses(self, batch: Batch, perturbed: Tensor) -> dict[str, Tensor]:
        return {"cross_entropy": functional.cross_entropy(at_least_float32(self.target(perturbed)), batch.labels)}

    def _noise(self, images: Tensor) -> Tensor:
        return self.settings.sigma * torch.randn_like(images)


class SmoothAdv(GaussianNoise):
    """CE(f(x' + σ · n_i), y) over m draws n_i; x' raises −log mean_i p_y(x' + σ · n_i) in the l2 ball by PGD from x.

    SmoothAdv_PGD: the same draws in every step of the attack and in the loss. BatchNorm is in eval mode while crafting.
    """

    name = "smooth_adv"
    title = "SmoothAdv"
    paper = "Salman et al. 2019, arXiv 1906.04584"
    passes = (22, 22)

    class Settings(GaussianNoise.Settings):
        eps_l2: float = Field(
            default=0.5, gt=0, le=1000, description="l2 radius of the training attack, for images in [0, 1]"
        )
        draws: int = Field(default=2, ge=1, le=64, description="m, noisy copies of each image")
        steps: int = Field(default=10, ge=1, le=100_000, description="steps of the training attack")
        relative_step: float = Field(default=0.2, gt=0, le=1e3, description="step size as a share of eps_l2")

    @classmethod
    def defaults(cls, data: str) -> dict[str, Any]:
        return {"eps_l2": RADII[data]["l2"]}

    def perturb(self, batch: Batch) -> Tensor:
        """Noisy adversarial images (m · N, C, H, W), draw after draw."""
        noise = [self._noise(batch.images) for _ in range(self.settings.draws)]

        def objective(images: Tensor) -> Tensor:
            answers = torch.stack([at_least_float32(self.target(images + one)).log_softmax(dim=1) for one in noise])
            # The softmax of these sums is the mean of the draws' probabilities.
            return functional.cross_entropy(answers.logsumexp(dim=0), batch.labels, reduction="sum")

        with crafting(self.target):
            ball = Threat("l2", self.settings.eps_l2).scaled(self.radius_share)
            attacked = steepest_ascent(
                batch.images,
                batch.images,
                objective,
                threat=ball,
                steps=self.settings.steps,
                relative_step=self.settings.relative_step,
            )
        return torch.cat([attacked + one for one in noise])

    def losses(self, batch: Batch, perturbed: Tensor) -> dict[str, Tensor]:
        logits = [at_least_float32(self.target(images)) for images in perturbed.chunk(self.settings.draws)]
        return {"cross_entropy": torch.stack([functional.cross_entropy(each, batch.labels) for each in logits]).mean()}

    def attacked(self, perturbed: Tensor) -> Tensor:
        return perturbed.chunk(self.settings.draws)[0]


def _load(network: nn.Module, path: str) -> None:
    """Puts the weights of a file into the network; raises HallmarkError in one sentence where they do not fit."""
    try:
        load_weights(network, path)
    except NetworkError as error:
        raise HallmarkError(f"method.init_weights: {error}") from None
