"""Whether a service's documents say what the attestation says, number by number."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from typing import Any

from audit.client import Client
from bundle.bundle import Bundle
from bundle.digests import sha256_bytes

#: Fields of /robustness, and the fields of the predicate that they repeat.
REPEATED = {
    "sample": "sample",
    "threats": "threats",
    "unions": "unions",
    "tier": "tier",
    "reliable": "reliable",
    "attacks": "attacks",
    "per_class": "perClass",
    "worst_class": "worstClass",
    "calibration": "calibration",
    "corruptions": "corruptionAccuracy",
    "minimum_distances": "minimumDistances",
    "agreement": "agreement",
    "bounds": "bounds",
    "smoothing": "smoothing",
    "sanity": "sanity",
    "parity": "parity",
    "not_tested": "notTested",
}
#: Fields of /robustness, and the metric of the claims that they hold.
CLAIMED = {"clean": "clean_accuracy", "robust": "robust_accuracy"}
#: Fields of /robustness that repeat a part of the predicate's field of the same name.
PARTS = ("method", "data")


def contradictions(client: Client, bundle: Bundle) -> list[str]:
    """What /robustness, /attestation and /versions say otherwise than the verified bundle, a sentence each.

    Raises ClientError where one of them does not answer.
    """
    return [
        *_robustness(client.robustness(), bundle.predicate),
        *_attestation(client.attestation(), bundle),
        *_versions(client.versions(), bundle),
    ]


def _robustness(said: Mapping[str, Any], predicate: Mapping[str, Any]) -> Iterator[str]:
    for field, metric in CLAIMED.items():
        attested = [claim for claim in predicate["claims"] if claim["metric"] == metric]
        if said.get(field) != attested:
            yield f"/robustness: {field} is not what the attestation says"
    for field, name in REPEATED.items():
        if field not in said or said[field] != predicate[name]:
            yield f"/robustness: {field} is not what the attestation says"
    for field in PARTS:
        part: Any = said.get(field)
        if not isinstance(part, dict) or part != {name: predicate[field].get(name) for name in part}:
            yield f"/robustness: {field} is not what the attestation says"


def _attestation(said: Mapping[str, Any], bundle: Bundle) -> Iterator[str]:
    if said.get("statement") != bundle.statement:
        yield "/attestation: its statement is not the one in /evidence/attestation.json"
    if said.get("statement_sha256") != sha256_bytes(bundle.statement_bytes):
        yield "/attestation: statement_sha256 is not that of /evidence/attestation.json"
    envelope = None if bundle.envelope is None else json.loads(bundle.envelope)
    if said.get("envelope") != envelope:
        yield "/attestation: its envelope is not the one in /evidence/attestation.dsse.json"


def _versions(listed: list[dict[str, Any]], bundle: Bundle) -> Iterator[str]:
    attested = {
        "digest": bundle.digest,
        "attestation_sha256": sha256_bytes(bundle.statement_bytes),
        "claims": bundle.predicate["claims"],
        "bounds": bundle.predicate["bounds"],
    }
    served = [item for item in listed if item.get("served") is True]
    if len(served) != 1 or any(served[0].get(name) != value for name, value in attested.items()):
        yield "/versions: the version that is served is not the attested one"
