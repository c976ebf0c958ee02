"""The bundle's files as they were verified: held in memory, so that what is handed out is what was checked."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from bundle.bundle import Bundle, BundleError
from bundle.digests import sha256_bytes
from bundle.layout import ATTESTATION, BOM, CARD, ENVELOPE, IMAGES, MODEL, NETWORK, OUTCOMES, REPORT, WEIGHTS

#: The allow-list: a name that is not here does not exist, whatever lies in the folder.
MEDIA_TYPES = {
    MODEL: "application/octet-stream",
    WEIGHTS: "application/octet-stream",
    NETWORK: "application/json",
    OUTCOMES: "application/vnd.apache.parquet",
    IMAGES: "application/zip",
    BOM: "application/vnd.cyclonedx+json",
    CARD: "text/markdown; charset=utf-8",
    REPORT: "text/html; charset=utf-8",
    ATTESTATION: "application/json",
    ENVELOPE: "application/json",
}


@dataclass(frozen=True)
class EvidenceFile:
    """One file: its bytes, their SHA-256 and their media type."""

    content: bytes
    sha256: str
    media_type: str


def evidence(bundle: Bundle) -> dict[str, EvidenceFile]:
    """Every file of a verified bundle by name; raises BundleError where one changed after it was verified."""
    attested = {item["name"]: item["sha256"] for item in bundle.predicate["files"]}
    held: dict[str, bytes] = {MODEL: bundle.model, ATTESTATION: bundle.statement_bytes}
    if bundle.envelope is not None:
        held[ENVELOPE] = bundle.envelope
    for name in attested:
        held[name] = (bundle.path / name).read_bytes()
    files = {name: EvidenceFile(held[name], sha256_bytes(held[name]), MEDIA_TYPES[name]) for name in sorted(held)}
    _check(files, attested)
    return files


def _check(files: Mapping[str, EvidenceFile], attested: Mapping[str, str]) -> None:
    for name, digest in attested.items():
        if files[name].sha256 != digest:
            raise BundleError(f"{name}: changed while the service started; start it again")
