"""PNG: chunks with checksums."""

from __future__ import annotations

import struct
import zlib

from bundle.containers.container import PARTS_LIMIT, Container, broken, too_many_parts
from bundle.containers.orientation import read_orientation

_SIGNATURE_BYTES, _AROUND = 8, 12
#: All that decides the pixels; the frames of an animation are other chunks, its still picture is IDAT.
_KEPT = (b"IHDR", b"PLTE", b"tRNS", b"IDAT", b"IEND")
_XMP = b"XML:com.adobe.xmp\0"


def read_png(content: bytes) -> Container:
    """Every checksum is held; nothing is unpacked but, later, the pixels, whose size the header says."""
    first, width, height = struct.unpack_from(">4sII", content, 12)
    if first != b"IHDR":
        raise broken()
    kept, exif, xmp, place = [content[:_SIGNATURE_BYTES]], b"", b"", _SIGNATURE_BYTES
    for _ in range(PARTS_LIMIT):
        chunk = _chunk(content, place)
        kind, data, place = chunk[4:8], chunk[8:-4], place + len(chunk)
        if kind in _KEPT:
            kept.append(chunk)
        elif kind == b"eXIf":
            exif = data
        elif kind == b"iTXt" and data.startswith(_XMP + b"\0"):  # the flag of a text that is not compressed
            xmp = data
        if kind == b"IEND":
            return Container("PNG", width, height, read_orientation(exif, xmp), b"".join(kept))
    raise too_many_parts()


def _chunk(content: bytes, place: int) -> bytes:
    """Length, kind, data and checksum of the chunk at a place."""
    size = int.from_bytes(content[place : place + 4], "big") + _AROUND
    chunk = content[place : place + size]
    if len(chunk) != size or zlib.crc32(chunk[4:-4]) != struct.unpack(">I", chunk[-4:])[0]:
        raise broken()
    return chunk
