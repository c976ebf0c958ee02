"""The versions at hand: bundles in folders and in BentoML's model store, attestations in git's tags and branches.

The numbers of a statement that lists, gates and histories need, by name.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from audit.verification import signature_state
from audit.versions.history import Committed, committed_attestations
from audit.versions.store import Stored, stored_bundles
from bundle.attestation import model_digest, read_statement
from bundle.bento_home import MODELS, bento_home
from bundle.bundle import Bundle, open_bundle
from bundle.digests import sha256_bytes
from bundle.errors import HallmarkError
from bundle.folder import check_plain
from bundle.git import GitError
from bundle.layout import ATTESTATION, read_bounded
from bundle.numbers.claims import find_claim
from bundle.pages.headline import FolderError, attack_names, check_claimed, folders_in, headline, headline_threat
from bundle.signatures import SignatureError
from bundle.table.columns import check_extent
from bundle.table.outcomes import SETTINGS, OutcomeError
from bundle.table.plan import TablePlanError, check_plan

BUNDLE = Path("out/bundle")
RELEASES = Path("releases")
SHORTEST_PREFIX = 4
#: Kinds of places that hold many versions.
SOURCES = ("releases", "store", "git")

#: Which signature is told of when one attestation lies in several places: the one that says most.
RANK = ("attestation only", "unsigned", "unchecked", "signed", "invalid")


@dataclass(frozen=True)
class Place:
    """Where an attestation was found: kind `folder`, `bentoml`, `tag`, `branch`, `commit` or `url`, and its path or name.

    One of SOURCES is a repository, a folder of releases or BentoML's store that could not be read.
    """

    kind: str
    name: str

    def __str__(self) -> str:
        return self.name if self.kind == "folder" else f"{self.kind} {self.name}"


@dataclass(frozen=True)
class Version:
    """One attestation with all its places, or one place that is refused.

    `attestation` is the SHA-256 of attestation.json, the attestation's identity. `signature` is one of RANK, where
    `attestation only` means that neither files nor claims could be checked; `key_id` names the signing key, `signed_at`
    says when by its word; `refusal` is the sentence that says why a bundle does not verify, or why its signature is
    invalid. `folder` holds the whole bundle, with that signature; None where the attestation alone is at hand.
    """

    places: tuple[Place, ...]
    attestation: str | None = None
    statement: Mapping[str, Any] | None = None
    signature: str = "unsigned"
    key_id: str | None = None
    refusal: str | None = None
    folder: Path | None = None
    signed_at: str | None = None

    def describe(self) -> dict[str, Any]:
        """The version as a JSON document: its headline numbers and where they come from."""
        return {
            "attestation": self.attestation,
            "places": [{"kind": place.kind, "name": place.name} for place in self.places],
            "signature": self.signature,
            "keyId": self.key_id,
            "signedAt": self.signed_at,
            "refusal": self.refusal,
            "headline": headline(self.statement) if self.statement else None,
            "autoattack": autoattack(self.statement["predicate"]) if self.statement else None,
            "proved": served_bounds(self.statement["predicate"]) if self.statement else [],
        }


def list_versions(
    bundles: Sequence[Path] = (BUNDLE,), releases: Path = RELEASES, trusted: Sequence[Path] = (), root: Path = Path()
) -> list[Version]:
    """Every version at hand, one an attestation; folders first, then BentoML's model store, git's tags and branches.

    `bundles` are bundle folders (out/bundle may be missing), `releases` a folder of such folders. A bundle that does not
    verify is in the list with its refusal, and so is git where it cannot be read. `root` is the folder whose repository
    is asked.
    """
    folders = [path for path in bundles if path != BUNDLE or os.path.lexists(path)]
    found = [
        *(read_folder(path, trusted) for path in folders),
        *_source("releases", releases, lambda: [read_folder(path, trusted) for path in folders_in(releases)]),
        *_source("store", bento_home() / MODELS, lambda: [_read_stored(item, trusted) for item in stored_bundles()]),
        *_source("git", root, lambda: list(map(read_committed, committed_attestations(root)))),
    ]
    return _merge(found)


def _source(kind: str, path: Path, read: Callable[[], list[Version]]) -> list[Version]:
    """The versions that one source has; where nobody can tell, one row that says so."""
    try:
        return read()
    except (FolderError, GitError) as error:
        return [Version((Place(kind, str(path)),), refusal=str(error))]


def _read_stored(item: Stored, trusted: Sequence[Path]) -> Version:
    return _read_place(Place("bentoml", item.tag), item.folder, trusted)


def hidden(versions: Sequence[Version]) -> list[str]:
    """Why some versions may not be in a list: a sentence for each source that could not be read."""
    return [str(version.refusal) for version in versions if version.places[0].kind in SOURCES]


def read_folder(path: Path, trusted: Sequence[Path] = ()) -> Version:
    """The version in one folder; a folder that holds attestation.json alone, as a fresh clone does, is read as such."""
    return _read_place(Place("folder", path.as_posix()), path, trusted)


def open_version(name: str, versions: Callable[[], Sequence[Version]] = list_versions) -> Bundle:
    """The verified bundle of a folder, or of the version at hand with this tag or digest; see find_version.

    Raises HallmarkError where git alone has it, which has no evidence, and what open_bundle raises.
    """
    if Path(name).is_dir():
        return open_bundle(name)
    version = find_version(name, versions())
    if version.folder is None:
        raise HallmarkError(
            f"{name}: {version.refusal or 'only its attestation is at hand, not its bundle'}; "
            "give the folder of its bundle, or --releases with the folder that holds it"
        )
    return open_bundle(version.folder)


def _read_place(place: Place, path: Path, trusted: Sequence[Path]) -> Version:
    def read() -> Version:
        if [item.name for item in path.iterdir()] == [ATTESTATION]:
            check_plain(path / ATTESTATION)
            return _attestation_only(place, read_bounded(path / ATTESTATION))
        bundle = open_bundle(path)
        version = Version((place,), sha256_bytes(bundle.statement_bytes), bundle.statement, folder=path)
        try:
            signature = signature_state(bundle, trusted)
        except SignatureError as error:
            return replace(version, signature="invalid", refusal=str(error))
        return replace(version, signature=signature.state, key_id=signature.key_id, signed_at=signature.signed_at)

    return _row(place, read)


def _row(place: Place, read: Callable[[], Version]) -> Version:
    """What `read` finds: a version whose numbers can be told, or one row that says why it is none."""
    try:
        version = read()
        version.describe()
        return version
    except HallmarkError as error:
        refusal = str(error)
    except OSError as error:
        refusal = f"{place.name}: cannot be read ({error.strerror})"
    except Exception as error:  # whatever is wrong with one version, the others are listed
        refusal = f"{place.name}: cannot be read ({type(error).__name__}: {error})"
    return Version((place,), refusal=refusal)


def find_version(name: str, versions: Sequence[Version]) -> Version:
    """The version with this folder, tag or branch, or whose model's or attestation's SHA-256 starts with `name`.

    Raises HallmarkError where there is none, or more than one.
    """
    by_place = [version for version in versions if any(place.name == name for place in version.places)]
    matching = by_place or [version for version in versions if _has_prefix(version, name)]
    if not matching:
        sentence = f"{name}: no version at hand has this folder, tag or digest; `hallmark versions` lists them"
        raise HallmarkError("; ".join([sentence, *hidden(versions)]))
    if len(matching) > 1:
        candidates = ", ".join(f"{(version.attestation or '?')[:12]} ({version.places[0]})" for version in matching)
        raise HallmarkError(f"{name}: means more than one version; give more digits of an attestation: {candidates}")
    return matching[0]


def _has_prefix(version: Version, name: str) -> bool:
    if version.statement is None or version.attestation is None or len(name) < SHORTEST_PREFIX:
        return False
    return model_digest(version.statement).startswith(name) or version.attestation.startswith(name)


def read_committed(item: Committed) -> Version:
    """The version of a tag or branch; refused where git does not have the bytes, or too many."""
    place = Place(item.kind, item.name)
    if item.content is None:
        return Version((place,), refusal=item.refusal)
    return read_attestation(place, item.content)


def read_attestation(place: Place, content: bytes) -> Version:
    """The version of an attestation's bytes alone, without evidence; refused where they are not one."""
    return _row(place, lambda: _attestation_only(place, content))


def _attestation_only(place: Place, content: bytes) -> Version:
    statement = read_statement(content, ATTESTATION)
    try:
        check_extent(statement["predicate"])
        check_plan(statement["predicate"])
        check_claimed(statement["predicate"])
    except (TablePlanError, OutcomeError) as error:
        raise HallmarkError(f"{ATTESTATION}: {str(error).removeprefix(f'{ATTESTATION}: ')}") from None
    return Version((place,), sha256_bytes(content), statement, signature="attestation only")


def _merge(found: Sequence[Version]) -> list[Version]:
    """Puts the places of one attestation together; what was refused stays by itself."""
    merged: dict[object, Version] = {}
    for version in found:
        key = version.places if version.refusal else version.attestation
        known = merged.get(key)
        if known is None:
            merged[key] = version
            continue
        best = max((known, version), key=lambda item: RANK.index(item.signature))
        merged[key] = replace(best, places=(*known.places, *version.places))
    return list(merged.values())


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
