"""What is proved about the served classifier itself: the outcome table's column, and how the attestation records it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray
from torch import nn

from bundle.numbers.proofs import proof_column
from pipeline.certification.program import UnprovableError
from pipeline.certification.radius import Search, default_technique, describe, proved_radii
from pipeline.data.split import Split
from pipeline.params import CertifySettings
from pipeline.run.cache import Cache

#: Radii at which certified accuracy is stated beside those that are attacked, in 255ths.
RADII = (1.0, 2.0, 4.0, 8.0, 16.0)


def with_technique(settings: CertifySettings, image: tuple[int, ...], tier: str) -> CertifySettings:
    """The settings with the technique that images (H, W, C) and the tier of the attacks give, where none is named."""
    technique = settings.proof or default_technique(image, thorough=tier == "thorough")
    return settings.model_copy(update={"proof": technique})


def prove(
    network: nn.Module, test: Split, settings: CertifySettings, attacked: list[float], cache: Cache
) -> tuple[list[dict[str, Any]], dict[str, NDArray[np.float64]]]:
    """The predicate's `proofs` and the column of proved radii; both empty where nothing is asked for or can be proved.

    `network` is on the CPU, in eval mode; `settings` name a technique. `attacked`: the l-infinity radii that were
    attacked, in 255ths.
    """
    assert settings.proof is not None  # with_technique
    if settings.proof == "none":
        return [], {}
    search = Search(settings.proof)
    try:
        radii = proved_radii(network, test.images, test.labels, search, cache=cache)
    except UnprovableError as reason:
        print(f"served classifier: {reason}", flush=True)
        return [], {}
    print(
        f"served classifier: {np.mean(radii >= RADII[0]):.1%} proved at l-infinity {RADII[0]:g}/255, {settings.proof}",
        flush=True,
    )
    return [describe(search, sorted({*RADII, *attacked}))], {proof_column("linf"): radii}


def attacked_radii(evidence: Mapping[str, Any]) -> list[float]:
    """The l-infinity radii of the evidence, in 255ths; `evidence` is the stage attack's record."""
    return [threat["eps_255"] for threat in evidence["threats"] if threat["norm"] == "linf"]
