"""AWP: adversarial weight perturbation as rows of its own, on PGD-AT and on TRADES (Wu et al. 2020, arXiv 2004.05884)."""

from __future__ import annotations

from typing import Any, ClassVar

from pipeline.methods.pgd_at import PGDAT
from pipeline.methods.trades import TRADES
from pipeline.params.defaults import COMMON_SCHEDULE

#: The paper's, which is longer than what it perturbs is published with.
SCHEDULE: dict[str, Any] = {**COMMON_SCHEDULE, "epochs": 200, "milestones": [0.5, 0.75]}


class PGDATAWP(PGDAT):
    """PGD-AT with `train.awp_gamma` 0.01 from the first epoch on: CE(f(x'), y) at the worst weights nearby.

    min_w max_v L(w + v), ‖v_l‖ ≤ γ · ‖w_l‖ for every layer l; x' is made at w. The loop does it, for any method.
    """

    name = "pgd_at_awp"
    title = "PGD-AT with AWP"
    paper = "Wu et al. 2020, arXiv 2004.05884"
    #: The loss is computed once more, at w.
    passes = (12, 12)
    paper_schedule: ClassVar[dict[str, Any]] = SCHEDULE

    @classmethod
    def sections(cls, data: str) -> dict[str, dict[str, Any]]:
        return {"train": {"awp_gamma": 0.01}}


class TRADESAWP(TRADES):
    """TRADES with `train.awp_gamma` 0.005: its whole loss at the worst weights nearby.

    From the first epoch on; the official code begins after 10 of 200, which is `train.awp_start: 0.05`.
    """

    name = "trades_awp"
    title = "TRADES with AWP"
    paper = "Wu et al. 2020, arXiv 2004.05884"
    passes = (15, 14)
    paper_schedule: ClassVar[dict[str, Any]] = SCHEDULE

    @classmethod
    def sections(cls, data: str) -> dict[str, dict[str, Any]]:
        return {"train": {"awp_gamma": 0.005}}
