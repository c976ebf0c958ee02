"""The numbers of a statement that lists, gates and histories need, by name."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from bundle.claims import find_claim
from bundle.headline import attack_names, headline_threat
from bundle.outcomes import SETTINGS

#: The classifier that /predict answers with, as bounds name it.
SERVED_CLASSIFIER = "served"


def autoattack(predicate: Mapping[str, Any]) -> dict[str, Any] | None:
    """AutoAttack at the headline's threat: `threat`, `attack` (its name), and by setting the claim; None where not run.

    Where several versions of it were run, the first of the attestation; `all` covers every one of them.
    """
    threat = headline_threat(predicate)["name"]
    name = next((item for item in attack_names(predicate, threat) if item.split("-")[0] == "autoattack"), None)
    if name is None:
        return None
    keys = {"threat": threat, "attack": name}
    return keys | {kind: find_claim(predicate, "robust_accuracy", setting=kind, **keys) for kind in SETTINGS}


def served_bounds(predicate: Mapping[str, Any]) -> list[dict[str, Any]]:
    """Certified accuracy of the served classifier itself, by radius and technique; empty where nothing was proved."""
    return [item for item in predicate["bounds"] if item["classifier"] == SERVED_CLASSIFIER and "eps_255" in item]
