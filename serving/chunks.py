"""The chunks of a PNG file: their checksums, and what of them a decoder gets to see."""

from __future__ import annotations

import struct
import zlib

from serving.containers import broken

#: Far more than an encoder makes of a file that a service takes.
CHUNKS_LIMIT = 16_384
_SIGNATURE_BYTES, _AROUND = 8, 12
#: Always compressed: a text, and a colour profile, which is not applied.
_COMPRESSED = (b"zTXt", b"iCCP")


def uncompressed_chunks(content: bytes) -> bytes:
    """The PNG file without compressed texts and profiles, and without what follows its end.

    So nothing but the pixels, whose size the header says, is ever unpacked. Raises Problem where a chunk is cut off, its
    checksum is wrong, or there are too many of them.
    """
    kept = [content[:_SIGNATURE_BYTES]]
    place = _SIGNATURE_BYTES
    for _ in range(CHUNKS_LIMIT):
        chunk = _chunk(content, place)
        kind = chunk[4:8]
        if not (kind in _COMPRESSED or (kind == b"iTXt" and _is_compressed(chunk[8:-4]))):
            kept.append(chunk)
        if kind == b"IEND":
            return b"".join(kept)
        place += len(chunk)
    raise broken()


def _chunk(content: bytes, place: int) -> bytes:
    """Length, kind, data and checksum of the chunk at a place."""
    size = int.from_bytes(content[place : place + 4], "big") + _AROUND
    chunk = content[place : place + size]
    if len(chunk) != size or zlib.crc32(chunk[4:-4]) != struct.unpack(">I", chunk[-4:])[0]:
        raise broken()
    return chunk


def _is_compressed(data: bytes) -> bool:
    """Whether an iTXt chunk's flag, which follows its keyword, says that its text is compressed."""
    return data.partition(b"\0")[2][:1] != b"\0"
