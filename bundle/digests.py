"""SHA-256, JSON that is the same to the byte everywhere, and files that are whole or absent."""

from __future__ import annotations

import errno
import hashlib
import json
import os
from collections.abc import Callable, Generator
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from typing import Any

from bundle.errors import HallmarkError, full_disk, is_full
from bundle.temporaries import temporary_file, temporary_folder


def sha256_bytes(content: bytes) -> str:
    """The SHA-256 of some bytes, as 64 hexadecimal digits."""
    return hashlib.sha256(content).hexdigest()


def sha256_file(path: str | Path) -> str:
    """The SHA-256 of a file's content, as 64 hexadecimal digits."""
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def sha256_tree(root: Path, files: list[Path]) -> str:
    """One digest over files and their names relative to `root`: the SHA-256 of lines `digest  name`, sorted by name."""
    names = sorted((file.relative_to(root).as_posix(), file) for file in files)
    return sha256_bytes("".join(f"{sha256_file(file)}  {name}\n" for name, file in names).encode())


def canonical_json(document: Any) -> bytes:
    """JSON with sorted keys, two spaces of indent, UTF-8 and a final newline; raises ValueError on NaN and infinity."""
    text = json.dumps(document, sort_keys=True, indent=2, ensure_ascii=False, allow_nan=False)
    return (text + "\n").encode()


def each_once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    """A JSON object whose names are each there once, as json's `object_pairs_hook`; raises ValueError.

    Of two, a reader would see one and the parser take the other.
    """
    found: dict[str, Any] = {}
    for name, value in pairs:
        if name in found:
            raise ValueError(f"{name} is there twice")
        found[name] = value
    return found


def write_whole(
    path: str | Path,
    content: bytes | Callable[[Path], None],
    mode: int = 0o644,
    *,
    new: bool = False,
    aside: Path | None = None,
) -> None:
    """Writes bytes (or lets `content` write a temporary path), then renames: a kill leaves the old file or the new.

    The temporary file that a kill leaves too is taken away by whoever writes the same file next.

    Parameters
    ----------
    mode : the file's permissions. The temporary file is its owner's alone from the start, so that a private key is at
        no time open to others.
    new : raises FileExistsError where the name is taken, also by another process in the same instant.
    aside : the folder of the temporary file, by default the file's own. A bundle's set of files is exact, and a kill
        may leave a temporary one; a folder of another mount, or that cannot be written to, is not used.

    When it returns, content and name are on the disk. Raises FullDiskError where there is no room.
    """
    path = Path(path)
    with _room_for(path, len(content) if isinstance(content, bytes) else None):
        path.parent.mkdir(parents=True, exist_ok=True)
        _write(path, content, mode, new=new, aside=aside)


def _write(path: Path, content: bytes | Callable[[Path], None], mode: int, *, new: bool, aside: Path | None) -> None:
    try:
        with _temporary(path, aside) as temporary:
            if isinstance(content, bytes):
                temporary.write_bytes(content)
            else:
                content(temporary)
            temporary.chmod(mode)
            sync(temporary)
            (_take if new else os.replace)(temporary, path)
            sync(path.parent)
    except OSError as error:
        if aside is None or error.errno != errno.EXDEV:
            raise
        _write(path, content, mode, new=new, aside=None)


@contextmanager
def _room_for(path: Path, size: int | None = None) -> Generator[None]:
    """Says of a full disk which file has no room, and how much it takes, whatever a library makes of the error."""
    try:
        yield
    except Exception as error:  # libraries wrap the system's error in their own; all others go on as they came
        if not isinstance(error, HallmarkError) and is_full(error):
            raise full_disk(path, size) from None
        raise


@contextmanager
def whole_folder(target: Path, mode: int = 0o755) -> Generator[Path]:
    """A new folder to write in, which becomes `target` at the end, or is gone where something went wrong.

    An empty folder makes way for it; raises FileExistsError where anything else is there.
    """
    with _room_for(target):
        target.parent.mkdir(parents=True, exist_ok=True)
        with temporary_folder(target.parent, target.name) as folder:
            yield folder
            folder.chmod(mode)
            sync(folder)
            move_folder(folder, target)
            sync(target.parent)


def sync(path: Path) -> None:
    """Has the system put a file's content, or a folder's names, on the disk."""
    try:
        opened = os.open(path, os.O_RDONLY)
    except OSError:  # a folder that may be written to and not read; Windows opens none
        return
    try:
        os.fsync(opened)
    except OSError as error:
        if error.errno not in (errno.EINVAL, errno.ENOTSUP):  # some shared folders sync nothing by name
            raise
    finally:
        os.close(opened)


@contextmanager
def _temporary(path: Path, aside: Path | None) -> Generator[Path]:
    with ExitStack() as stack:
        yield _enter(stack, path, aside)


def _enter(stack: ExitStack, path: Path, aside: Path | None) -> Path:
    if aside is not None and aside.is_dir() and aside.stat().st_dev == path.parent.stat().st_dev:
        with suppress(OSError):
            return stack.enter_context(temporary_file(aside, path.name))
    return stack.enter_context(temporary_file(path.parent, path.name))


def _take(temporary: Path, path: Path) -> None:
    """Gives a file a name that nobody has; raises FileExistsError where somebody does."""
    try:
        os.link(temporary, path)
    except OSError as error:
        if error.errno in (errno.EEXIST, errno.EXDEV):
            raise
        # Some file systems have no hard links: the name is taken first, and then filled.
        os.close(os.open(path, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o600))
        os.replace(temporary, path)


def move_folder(folder: Path, target: Path) -> None:
    """Renames a folder; an empty one makes way for it. Raises FileExistsError where anything else is there."""
    try:
        os.rename(folder, target)
    except OSError as error:
        if error.errno not in (errno.ENOTEMPTY, errno.EEXIST, errno.ENOTDIR):
            raise
        raise FileExistsError(errno.EEXIST, os.strerror(errno.EEXIST), os.fspath(target)) from None


def remove_folder(folder: Path) -> None:
    """Takes a folder away at once: a kill leaves it whole, or a temporary one that the next writer takes away."""
    with temporary_folder(folder.parent, folder.name) as gone:
        folder.rename(gone / folder.name)
