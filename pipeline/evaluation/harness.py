"""Whose code measured: name, version, and the SHA-256 of its source, as the in-toto eval-result draft names a harness."""

from __future__ import annotations

from functools import cache
from importlib.metadata import Distribution, PackageNotFoundError, PackagePath, distribution
from pathlib import Path
from typing import Any

from bundle.digests import sha256_tree
from pipeline.environment import code_digest

NAME = "hallmark"
#: Of Hallmark's own measurements: raised where their meaning changes.
VERSION = "1"
#: What each kind of measurement consists of. The stage that measures depends on all of it in dvc.yaml, so that the
#: digest is the same whether the stage ran now or before a change elsewhere.
PLACES = {
    "attacks": ("pipeline/attacks", "pipeline/evaluation/jobs.py", "bundle/square.py", "bundle/threats.py"),
    "corruptions": ("bundle/corruptions",),
    "proofs": ("pipeline/certification",),
}


def own_harness(kind: str) -> dict[str, Any]:
    """Hallmark's own code for a kind of PLACES."""
    return {"name": NAME, "version": VERSION, "digest": {"sha256": _own_digest(kind)}}


def package_harness(name: str) -> dict[str, Any]:
    """An installed package; its digest is left out where its files are not known, as of an editable installation."""
    try:
        package = distribution(name)
    except PackageNotFoundError:
        return {"name": name, "version": "unknown"}
    digest = _package_digest(package.name)
    return {"name": package.name, "version": package.version, **({"digest": {"sha256": digest}} if digest else {})}


def plugin_harness(package: Distribution | None) -> dict[str, Any]:
    """The package that an attack's entry point comes with, which may be Hallmark."""
    if package is None or package.name == NAME:
        return own_harness("attacks")
    return package_harness(package.name)


@cache  # one run is of one code, whoever edits it meanwhile
def _own_digest(kind: str) -> str:
    return code_digest(*PLACES[kind])


@cache
def _package_digest(name: str) -> str | None:
    """SHA-256 over the installed files of a package and their names, without what an installer writes beside them."""
    package = distribution(name)
    files = [Path(str(package.locate_file(file))) for file in package.files or [] if _is_code(file)]
    return sha256_tree(Path(str(package.locate_file(""))), files) if files else None


def _is_code(file: PackagePath) -> bool:
    apart = {"..", "__pycache__"} & {*file.parts} or file.parts[0].endswith((".dist-info", ".egg-info"))
    return not apart and not file.name.startswith("__editable__") and file.suffix != ".pth"
