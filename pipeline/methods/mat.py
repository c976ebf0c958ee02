"""MAT: mutual adversarial training (Liu et al. 2021, arXiv 2112.05005), reconstructed from its abstracts.

Several peers, each robust on its own, learn together from the adversarial images of all of them. The loss and its
weights are this project's reconstruction; they follow deep mutual learning (Zhang et al. 2018, arXiv 1706.00384).
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import torch
from pydantic import Field
from torch import Tensor, nn
from torch.nn import functional

from pipeline.attacks.divergence import at_least_float32, kl_divergence
from pipeline.methods.method import Batch, Method, Task
from pipeline.methods.pgd_at import cross_entropy_ascent
from pipeline.params import Section


class PeerImages(NamedTuple):
    """One set of adversarial images (N, C, H, W) a peer, in the order of the peers."""

    sets: tuple[Tensor, ...]


class MAT(Method):
    """L_i = mean_j [ (1 − τ) · CE(f_i(x̂_j), y) + τ · mean_{k≠i} KL(p_k(x̂_j)‖p_i(x̂_j)) ], summed over the peers i.

    x̂_j is PGD-10 on CE against peer j, from a uniform start. The other peers' p_k carry no gradient, and all peers
    move in the same step. Peers have the target's architecture and differ in their initial weights; peer 0, the
    target, is the one that is validated, exported and served, never an ensemble. `passes` is that of two peers.
    """

    name = "mat"
    title = "MAT-style, reconstructed"
    paper = "Liu et al. 2021, arXiv 2112.05005"
    reconstructed = True
    passes = (24, 24)

    class Settings(Section):
        peers: int = Field(
            default=2, ge=2, le=64, description="networks that learn together; a step makes steps · N + N² passes"
        )
        tau: float = Field(
            default=0.5, ge=0, le=1, description="share of the peers' distributions, the labels have the rest"
        )
        steps: int = Field(default=10, ge=1, le=100_000, description="steps of the training attack")
        relative_step: float = Field(default=0.25, gt=0, le=1e3, description="step size as a share of eps")

    def __init__(self, settings: Any, task: Task, build: Callable[[str], nn.Module]) -> None:
        super().__init__(settings, task, build)
        # Direct children, because the loop compiles a method's children.
        for number in range(1, settings.peers):
            self.add_module(f"peer_{number}", build("target"))

    @property
    def peers(self) -> list[nn.Module]:
        """All peers; the target is peer 0."""
        return [self.target, *(self.get_submodule(f"peer_{number}") for number in range(1, self.settings.peers))]

    def perturb(self, batch: Batch) -> PeerImages:
        attack = {"steps": self.settings.steps, "relative_step": self.settings.relative_step}
        return PeerImages(tuple(cross_entropy_ascent(peer, batch, self.threat, **attack) for peer in self.peers))

    def losses(self, batch: Batch, perturbed: PeerImages) -> dict[str, Tensor]:
        terms: dict[str, Tensor] = {}
        logits = [[at_least_float32(peer(images)) for images in perturbed.sets] for peer in self.peers]
        for number, own in enumerate(logits):
            others = [answers for other, answers in enumerate(logits) if other != number]
            labelled = [functional.cross_entropy(answer, batch.labels) for answer in own]
            mutual = [
                kl_divergence(theirs.detach(), ours)
                for answers in others
                for theirs, ours in zip(answers, own, strict=True)
            ]
            terms[f"peer_{number}_cross_entropy"] = (1 - self.settings.tau) * torch.stack(labelled).mean()
            terms[f"peer_{number}_mutual_kl"] = self.settings.tau * torch.stack(mutual).mean()
        return terms

    def attacked(self, perturbed: PeerImages) -> Tensor:
        return perturbed.sets[0]
