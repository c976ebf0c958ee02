"""GIF: blocks, of which the first picture counts."""

from __future__ import annotations

import struct

from bundle.containers.container import PARTS_LIMIT, Container, broken, too_many_parts
from bundle.containers.orientation import UPRIGHT

_HEADER_BYTES = 13
_EXTENSION, _PICTURE, _CONTROL = 0x21, 0x2C, 0xF9


def read_gif(content: bytes) -> Container:
    """The screen with the first picture on it; comments and other extensions before it are left out."""
    width, height, flags = struct.unpack_from("<HHB", content, 6)
    start = _HEADER_BYTES + _table_bytes(flags)
    picture, control = _first_picture(content, start)
    left, top, wide, high = struct.unpack_from("<HHHH", content, picture + 1)
    # A picture that goes beyond the screen makes it larger.
    size = max(width, left + wide), max(height, top + high)
    return Container("GIF", *size, UPRIGHT, content[:start] + control + content[picture:])


def _first_picture(content: bytes, place: int) -> tuple[int, bytes]:
    """Where its descriptor is, and the last extension before it that controls it: transparency is there."""
    control, parts = b"", 0
    while parts < PARTS_LIMIT:
        if content[place] == _PICTURE:
            return place, control
        if content[place] != _EXTENSION:
            raise broken()
        begin, place = place, place + 2
        while content[place] and parts < PARTS_LIMIT:
            place, parts = place + 1 + content[place], parts + 1
        place, parts = place + 1, parts + 1
        if content[begin + 1] == _CONTROL:
            control = content[begin:place]
    raise too_many_parts()


def _table_bytes(flags: int) -> int:
    """Of the colours that all pictures share."""
    return 3 * 2 ** (1 + flags % 8) if flags & 0x80 else 0
