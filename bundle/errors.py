"""What every room raises for people: one clear sentence, no traceback."""

from __future__ import annotations

import errno
import os
import re
import shutil
from pathlib import Path

#: What the system says where nothing more can be written: the disk, a quota or a limit of a file's size is reached.
FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)

#: Controls, and what turns the direction of writing: in a name out of a stranger's file they would rewrite the line, or the
#: log, that a sentence is shown in. Half a surrogate pair has no encoding at all.
_CONTROLS = re.compile("[\x00-\x09\x0b-\x1f\x7f-\x9f\u2028-\u202e\u2066-\u2069\ud800-\udfff]")


class HallmarkError(Exception):
    """Something that a person can put right; the message says what, where, and what would be right.

    As text it has no control characters but its own line breaks: others are escaped as in Python. A subclass is for what
    somebody catches by name.
    """

    def __str__(self) -> str:
        return _CONTROLS.sub(lambda found: found[0].encode("unicode_escape").decode("ascii"), super().__str__())


class FullDiskError(HallmarkError):
    """There is no room for a file; what was there before is as it was."""


def is_full(error: BaseException | None) -> bool:
    """Whether an error, or one that it came of, says that a disk is full: libraries wrap what their file raised."""
    while error is not None:
        if isinstance(error, OSError) and error.errno in FULL:
            return True
        error = error.__cause__ or (None if error.__suppress_context__ else error.__context__)
    return False


def full_disk(path: Path, size: int | None = None) -> FullDiskError:
    """What is said where `size` bytes (None: not known before) cannot be written to `path`."""
    there = next(folder for folder in (path.parent, *path.resolve().parents) if folder.is_dir())
    needed = "" if size is None else f"{_megabytes(size)} to write, "
    free = _megabytes(shutil.disk_usage(there).free)
    return FullDiskError(f"{path}: cannot be written, the disk is full ({needed}{free} free); make room and try again")


def sentence(error: BaseException) -> str | None:
    """What a person is told of an error that the system raises and nobody foresaw; None where it is a fault of the code."""
    if isinstance(error, HallmarkError):
        return str(error)
    if isinstance(error, OSError):
        named = os.fsdecode(error.filename) if isinstance(error.filename, str | bytes) else None
        if is_full(error):
            return str(full_disk(Path(named))) if named else "the disk is full; make room and try again"
        return f"{named or 'a file'}: {error.strerror or error}"
    if isinstance(error, MemoryError):
        said = " ".join(str(error).split())
        return f"there is not enough memory{f' ({said})' if said else ''}"
    if isinstance(error, RecursionError):
        return "the input is nested too deeply"
    return None


def _megabytes(size: int) -> str:
    return f"{size / 1e6:.2f} MB"
