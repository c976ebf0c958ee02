"""What an evaluation's attacks find, measured directly, for tests of the sanity checks."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from pipeline.attacks.pgd import fgsm, margin_pgd, pgd, trajectory
from pipeline.attacks.threat import Threat, uniform_start
from pipeline.evaluation.sanity import Measured, fingerprint, sanity_checks
from pipeline.evaluation.victim import Sample, Victim

NO_COMPANIONS: Mapping[str, nn.Module] = {}


def measure(
    network: nn.Module, sample: Sample, threat: Threat, companions: Mapping[str, nn.Module] = NO_COMPANIONS
) -> Measured:
    """Noise, FGSM, PGD-10, -20 and -50, margin, and transfer from companions; the names are the suite's."""
    before = fingerprint(network)

    def right(images: Tensor) -> NDArray[np.bool_]:
        with torch.no_grad():
            return (network(images).argmax(1) == sample.labels).numpy()

    args, search = (sample.images, sample.labels), {"threat": threat, "seed": 0, "index": sample.index}
    found = {
        "noise": right(uniform_start(sample.images, threat, seed=7, index=sample.index)),
        "fgsm": right(fgsm(network, *args, threat=threat)),
        **{f"pgd-{steps}": right(path) for steps, path in trajectory(network, *args, steps=(10, 20, 50), **search)},
        "margin": right(margin_pgd(network, *args, **search)),
        **{f"transfer-{name}": right(pgd(other, *args, **search)) for name, other in companions.items()},
    }
    return Measured(right(sample.images), found, fingerprint=before)


def checked(
    network: nn.Module,
    sample: Sample,
    threat: Threat,
    *,
    tier: str = "standard",
    measured: Measured | None = None,
    companions: Mapping[str, nn.Module] = NO_COMPANIONS,
    classes: int = 10,
) -> dict[str, dict]:
    """The sanity items by check."""
    measured = measured or measure(network, sample, threat, companions)
    items = sanity_checks(Victim(network, classes), sample, threat, measured, seed=0, tier=tier)
    assert len({item["check"] for item in items}) == len(items)
    return {item["check"]: item for item in items}
