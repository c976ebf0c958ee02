"""Temporary files and folders: locked while their process lives, swept away by the next writer where it was killed.

The system ends a lock with its process, however that ends. A process number in the name would not tell: it may be
another's by then, or of another container.
"""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Callable, Generator
from contextlib import contextmanager, suppress
from pathlib import Path

try:
    import fcntl
except ImportError:  # Windows, which renames no open file either
    fcntl = None


@contextmanager
def temporary_file(folder: Path, target: str) -> Generator[Path]:
    """An empty file in `folder` on the way to the name `target`: its owner's alone, gone at the end if it still is there."""

    def made() -> tuple[Path, int | None]:
        handle, name = tempfile.mkstemp(dir=folder, prefix=_mark(target), suffix=Path(target).suffix)
        if fcntl is None:
            os.close(handle)
            return Path(name), None
        return Path(name), handle

    _sweep_all(folder, _mark(target))
    with _locked(made) as path:
        try:
            yield path
        finally:
            path.unlink(missing_ok=True)


@contextmanager
def temporary_folder(folder: Path, target: str, *, hidden: bool = True) -> Generator[Path]:
    """The same for a folder; some programs work in none that is hidden."""
    mark = _mark(target, hidden=hidden)

    def made() -> tuple[Path, int | None]:
        path = Path(tempfile.mkdtemp(dir=folder, prefix=mark))
        with suppress(OSError):  # Windows opens no folder
            return path, os.open(path, os.O_RDONLY)
        return path, None

    _sweep_all(folder, mark)
    with _locked(made) as path:
        try:
            yield path
        finally:
            shutil.rmtree(path, ignore_errors=True)


def _mark(target: str, *, hidden: bool = True) -> str:
    """How the names of temporary files and folders on the way to `target` begin."""
    return f"{'.' if hidden else ''}{target}.part-"


def _sweep_all(folder: Path, mark: str) -> None:
    """Takes away what killed processes left in `folder`; what a living one writes has its lock."""
    if fcntl is None:
        return
    with suppress(OSError), os.scandir(folder) as entries:
        for path in [Path(entry.path) for entry in entries if entry.name.startswith(mark)]:
            with suppress(OSError):
                _sweep(path)


@contextmanager
def _locked(made: Callable[[], tuple[Path, int | None]]) -> Generator[Path]:
    """What was made, with its lock: made again where somebody swept it away before it had one."""
    path, handle = made()
    try:
        while not _lock(path, handle):
            _close(handle)
            path, handle = made()
        yield path
    finally:
        _close(handle)


def _lock(path: Path, handle: int | None) -> bool:
    """Whether the path, now locked, still is there. Where a file system has no locks, nothing is swept away."""
    if fcntl is None or handle is None:
        return True
    with suppress(OSError):
        fcntl.flock(handle, fcntl.LOCK_EX)
    return _is_at(path, handle)


def _close(handle: int | None) -> None:
    if handle is not None:
        os.close(handle)


def _is_at(path: Path, handle: int) -> bool:
    """Whether the open file still has this name."""
    try:
        return os.path.samestat(path.lstat(), os.fstat(handle))
    except FileNotFoundError:
        return False


def _sweep(path: Path) -> None:
    """Removes a file or folder that nobody has locked; raises OSError where it is in use, or another's."""
    assert fcntl is not None
    handle = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK)
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        if not _is_at(path, handle):  # renamed to its target meanwhile
            return
        if path.is_dir():
            shutil.rmtree(path, ignore_errors=True)
        else:
            path.unlink()
    finally:
        os.close(handle)
