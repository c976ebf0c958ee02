"""Accuracy on the validation split, on which every choice is made.

Which epoch's weights are exported.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from pipeline.attacks.pgd import fgsm, pgd
from pipeline.attacks.threat import Threat
from pipeline.methods.method import crafting
from pipeline.networks.blocks import to_unit

PGD_STEPS = 10


class ValidationAccuracy(NamedTuple):
    """Shares of the validation images, in [0, 1].

    `clean`: right. `robust`: right, and under PGD-10 of every threat too, image by image. `fgsm`: right, and under a
    single step of the first threat too.
    """

    clean: float
    robust: float
    fgsm: float


def validate(
    network: nn.Module,
    images: Tensor,
    labels: Tensor,
    *,
    threats: Sequence[Threat],
    seed: int = 0,
    batch_size: int = 500,
) -> ValidationAccuracy:
    """Clean, PGD-10 and single-step accuracy, in float32, with the same random starts every time.

    Parameters: `images` uint8 (N, C, H, W), `labels` (N,); `threats`, one or more. A threat's starts are the same
    whatever other threats are asked for.
    """
    counts = torch.zeros(3, dtype=torch.int64, device=images.device)
    with crafting(network), torch.autocast(images.device.type, enabled=False):
        for start in range(0, len(images), batch_size):
            rows = torch.arange(start, min(start + batch_size, len(images)))
            unit, label = to_unit(images[rows]), labels[rows]
            clean = robust = _right(network, unit, label)
            for threat in threats:
                adversarial = pgd(network, unit, label, threat=threat, seed=seed, index=rows, steps=PGD_STEPS)
                robust = robust & _right(network, adversarial, label)
            single = clean & _right(network, fgsm(network, unit, label, threat=threats[0]), label)
            counts += torch.stack([clean.sum(), robust.sum(), single.sum()])
    return ValidationAccuracy(*(count / len(images) for count in counts.tolist()))


@torch.no_grad()
def _right(network: nn.Module, images: Tensor, labels: Tensor) -> Tensor:
    return network(images).argmax(1) == labels


@dataclass
class Selected:
    """The weights that are exported, chosen on the validation split.

    `by` is Method.selected_by: most images right under PGD-10, then clean, or the other way round. An epoch that ended
    before eps had its full size (`train.eps_warmup`) is passed over as soon as there is another: it may do well under
    PGD-10, and has not learnt what is to be proved.
    """

    by: str
    epoch: int = 0
    warm: bool = False
    robust: float = -1.0
    clean: float = -1.0
    weights: dict[str, Tensor] = field(default_factory=dict)
    companions: dict[str, Tensor] = field(default_factory=dict)

    def offer(
        self, row: dict[str, Any], network: nn.Module, companions: Mapping[str, nn.Module], *, warm: bool = True
    ) -> bool:
        """Takes an epoch's weights if they are better, the companions' too; the earlier epoch wins a tie.

        `warm`: the epoch ended with eps at its full size.
        """
        robust, clean = row["validation_pgd_10"], row["validation_clean"]
        if (warm, *self._order(robust, clean)) <= (self.warm, *self._order(self.robust, self.clean)):
            return False
        self.epoch, self.warm, self.robust, self.clean = row["epoch"], warm, robust, clean
        self.weights = _copied(network)
        self.companions = {
            f"{name}.{key}": value
            for name, companion in companions.items()
            for key, value in _copied(companion).items()
        }
        return True

    def _order(self, robust: float, clean: float) -> tuple[float, float]:
        return (robust, clean) if self.by == "pgd_10" else (clean, robust)


def _copied(network: nn.Module) -> dict[str, Tensor]:
    return {name: value.detach().cpu().clone() for name, value in network.state_dict().items()}
