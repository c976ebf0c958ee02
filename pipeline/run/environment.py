"""What a run ran on and with: recorded in the attestation, and part of a checkpoint's identity.

Whose code measured: name, version, and the SHA-256 of its source, as the in-toto eval-result draft names a harness.
"""

from __future__ import annotations

import platform
import re
from functools import cache
from importlib.metadata import Distribution, PackageNotFoundError, PackagePath, distribution, version
from pathlib import Path
from typing import Any

from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

from bundle.command_line import DISTRIBUTION
from bundle.digests import sha256_file, sha256_tree

PACKAGES = (
    "torch",
    "torchvision",
    "lightning",
    "onnx",
    "onnxscript",
    "onnxruntime-gpu",
    "onnxruntime",
    "pyautoattack",
    "numpy",
    "scipy",
)
ROOT = Path(__file__).resolve().parents[2]
LOCK = ROOT / "requirements.lock"
#: A wheel for every machine, and its source.
FEW_FILES = 2


def source_digest() -> str:
    """SHA-256 over the code that makes a bundle: every file of pipeline/ and bundle/ but caches."""
    return code_digest("pipeline", "bundle")


def code_digest(*places: str) -> str:
    """SHA-256 over files, and every file of folders but caches, by their names from the root of the code."""
    parts = [ROOT / place for place in places]
    paths = [path for part in parts for path in (part.rglob("*") if part.is_dir() else [part])]
    return sha256_tree(ROOT, [path for path in paths if path.is_file() and "__pycache__" not in path.parts])


def lock_digest() -> str | None:
    """SHA-256 of requirements.lock; None where the code was installed without it."""
    return sha256_file(LOCK) if LOCK.exists() else None


def describe_environment(device: Any, threads: int) -> dict[str, Any]:
    """Versions, device and arithmetic; nothing that names a person, a folder or a time."""
    import torch

    described = {
        "python": platform.python_version(),
        "system": platform.system(),
        "machine": platform.machine(),
        "packages": {name: found for name in PACKAGES if (found := version_of(name)) is not None},
        "device": torch.cuda.get_device_name(device) if device.type == "cuda" else "CPU",
        "cpu_instructions": torch.backends.cpu.get_cpu_capability(),
        "threads": threads,
        "tf32": False,
        "lock_sha256": lock_digest(),
    }
    return described


def version_of(package: str) -> str | None:
    """The installed version of a package; None where it is absent or was copied without its metadata."""
    try:
        return version(package)
    except PackageNotFoundError:
        return None


def installed_packages() -> list[dict[str, Any]]:
    """All that Hallmark's pipeline needs, as it is installed here: `name`, `version` and perhaps `sha256`, by name.

    `sha256` lists the files that requirements.lock allows for a package, where these are a wheel for every machine and
    its source: of many wheels nobody can tell afterwards which was installed. What else is installed is left out, so
    that it changes no attestation. Empty where Hallmark was copied without its metadata.
    """
    locked = _locked_files()
    found = [(name, installed) for name in sorted(_needed()) if (installed := version_of(name)) is not None]
    return [
        {"name": name, "version": installed, **({"sha256": files} if 0 < len(files) <= FEW_FILES else {})}
        for name, installed in found
        for files in [locked.get((name, installed), [])]
    ]


def _needed() -> set[str]:
    """The names that the extra `pipeline` requires on this machine, directly or through others."""
    names, seen, todo = set[str](), set[tuple[str, str]](), {(DISTRIBUTION, "pipeline")}
    while todo:
        seen.add(package := todo.pop())
        for requirement in _requirements(*package):
            names.add(name := canonicalize_name(requirement.name))
            todo |= {(name, extra) for extra in ("", *requirement.extras)} - seen
    return names


def _requirements(package: str, extra: str) -> list[Requirement]:
    """What an installed package with an extra (`""` for none) requires on this machine; of an absent one, nothing."""
    try:
        required = [Requirement(line) for line in distribution(package).requires or ()]
    except PackageNotFoundError:
        return []
    return [item for item in required if item.marker is None or item.marker.evaluate({"extra": extra})]


def _locked_files() -> dict[tuple[str, str], list[str]]:
    """The SHA-256 of the files that requirements.lock allows, by name and version; empty where there is no lock."""
    text = LOCK.read_text(encoding="utf-8") if LOCK.exists() else ""
    pins = re.findall(r"^([a-z0-9][a-z0-9-]*)==(\S+)((?:.*\\\n)*.*)", text, re.MULTILINE)
    return {(name, pin): re.findall("sha256:([0-9a-f]{64})", rest) for name, pin, rest in pins}


NAME = "hallmark"
#: Of Hallmark's own measurements: raised where their meaning changes.
VERSION = "1"
#: What each kind of measurement consists of. The stage that measures depends on all of it in dvc.yaml, so that the
#: digest is the same whether the stage ran now or before a change elsewhere.
PLACES = {
    "attacks": (
        "pipeline/attacks",
        "pipeline/evaluation/tiers.py",
        "bundle/square",
        "bundle/table/threats.py",
    ),
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
    if package is None or package.name == DISTRIBUTION:
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
