"""PGD on the logit margin: what robust-training papers call "C&W" in a ball.

The margin loss is that of Carlini and Wagner 2017 (arXiv 1608.04644, f6 without its floor); the search is PGD's.
"""

from __future__ import annotations

from torch import Tensor

from pipeline.attacks import pgd as _pgd
from pipeline.attacks.threat import Threat


def margin_pgd(
    model: _pgd.Model,
    images: Tensor,
    labels: Tensor,
    *,
    threat: Threat,
    seed: int,
    index: Tensor,
    steps: int = 50,
    restarts: int = 1,
    relative_step: float = 0.25,
) -> Tensor:
    """PGD that maximises the largest other logit minus the label's; parameters and result as pipeline.attacks.pgd.pgd."""
    return _pgd.pgd(
        model,
        images,
        labels,
        threat=threat,
        seed=seed,
        index=index,
        steps=steps,
        restarts=restarts,
        relative_step=relative_step,
        objective=lambda logits, labels: -_pgd.margin(logits, labels),
    )
