"""Whether a service's documents say what the attestation says, number by number."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from typing import Any

from audit.client import Client
from bundle.bundle import Bundle
from bundle.digests import sha256_bytes
from bundle.headline import main_names
from bundle.repeated import CLAIMED, PARTS, REPEATED


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
    if said.get("main_threats", main_names(predicate)) != main_names(predicate):  # services of before do not say it
        yield "/robustness: main_threats is not what the attestation says"
    for field, names in PARTS.items():
        if said.get(field) != {name: predicate[field][name] for name in names}:
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
