"""Learning rate over time, and the settings of the schedules that no paper owns."""

from __future__ import annotations

import math
from typing import Any

from pipeline.params import TrainSettings

#: For 8×8 digits on two CPU cores: a minute or two.
DIGITS_SCHEDULE: dict[str, Any] = {
    "epochs": 12,
    "batch_size": 32,
    "lr": 0.1,
    "lr_shape": "one_cycle",
    "warmup": 0.3,
    "momentum": 0.9,
    "weight_decay": 5e-4,
    "averaging": "none",
    "ema_decay": 0.99,
}

#: The same for every method, so that a table compares methods; the FGSM-PGK line keeps its averaging. Settings of Pang et al.
#: 2021, arXiv 2010.00467.
COMMON_SCHEDULE: dict[str, Any] = {
    "epochs": 110,
    "batch_size": 128,
    "lr": 0.1,
    "lr_shape": "piecewise",
    "milestones": [100 / 110, 105 / 110],
    "warmup": 0.0,
    "momentum": 0.9,
    "weight_decay": 5e-4,
    "averaging": "none",
    "ema_decay": 0.999,
}


def learning_rate(step: int, steps: int, settings: TrainSettings) -> float:
    """The learning rate of optimiser step `step` of `steps` (0 ≤ step < steps).

    piecewise: lr, divided by 10 at each milestone (a share of all steps). cosine: half a cosine from lr to 0.
    one_cycle: up in a straight line during `warmup`, down in a straight line to 0. Every shape rises from 0 during
    `warmup`; `first_epoch_lr` holds for the first epoch.
    """
    assert settings.lr is not None and settings.epochs is not None  # resolved settings
    share = step / steps
    warmup = settings.warmup or 0.0
    if settings.first_epoch_lr is not None and share < 1 / settings.epochs:
        return settings.first_epoch_lr
    if share < warmup:
        return settings.lr * (step + 1) / math.ceil(warmup * steps)
    rest = (share - warmup) / (1 - warmup)
    match settings.lr_shape:
        case "cosine":
            return settings.lr * 0.5 * (1 + math.cos(math.pi * rest))
        case "one_cycle":
            return settings.lr * (1 - rest)
        case _:
            return settings.lr * 0.1 ** sum(share >= milestone for milestone in settings.milestones or [])


def radius_share(step: int, steps: int, settings: TrainSettings) -> float:
    """The share of eps that optimiser step `step` of `steps` trains with: a straight line up to 1 during `eps_warmup`."""
    return 1.0 if settings.eps_warmup is None else min(1.0, (step + 1) / (settings.eps_warmup * steps))
