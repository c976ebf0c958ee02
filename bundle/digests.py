"""SHA-256, JSON that is the same to the byte everywhere, and files that are whole or absent."""

from __future__ import annotations

import hashlib
import json
import os
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any


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


def write_whole(path: str | Path, content: bytes | Callable[[Path], None], mode: int = 0o644) -> None:
    """Writes bytes (or lets `content` write a temporary path), then renames: a kill leaves the old file or the new.

    The temporary file is its owner's alone from the start, so that a private key is at no time open to others.
    """
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    handle, name = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.", suffix=path.suffix)
    os.close(handle)
    temporary = Path(name)
    try:
        if isinstance(content, bytes):
            temporary.write_bytes(content)
        else:
            content(temporary)
        temporary.chmod(mode)
        os.replace(temporary, path)
    finally:
        temporary.unlink(missing_ok=True)
