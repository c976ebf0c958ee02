"""Training without attacks: the floor that every defence is measured against."""

from __future__ import annotations

from torch import Tensor
from torch.nn import functional

from pipeline.attacks.divergence import at_least_float32
from pipeline.methods.method import Batch, Method


class Standard(Method):
    """Cross-entropy on clean images."""

    name = "standard"
    title = "No defence"
    paper = "none"
    passes = (1, 1)
    selected_by = "clean"

    def perturb(self, batch: Batch) -> Tensor:
        return batch.images

    def losses(self, batch: Batch, perturbed: Tensor) -> dict[str, Tensor]:
        return {"cross_entropy": functional.cross_entropy(at_least_float32(self.target(perturbed)), batch.labels)}
