"""WebP: chunks in a RIFF file."""

from __future__ import annotations

import struct

from bundle.containers.container import PARTS_LIMIT, Container, broken, too_many_parts
from bundle.containers.orientation import read_orientation

_FIRST, _HEADER = 12, 8


def read_webp(content: bytes) -> Container:
    """Of an animation the first frame is decoded; libwebp unpacks nothing beside it."""
    width, height = _size(content)
    chunks = _texts(content)
    return Container("WEBP", width, height, read_orientation(chunks[b"EXIF"], chunks[b"XMP "]), content)


def _size(content: bytes) -> tuple[int, int]:
    chunk = content[12:16]
    if chunk == b"VP8X":
        return 1 + int.from_bytes(content[24:27], "little"), 1 + int.from_bytes(content[27:30], "little")
    if chunk == b"VP8L":
        [bits] = struct.unpack_from("<I", content, 21)
        return (bits & 0x3FFF) + 1, (bits >> 14 & 0x3FFF) + 1
    if chunk == b"VP8 ":
        width, height = struct.unpack_from("<HH", content, 26)
        return width & 0x3FFF, height & 0x3FFF
    raise broken()


def _texts(content: bytes) -> dict[bytes, bytes]:
    """The first EXIF and the first XMP chunk, empty where there is none."""
    found = {b"EXIF": b"", b"XMP ": b""}
    place, end = _FIRST, min(len(content), _HEADER + int.from_bytes(content[4:8], "little"))
    for _ in range(PARTS_LIMIT):
        if place + _HEADER > end:
            return found
        kind, size = struct.unpack_from("<4sI", content, place)
        if found.get(kind) == b"":
            found[kind] = content[place + _HEADER : place + _HEADER + size]
        place += _HEADER + size + size % 2
    raise too_many_parts()
