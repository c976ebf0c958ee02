"""`python -m tests.supply.advisories [FILE]`: known weaknesses of what the locks name; exit 1 for one, 2 for no answer.

Without FILE pip-audit asks the OSV database over the internet about requirements.lock, as this machine would install it.
FILE has advisories in OSV's format (ossf.github.io/osv-schema): one, a list, `{"vulns": […]}`, or a zip archive of such
files, as OSV publishes them for PyPI; it is held against every pin of every lock, for whatever machine.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import zipfile
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, NamedTuple

from packaging.utils import canonicalize_name, canonicalize_version
from packaging.version import InvalidVersion, Version

from bundle.errors import HallmarkError
from tests.supply import ROOT, locked

#: What may happen to a range of versions at one of them.
EVENTS = ("introduced", "fixed", "last_affected")
#: Seconds that the database may take to answer about one package.
PATIENCE = 30


class AdvisoryError(HallmarkError):
    """Nothing can be said: the database did not answer, or the file has no advisories that could be read."""


class Finding(NamedTuple):
    """A locked package that an advisory is about."""

    package: str
    version: str
    advisory: str
    fixed: tuple[str, ...]

    def __str__(self) -> str:
        fixed = f"fixed in {', '.join(self.fixed)}" if self.fixed else "no fix is known"
        return f"{self.package} {self.version}: {self.advisory}, {fixed}"


def from_file(path: Path, pins: list[tuple[str, str]]) -> list[Finding]:
    """The findings of a file of advisories, sorted; raises AdvisoryError where one of them cannot be read."""
    known: dict[str, list[tuple[Mapping[str, Any], Mapping[str, Any]]]] = {}
    for advisory in _advisories(path):
        for affected in _affected(path, advisory):
            known.setdefault(canonicalize_name(affected["package"]["name"]), []).append((advisory, affected))
    return sorted(
        Finding(name, pin, advisory["id"], tuple(_fixes(affected)))
        for name, pin in pins
        for advisory, affected in known.get(name, ())
        if _hit(path, advisory, affected, pin)
    )


def _advisories(path: Path) -> Iterator[Mapping[str, Any]]:
    """Every advisory of a file that was not withdrawn."""
    try:
        if zipfile.is_zipfile(path):
            with zipfile.ZipFile(path) as archive:
                documents = [json.loads(archive.read(name)) for name in sorted(archive.namelist())]
        else:
            documents = [json.loads(path.read_bytes())]
    except (OSError, ValueError, zipfile.BadZipFile) as error:
        raise AdvisoryError(
            f"{path}: must be a JSON file of OSV advisories, or a zip archive of such: {error}"
        ) from None
    found = [item for document in documents for item in _listed(document)]
    if not found or not all(isinstance(item, Mapping) and isinstance(item.get("id"), str) for item in found):
        raise AdvisoryError(f"{path}: must hold OSV advisories, each with its id")
    return (item for item in found if "withdrawn" not in item)


def _listed(document: Any) -> list[Any]:
    if isinstance(document, Mapping) and "vulns" in document:
        document = document["vulns"]
    return document if isinstance(document, list) else [document]


def _affected(path: Path, advisory: Mapping[str, Any]) -> list[Mapping[str, Any]]:
    """The packages of PyPI that an advisory is about."""
    try:
        return [item for item in advisory.get("affected", ()) if item["package"]["ecosystem"] == "PyPI"]
    except (TypeError, KeyError):
        raise _unreadable(path, advisory) from None


def _hit(path: Path, advisory: Mapping[str, Any], affected: Mapping[str, Any], pin: str) -> bool:
    """OSV's own rule: the version is listed, or in one of the ranges."""
    try:
        listed = canonicalize_version(pin) in map(canonicalize_version, affected.get("versions", ()))
        ranges = [item["events"] for item in affected.get("ranges", ()) if item["type"] == "ECOSYSTEM"]
        return listed or any(_within(events, Version(pin)) for events in ranges)
    except (TypeError, AttributeError, KeyError, InvalidVersion):
        raise _unreadable(path, advisory) from None


def _within(events: list[Mapping[str, str]], pin: Version) -> bool:
    """Whether the last event up to a version leaves it affected; `last_affected` is affected itself."""
    affected = False
    for version, kind in sorted(
        (Version(at), kind) for event in events for kind, at in event.items() if kind in EVENTS
    ):
        if version < pin or (version == pin and kind != "last_affected"):
            affected = kind == "introduced"
    return affected


def _fixes(affected: Mapping[str, Any]) -> Iterator[str]:
    for item in affected.get("ranges", ()):
        yield from (event["fixed"] for event in item["events"] if "fixed" in event)


def _unreadable(path: Path, advisory: Mapping[str, Any]) -> AdvisoryError:
    return AdvisoryError(f"{path}: {advisory['id']} is not an advisory in OSV's format: its `affected` cannot be read")


def from_database(url: str | None = None) -> list[Finding]:
    """What pip-audit finds about requirements.lock; raises AdvisoryError where it gets no answer for each package."""
    command = [sys.executable, "-m", "pip_audit", "-r", "requirements.lock", "--disable-pip", "--require-hashes"]
    command += ["--vulnerability-service", "osv", "--format", "json", "--progress-spinner", "off"]
    command += ["--timeout", str(PATIENCE), *(["--osv-url", url] if url else [])]
    ran = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    try:
        packages = json.loads(ran.stdout)["dependencies"]
    except (ValueError, KeyError):
        reason = (ran.stderr.strip().splitlines() or ["it said nothing"])[-1]
        raise AdvisoryError(
            f"the advisory database cannot be reached ({reason[:300]}); ADVISORIES=file takes advisories in OSV's format"
        ) from None
    if skipped := [item["name"] for item in packages if "skip_reason" in item]:
        raise AdvisoryError(f"the advisory database was not asked about {', '.join(skipped)}")
    return sorted(
        Finding(item["name"], item["version"], found["id"], tuple(found["fix_versions"]))
        for item in packages
        for found in item["vulns"]
    )


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.supply.advisories")
    parser.add_argument("file", nargs="?", type=Path, help="advisories in OSV's format; without it, OSV is asked")
    parser.add_argument("--osv-url", help="another database that answers as OSV does")
    given = parser.parse_args(arguments)
    try:
        pins = locked()
        found = from_file(given.file, pins) if given.file else from_database(given.osv_url)
    except AdvisoryError as error:
        print(f"audit-deps: {error}", file=sys.stderr)
        return 2
    for finding in found:
        print(finding)
    print(f"{len(pins)} locked packages: {len(found)} known weaknesses")
    return 1 if found else 0


if __name__ == "__main__":
    sys.exit(main())
