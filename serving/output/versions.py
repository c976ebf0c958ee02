"""Every version at hand: the served bundle and those under releases/, each verified before it is listed.

The bundle's files as they were verified: held in memory, so that what is handed out is what was checked.
"""

from __future__ import annotations

import threading
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from bundle.bundle import Bundle, open_bundle
from bundle.digests import sha256_bytes
from bundle.errors import HallmarkError
from bundle.layout import (
    ATTESTATION,
    BOM,
    CARD,
    ENVELOPE,
    IMAGES,
    MODEL,
    NETWORK,
    OUTCOMES,
    REPORT,
    VERSION_DIGITS,
    WEIGHTS,
)
from bundle.pages.headline import FolderError, folders_in, headline, main_names
from bundle.signatures import read_envelope

#: What tells that a folder's files changed: name, size and time of each, of a link what it leads to.
Stamp = tuple[tuple[str, int, int], ...]


class Versions:
    """The list of versions; a release is verified again only when its files changed.

    Parameters: `served` is the bundle that answers, `releases` a folder with a bundle in each sub-folder; it may be
    missing. The methods read the disk: call them in a thread.
    """

    def __init__(self, served: Bundle, releases: Path) -> None:
        self._served = describe(served, served.path.resolve().name, served=True)
        self._releases = releases
        self._known: dict[str, tuple[Stamp, dict[str, Any]]] = {}
        self._lock = threading.Lock()

    def all(self) -> list[dict[str, Any]]:
        """Every bundle, the served one first, then by folder; one that is refused is listed with the reason.

        So is the folder of releases, where it cannot be read.
        """
        with self._lock:
            try:
                self._known = {folder.name: self._look(folder) for folder in folders_in(self._releases)}
            except FolderError as error:
                name = self._releases.name  # no path of the host's
                return [self._served, _refused(name, str(error).replace(str(self._releases), name))]
            return [self._served, *(entry for _, entry in self._known.values())]

    def find(self, version: str) -> list[dict[str, Any]]:
        """The bundles of one model, by its whole SHA-256 or the digits that people are shown; [] where there is none.

        One model may have several attestations, and so several bundles.
        """
        verified = [entry for entry in self.all() if entry["verified"]]
        key = "version" if len(version) == VERSION_DIGITS else "digest"
        return [entry for entry in verified if entry[key] == version]

    def _look(self, folder: Path) -> tuple[Stamp, dict[str, Any]]:
        """A folder's entry; whatever is wrong with one, the others are listed."""
        stamp: Stamp = ()
        try:
            stamp = _stamp(folder)
            if folder.name in self._known and self._known[folder.name][0] == stamp:
                return self._known[folder.name]
            return stamp, describe(open_bundle(folder), folder.name, served=False)
        except HallmarkError as error:
            refusal = str(error).replace(str(folder), folder.name)
        except OSError as error:
            refusal = f"{folder.name}: cannot be read ({error.strerror})"
        except Exception as error:  # a dozen types
            refusal = f"{folder.name}: cannot be read ({type(error).__name__})"
        return stamp, _refused(folder.name, refusal)


def _refused(folder: str, refusal: str) -> dict[str, Any]:
    return {"folder": folder, "served": False, "verified": False, "refusal": refusal}


def describe(bundle: Bundle, folder: str, *, served: bool) -> dict[str, Any]:
    """A verified bundle's entry: who it is, its headline, and its numbers as they are attested.

    `signed_by` names the keys of its envelope and `signed_at` when its first signer says that it was; whether they are
    to be trusted is not decided here. Raises SignatureError where the envelope is not one about this attestation.
    """
    signatures = [] if bundle.envelope is None else read_envelope(bundle.envelope, bundle.statement_bytes)
    return {
        "folder": folder,
        "served": served,
        "verified": True,
        "version": bundle.version,
        "digest": bundle.digest,
        "attestation_sha256": sha256_bytes(bundle.statement_bytes),
        "signed_by": [signature.key_id for signature in signatures],
        "signed_at": next((signature.signed_at for signature in signatures), None),
        "headline": headline(bundle.statement),
        "main_threats": main_names(bundle.predicate),
        "claims": bundle.predicate["claims"],
        "bounds": bundle.predicate["bounds"],
    }


def _stamp(folder: Path) -> Stamp:
    files = [(item.name, item.stat() if item.exists() else item.lstat()) for item in sorted(folder.iterdir())]
    return tuple((name, status.st_size, status.st_mtime_ns) for name, status in files)


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
    """Every file of a verified bundle by name; raises HallmarkError where one changed after it was verified."""
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
            raise HallmarkError(f"{name}: changed while the service started; start it again")
