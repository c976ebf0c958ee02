"""What an image file says of itself: its kind and its size, read from its first bytes before anything is decoded."""

from __future__ import annotations

import struct
from collections.abc import Callable
from typing import NamedTuple

from serving.problems import Problem

#: A JPEG file has a few hundred segments before its size at most, and about ten scans.
SEGMENTS_LIMIT = 4096
SCANS_LIMIT = 100
#: JPEG's markers that carry a size, those that stand alone, and those after which no size can come.
_SIZED = {*range(0xC0, 0xD0)} - {0xC4, 0xC8, 0xCC}
_ALONE = {0x01, *range(0xD0, 0xD9)}
_END, _SCAN = 0xD9, 0xDA
#: BMP's compressions that only name the order of colours.
_UNCOMPRESSED = (0, 3)


class Container(NamedTuple):
    """`kind` as Pillow names formats; width and height in pixels, as stored."""

    kind: str
    width: int
    height: int


def read_container(content: bytes) -> Container:
    """Kind and size of a PNG, JPEG, WebP or BMP file; what a client calls it does not count.

    Raises Problem where it is none of them or cut off, has no pixels, 16 bits a channel, or run-length encoding.
    """
    if not content:
        raise Problem("broken-file", "image: is empty; send the whole file.")
    kind = _kind(content)
    try:
        width, height = _READERS[kind](content)
    except (struct.error, IndexError, ValueError):
        raise broken() from None
    if width < 1 or height < 1:
        raise Problem("broken-file", "image: has no pixels by its header; send a picture.")
    return Container(kind, width, height)


def broken() -> Problem:
    """The refusal of a file that cannot be read to its end."""
    return Problem("broken-file", "image: is damaged or cut off; send the whole file.")


def _kind(content: bytes) -> str:
    if content.startswith(b"\x89PNG\r\n\x1a\n"):
        return "PNG"
    if content.startswith(b"\xff\xd8\xff"):
        return "JPEG"
    if content.startswith(b"RIFF") and content[8:12] == b"WEBP":
        return "WEBP"
    if content.startswith(b"BM"):
        return "BMP"
    raise Problem("wrong-type", "image: is not a PNG, JPEG, WebP or BMP file.")


def _png(content: bytes) -> tuple[int, int]:
    first, width, height, bits = struct.unpack_from(">4sIIB", content, 12)
    if first != b"IHDR":
        raise ValueError("no header")
    _check_bits(bits)
    return width, height


def _jpeg(content: bytes) -> tuple[int, int]:
    place = 2
    for _ in range(SEGMENTS_LIMIT):
        place = content.index(b"\xff", place) + 1
        marker = content[place]
        if marker == 0xFF:  # may be repeated before a marker
            continue
        place += 1
        if marker in _SIZED:
            bits, height, width = struct.unpack_from(">BHH", content, place + 2)
            _check_bits(bits)
            _check_scans(content.count(bytes([0xFF, _SCAN])))
            return width, height
        if marker in (_END, _SCAN):
            break
        if marker not in _ALONE:
            place += struct.unpack_from(">H", content, place)[0]
    raise ValueError("no size")


def _webp(content: bytes) -> tuple[int, int]:
    chunk = content[12:16]
    if chunk == b"VP8X":
        return 1 + int.from_bytes(content[24:27], "little"), 1 + int.from_bytes(content[27:30], "little")
    if chunk == b"VP8L":
        [bits] = struct.unpack_from("<I", content, 21)
        return (bits & 0x3FFF) + 1, (bits >> 14 & 0x3FFF) + 1
    if chunk == b"VP8 ":
        width, height = struct.unpack_from("<HH", content, 26)
        return width & 0x3FFF, height & 0x3FFF
    raise ValueError("no picture")


def _bmp(content: bytes) -> tuple[int, int]:
    [header] = struct.unpack_from("<I", content, 14)
    if header == 12:
        return struct.unpack_from("<HH", content, 18)
    width, height, _, _, compression = struct.unpack_from("<iiHHI", content, 18)
    if compression not in _UNCOMPRESSED:
        raise Problem("wrong-pixels", "image: is a BMP file with compression; send it without, or as PNG.")
    return width, abs(height)  # a negative height only says that the first row is the upper one


_READERS: dict[str, Callable[[bytes], tuple[int, int]]] = {"PNG": _png, "JPEG": _jpeg, "WEBP": _webp, "BMP": _bmp}


def _check_bits(bits: int) -> None:
    if bits > 8:  # Pillow would halve some of them without a word
        raise Problem("wrong-pixels", f"image: has {bits} bits a channel; send 8.")


def _check_scans(scans: int) -> None:
    if scans > SCANS_LIMIT:  # a few bytes each can stand for a pass over the whole picture
        raise Problem("too-large", f"image: has {scans} scans, at most {SCANS_LIMIT} are decoded; save it again.")
