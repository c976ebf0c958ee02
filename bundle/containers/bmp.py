"""BMP: a header and rows."""

from __future__ import annotations

import struct

from bundle.containers.container import Container, unsupported
from bundle.containers.orientation import UPRIGHT

_FIRST_VERSION = 12
#: Compressions that only name the order of colours.
_UNCOMPRESSED = (0, 3)


def read_bmp(content: bytes) -> Container:
    """Run-length encoding is refused: it is decoded pixel by pixel in Python."""
    [header] = struct.unpack_from("<I", content, 14)
    if header == _FIRST_VERSION:
        width, height = struct.unpack_from("<HH", content, 18)
        return Container("BMP", width, height, UPRIGHT, content)
    width, height, _, _, compression = struct.unpack_from("<iiHHI", content, 18)
    if compression not in _UNCOMPRESSED:
        raise unsupported("is a BMP file with compression", "send it without, or as PNG.")
    # A negative height only says that the first row is the upper one.
    return Container("BMP", width, abs(height), UPRIGHT, content)
