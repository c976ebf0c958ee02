"""Archives of arrays (.npz) from anybody: names, kinds and shapes are known before an array is unpacked.

NumPy and zipfile raise errors of a dozen types for damaged files, and unpack whatever a file says.
"""

from __future__ import annotations

import io
import lzma
import struct
import tokenize
import zipfile
import zlib
from collections.abc import Generator
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Any

import numpy as np
from numpy.typing import NDArray

from bundle.errors import HallmarkError

SUFFIX = ".npy"
#: How numpy.savez packs; zipfile unpacks others by more than is asked of it.
PACKINGS = (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED)
ENCRYPTED = 1
#: What an entry of an archive's table of contents begins with, and how often data may look like it by chance.
ENTRY, CHANCE = b"PK\1\2", 16
#: Everything that zipfile and NumPy raise for files that are damaged, encrypted, or something else.
DAMAGE = (
    *(OSError, EOFError, ValueError, TypeError, LookupError, ArithmeticError, SyntaxError, MemoryError, RuntimeError),
    *(zipfile.BadZipFile, zlib.error, lzma.LZMAError, struct.error, tokenize.TokenError),
)


class ArchiveError(HallmarkError):
    """The file is no archive of plain arrays; the message begins with what is wrong, and names no file."""


class Archive:
    """An open archive: `names` of its arrays, each there once, in the order of the file."""

    def __init__(self, archive: zipfile.ZipFile) -> None:
        self._archive = archive
        members = archive.infolist()
        self.names = [member.filename.removesuffix(SUFFIX) for member in members]
        plain = all(member.filename.endswith(SUFFIX) for member in members)
        if not plain or len(set(self.names)) != len(self.names):
            raise ArchiveError("must hold every array once, and nothing but arrays")
        for member in members:
            if member.flag_bits & ENCRYPTED or member.compress_type not in PACKINGS:
                raise ArchiveError(f"{member.filename} is encrypted, or packed otherwise than numpy.savez packs")

    def layout(self, name: str) -> tuple[np.dtype[Any], tuple[int, ...]]:
        """The kind of an array's values, and its shape, as its header says; nothing else of it is read."""
        with self._archive.open(name + SUFFIX) as file:
            return header(file)

    def read(self, name: str) -> NDArray[Any]:
        """An array, never unpickled; its checksum is checked."""
        with self._archive.open(name + SUFFIX) as file:
            array = np.lib.format.read_array(file, allow_pickle=False)
            if file.read(1):
                raise ArchiveError(f"not a readable npz archive ({name} is longer than its header says)")
        return array


@contextmanager
def open_arrays(source: bytes | Path, most: int | None = None) -> Generator[Archive]:
    """An archive's bytes or path, open; of bytes, one with more than `most` entries is refused before they are read.

    Raises ArchiveError, also for whatever damage is met while it is open.
    """
    if isinstance(source, bytes) and most is not None and source.count(ENTRY) > most + CHANCE:
        raise ArchiveError(f"has more than {most} entries")
    try:
        with zipfile.ZipFile(io.BytesIO(source) if isinstance(source, bytes) else source) as archive:
            yield Archive(archive)
    except DAMAGE as error:
        raise ArchiveError(
            f"not a readable npz archive ({' '.join(str(error).split()) or type(error).__name__})"
        ) from None


def header(file: IO[bytes]) -> tuple[np.dtype[Any], tuple[int, ...]]:
    """Kind and shape of a .npy file that stands at its beginning.

    Raises ArchiveError where it is no array of plain values, and what DAMAGE lists.
    """
    version = np.lib.format.read_magic(file)
    if version != (1, 0):
        raise ArchiveError("not a readable npz archive (an array of plain values has a header of version 1.0)")
    shape, _, kind = np.lib.format.read_array_header_1_0(file)
    if kind.hasobject:
        raise ArchiveError("not a readable npz archive (it holds pickled objects, which are never loaded)")
    return kind, shape
