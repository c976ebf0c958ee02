"""Which epoch's weights are exported."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from torch import Tensor, nn


@dataclass
class Selected:
    """The weights that are exported, chosen on the validation split.

    `by` is Method.selected_by: most images right under PGD-10, then clean, or the other way round.
    """

    by: str
    epoch: int = 0
    robust: float = -1.0
    clean: float = -1.0
    weights: dict[str, Tensor] = field(default_factory=dict)
    companions: dict[str, Tensor] = field(default_factory=dict)

    def offer(self, row: dict[str, Any], network: nn.Module, companions: Mapping[str, nn.Module]) -> bool:
        """Takes an epoch's weights if they are better, the companions' too; the earlier epoch wins a tie."""
        offered, best = (row["validation_pgd_10"], row["validation_clean"]), (self.robust, self.clean)
        if (offered <= best) if self.by == "pgd_10" else (offered[::-1] <= best[::-1]):
            return False
        self.epoch, self.robust, self.clean = row["epoch"], row["validation_pgd_10"], row["validation_clean"]
        self.weights = _copied(network)
        self.companions = {
            f"{name}.{key}": value
            for name, companion in companions.items()
            for key, value in _copied(companion).items()
        }
        return True


def _copied(network: nn.Module) -> dict[str, Tensor]:
    return {name: value.detach().cpu().clone() for name, value in network.state_dict().items()}
