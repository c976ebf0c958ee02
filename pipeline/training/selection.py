"""Which epoch's weights are exported."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from torch import Tensor, nn


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
