"""What folders hold: to compare with those of an undisturbed run, to the byte and to the name."""

from __future__ import annotations

import shutil
from collections.abc import Iterable
from pathlib import Path

from bundle.digests import sha256_file
from tests.chaos.commands import Fault

#: Not looked at: git's and DVC's stores, and compiled code.
UNSEEN = {".git", "__pycache__", "cache"}


def names(*folders: Path) -> set[str]:
    """Every file and empty folder below, relative to its folder."""
    return {
        path.relative_to(folder).as_posix()
        for folder in folders
        for path in folder.rglob("*")
        if not UNSEEN & {*path.relative_to(folder).parts} and (not path.is_dir() or not any(path.iterdir()))
    }


def digests(folder: Path) -> dict[str, str]:
    """The SHA-256 of every file below."""
    return {path.relative_to(folder).as_posix(): sha256_file(path) for path in folder.rglob("*") if path.is_file()}


def require_same(folder: Path, undisturbed: Path, files: Iterable[str]) -> None:
    """Raises Fault where a file is not the one of the undisturbed run, to the byte."""
    for name in files:
        if sha256_file(folder / name) != sha256_file(undisturbed / name):
            raise Fault(f"{name}: is another than that of the undisturbed run")


def require_nothing_left(found: set[str], undisturbed: set[str]) -> None:
    """Raises Fault where there is a file that the undisturbed run does not leave."""
    if left := sorted(found - undisturbed):
        raise Fault(f"left behind: {', '.join(left[:10])}")


def require_kept(folder: Path, before: dict[str, str]) -> None:
    """Raises Fault where a file that was there is gone or another."""
    now = digests(folder)
    if lost := sorted(name for name, digest in before.items() if now.get(name) != digest):
        raise Fault(f"lost or changed: {', '.join(lost[:10])}")


def copy(source: Path, target: Path, leave_out: str = "") -> Path:
    """A copy of a folder, in place of what is there."""
    if target.exists():
        shutil.rmtree(target)
    return shutil.copytree(source, target, symlinks=True, ignore=shutil.ignore_patterns(leave_out))
