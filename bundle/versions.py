"""What a version comes to: the handful of numbers that stand in a list of versions."""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from bundle.attestation import model_digest, model_version
from bundle.claims import ALL_ATTACKS, find_claim
from bundle.errors import HallmarkError
from bundle.headline import headline_bound, headline_threat
from bundle.outcomes import SETTINGS
from bundle.threats import RADIUS_FIELD

SHARE_FIELDS = ("value", "correct", "sampleSize", "interval")
#: Characters of a name in BentoML's stores.
LONGEST_NAME = 63


class FolderError(HallmarkError):
    """A folder of versions is there and cannot be looked at, so that nobody can tell what it holds."""


def folders_in(path: Path) -> list[Path]:
    """The folders in a folder of versions, by name, hidden ones left out; [] where there is nothing of its name.

    A link to nothing is one too: a version is missing there. Raises FolderError where `path` cannot be read.
    """
    try:
        found = [item for item in path.iterdir() if not item.name.startswith(".")]
        return sorted(item for item in found if item.is_dir() or (item.is_symlink() and not item.exists()))
    except OSError as error:
        if isinstance(error, FileNotFoundError) and not path.is_symlink():
            return []
        raise FolderError(f"{path}: cannot be read as a folder of versions ({error.strerror})") from None


def headline(statement: Mapping[str, Any]) -> dict[str, Any]:
    """The headline numbers of a statement that met the schema.

    Returns
    -------
    `version`, `digest` (of model.onnx), `data`, `method` (its title), `n` (images), `tier`;
    `reliable`: false where a sanity check failed, so that the truth may be much worse;
    `clean`: by setting; `robust`: `threat`, `eps_255` (for l2 and l1 `eps`), and by setting the share right under every
    attack of the headline's threat; `certified`: `classifier`, `radius` and share of the headline's bound, or None;
    `flags`: warnings of attacks and sanity checks that failed, each with where it comes from.
    A share is a dict with `value`, `correct`, `sampleSize` and `interval`; None where the statement does not claim it.
    """
    predicate = statement["predicate"]
    digest, threat = model_digest(statement), headline_threat(predicate)
    keys = {"threat": threat["name"], "attack": ALL_ATTACKS}
    return {
        "version": model_version(digest),
        "digest": digest,
        "data": predicate["data"]["name"],
        "method": predicate["method"]["title"],
        "n": predicate["sample"]["size"],
        "tier": predicate["tier"],
        "reliable": predicate["reliable"],
        "clean": {name: _share(find_claim(predicate, "clean_accuracy", setting=name)) for name in SETTINGS},
        "robust": {"threat": threat["name"], RADIUS_FIELD[threat["norm"]]: threat[RADIUS_FIELD[threat["norm"]]]}
        | {name: _share(find_claim(predicate, "robust_accuracy", setting=name, **keys)) for name in SETTINGS},
        "certified": _certified(predicate),
        "flags": _flags(predicate),
    }


def store_name(predicate: Mapping[str, Any]) -> str:
    """The name that a bundle has in BentoML's stores: `hallmark-<data>-<method>`, in the characters that they admit."""
    name = f"hallmark-{predicate['data']['name']}-{predicate['method']['name']}".lower()
    return re.sub("[^a-z0-9._-]+", "-", name)[:LONGEST_NAME].strip("._-")


def _share(claim: Mapping[str, Any] | None) -> dict[str, Any] | None:
    return None if claim is None else {field: claim[field] for field in SHARE_FIELDS if field in claim}


def _certified(predicate: Mapping[str, Any]) -> dict[str, Any] | None:
    bound = headline_bound(predicate)
    return bound and {field: bound[field] for field in ("classifier", "radius", *SHARE_FIELDS)}


def _flags(predicate: Mapping[str, Any]) -> list[str]:
    attacks = [f"{item['threat']}/{item['name']}: {flag}" for item in predicate["attacks"] for flag in item["flags"]]
    sanity = [f"sanity: {item['check']} failed" for item in predicate["sanity"] if not item["passed"]]
    return attacks + sanity
