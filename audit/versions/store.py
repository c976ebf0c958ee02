"""BentoML's model store: bundles in it are read by the layout of its folders, without BentoML, and written with it.

A store is `$BENTOML_HOME/models` (by default ~/bentoml/models): NAME/VERSION/ holds model.yaml and what was saved. A
bundle lies there in the folder `bundle`, since a bundle's file set is exact.
"""

from __future__ import annotations

import importlib.util
import json
import re
import subprocess
import sys
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from audit.verification import same_signature
from bundle.bento_home import MODELS, bento_home, item_folder, move_in, private_home, working_in
from bundle.bundle import Bundle, open_bundle
from bundle.command_line import DISTRIBUTION
from bundle.digests import remove_folder
from bundle.errors import HallmarkError
from bundle.folder import copy_bundle
from bundle.formats.yaml12 import read
from bundle.layout import ATTESTATION
from bundle.pages.headline import LONGEST_NAME, FolderError, folders_in

FOLDER = "bundle"
#: Has BentoML describe a model with these labels; only it knows how.
DESCRIBE = """
import json, sys
import bentoml

with bentoml.models.create(sys.argv[1], labels=json.loads(sys.argv[2])):
    pass
"""


@dataclass(frozen=True)
class Stored:
    """A bundle in the store: its BentoML tag NAME:VERSION, and the bundle's folder."""

    tag: str
    folder: Path


def stored_bundles() -> list[Stored]:
    """Every bundle in the store, by name and version; empty where there is no store.

    What cannot be looked at is one of them, and says so when it is read. Raises FolderError where the store cannot be.
    """
    return [stored for name in folders_in(bento_home() / MODELS) for stored in _of_model(name)]


def _of_model(name: Path) -> list[Stored]:
    try:
        versions = folders_in(name)
    except FolderError:
        return [Stored(name.name, name)]
    return [Stored(f"{name.name}:{item.name}", item / FOLDER) for item in versions if _may_hold_bundle(item)]


def _may_hold_bundle(version: Path) -> bool:
    """Other models are in the store too; one that may not be looked into may be a bundle."""
    try:
        (version / FOLDER / ATTESTATION).lstat()
    except (FileNotFoundError, NotADirectoryError):
        return False
    except OSError:
        pass
    return True


def check_store(tag: str) -> None:
    """Raises HallmarkError where BentoML is missing, or the tag is not one."""
    if importlib.util.find_spec("bentoml") is None:
        raise HallmarkError(
            f"BentoML is not installed, so there is no model store: pip install '{DISTRIBUTION}[serving]'"
        )
    for part in tag.split(":"):
        if not re.fullmatch(r"[a-z0-9]([a-z0-9._-]*[a-z0-9])?", part) or len(part) > LONGEST_NAME:
            raise HallmarkError(
                f"{part}: is no name for BentoML's store: lower-case letters, digits, '-', '_' and '.' inside, "
                f"{LONGEST_NAME} characters at most"
            )


def find(tag: str, bundle: Bundle, labels: Mapping[str, str]) -> Stored | None:
    """What a release that was killed before its git tag left under this tag: this bundle, so signed and labelled.

    None where the store has nothing; raises HallmarkError where it has anything else.
    """
    folder = item_folder(MODELS, tag)
    if not folder.exists():
        return None
    try:
        kept, said = open_bundle(folder / FOLDER), read(folder / "model.yaml")
    except (HallmarkError, OSError):
        kept, said = None, None
    same = (
        kept is not None
        and kept.statement_bytes == bundle.statement_bytes
        and same_signature(kept.envelope, bundle.envelope, bundle.statement_bytes)
    )
    if not same or not isinstance(said, dict) or said.get("labels") != dict(labels):
        raise _taken(tag)
    return Stored(tag, folder / FOLDER)


def put(bundle: Path, tag: str, labels: Mapping[str, str]) -> Stored:
    """Copies a bundle's files into the store, whole or not at all.

    Raises HallmarkError where BentoML refuses it, or has something of this tag meanwhile.
    """
    with private_home(tag) as home:
        _describe(tag, labels, home)
        copy_bundle(bundle, item_folder(MODELS, tag, home) / FOLDER)
        try:
            return Stored(tag, move_in(home, MODELS, tag) / FOLDER)
        except FileExistsError:
            raise _taken(tag) from None


def remove(tag: str) -> None:
    """Takes a bundle out of the store again."""
    folder = item_folder(MODELS, tag)
    remove_folder(folder)
    (folder.parent / "latest").unlink(missing_ok=True)  # BentoML makes it again
    with suppress(OSError):  # it has other versions
        folder.parent.rmdir()


def _describe(tag: str, labels: Mapping[str, str], home: Path) -> None:
    """A model without files in a private home."""
    # -P: what lies in the working folder is not imported.
    command = [sys.executable, "-P", "-c", DESCRIBE, tag, json.dumps(dict(labels))]
    ended = subprocess.run(
        command, env=working_in(home), capture_output=True, encoding="utf-8", errors="replace", check=False
    )
    if ended.returncode:
        reason = (ended.stderr.strip() or "it does not say why").splitlines()[-1]
        raise HallmarkError(f"{tag}: BentoML did not take it: {reason}")


def _taken(tag: str) -> HallmarkError:
    return HallmarkError(f"{tag}: is in BentoML's model store already; `bentoml models delete {tag}` takes it out")
