"""BentoML's model store: bundles in it are read by the layout of its folders, without BentoML, and written with it.

A store is `$BENTOML_HOME/models` (by default ~/bentoml/models): NAME/VERSION/ holds model.yaml and what was saved. A
bundle lies there in the folder `bundle`, since a bundle's file set is exact.
"""
# pyright: reportMissingImports=false

from __future__ import annotations

import importlib
import importlib.util
import os
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from bundle.bundle import copy_bundle
from bundle.errors import HallmarkError
from bundle.layout import ATTESTATION
from bundle.pages.headline import LONGEST_NAME

FOLDER = "bundle"


@dataclass(frozen=True)
class Stored:
    """A bundle in the store: its BentoML tag NAME:VERSION, and the bundle's folder."""

    tag: str
    folder: Path


def store_root() -> Path:
    """Where BentoML keeps models; the folder need not be there."""
    home = os.environ.get("BENTOML_HOME") or str(Path.home() / "bentoml")
    return Path(os.path.expandvars(home)).expanduser() / "models"


def stored_bundles() -> list[Stored]:
    """Every bundle in the store, by name and version; empty where there is no store."""
    found = sorted(store_root().glob(f"*/*/{FOLDER}/{ATTESTATION}"))
    folders = [path.parent for path in found]
    return [Stored(f"{path.parent.parent.name}:{path.parent.name}", path) for path in folders]


def check_store(tag: str) -> None:
    """Raises HallmarkError where BentoML is missing, the tag is not one, or the store holds it already."""
    if importlib.util.find_spec("bentoml") is None:
        raise HallmarkError("BentoML is not installed, so there is no model store: pip install 'hallmark[serving]'")
    for part in tag.split(":"):
        if not re.fullmatch(r"[a-z0-9]([a-z0-9._-]*[a-z0-9])?", part) or len(part) > LONGEST_NAME:
            raise HallmarkError(
                f"{part}: is no name for BentoML's store: lower-case letters, digits, '-', '_' and '.' inside, "
                f"{LONGEST_NAME} characters at most"
            )
    if (store_root() / tag.replace(":", "/")).exists():
        raise HallmarkError(f"{tag}: is in BentoML's model store already; `bentoml models delete {tag}` takes it out")


def put(bundle: Path, tag: str, labels: Mapping[str, str]) -> Stored:
    """Copies a bundle's files into the store; raises HallmarkError where BentoML refuses it."""
    bentoml: Any = importlib.import_module("bentoml")
    try:
        with bentoml.models.create(tag, labels=dict(labels)) as model:
            copy_bundle(bundle, Path(model.path_of(FOLDER)))
    except bentoml.exceptions.BentoMLException as error:
        raise HallmarkError(f"{tag}: BentoML did not take it: {error}") from None
    return Stored(tag, store_root() / tag.replace(":", "/") / FOLDER)


def remove(tag: str) -> None:
    """Takes a bundle out of the store again."""
    bentoml: Any = importlib.import_module("bentoml")
    bentoml.models.delete(tag)
