"""Image files whose pixels lie in rows as they are: TIFF, BMP, Netpbm.

TIFF has a directory of entries that say where the pixels are, of several the first; BMP a header and rows; Netpbm (PBM,
PGM, PPM) a few numbers as text, then the pixels as bytes.
"""

from __future__ import annotations

import math
import re
import struct

from bundle.images.container import (
    PARTS_LIMIT,
    UPRIGHT,
    Container,
    Tag,
    broken,
    byte_order,
    directory,
    too_many_parts,
    unsupported,
    whole_number,
)

_WIDTH, _HEIGHT, _BITS, _COMPRESSION, _PHOTOMETRIC, _ORIENTATION = 256, 257, 258, 259, 262, 274
_TILE_SIDES, _OFFSETS = (322, 323), (273, 324)
#: All that decides the pixels: these, and the fields of strips, tiles, samples, predictor and palette.
_KEPT = {_WIDTH, _HEIGHT, _BITS, _COMPRESSION, _PHOTOMETRIC, *_TILE_SIDES, *_OFFSETS} | {
    *(266, 277, 278, 279, 284, 317, 320, 325, 338, 339)
}
#: None, LZW, both numbers of deflate, PackBits. The others bring decoders of their own, for JPEG, fax, LZMA and more.
_COMPRESSIONS = (1, 5, 8, 32_946, 32_773)
#: Grey with white as 0, grey, RGB, palette, CMYK.
_COLOURS = (0, 1, 2, 3, 5)
#: Tiles are unpacked whole, also where they go beyond the picture: up to so many pixels, or four times the picture's.
TILE_PIXELS_LIMIT = 1 << 22
#: Bytes of a value by form, from 1.
_SIZES = dict(enumerate((1, 1, 2, 4, 8, 1, 1, 2, 4, 8, 4, 8), start=1))


def read_tiff(content: bytes) -> Container:
    """The first picture, with a directory of its own behind the file that has nothing else in it."""
    try:
        order = byte_order(content)
        entries = list(directory(content, order))
    except KeyError:
        raise broken() from None
    kept = [entry for entry in entries if entry.tag in _KEPT]
    _check_entries(kept, content, order)
    numbers = {entry.tag: whole_number(content, order, entry) for entry in kept if _is_number(entry)}
    _check_kind(numbers)
    turned = next((whole_number(content, order, entry) for entry in entries if entry.tag == _ORIENTATION), UPRIGHT)
    orientation = turned if 1 <= turned <= 8 else UPRIGHT
    return Container("TIFF", numbers[_WIDTH], numbers[_HEIGHT], orientation, _rewritten(content, order, kept))


def _is_number(entry: Tag) -> bool:
    """Whether it is one of the numbers that are checked here; bits are one per sample, but for grey."""
    return entry.tag in {_WIDTH, _HEIGHT, _COMPRESSION, _PHOTOMETRIC, *_TILE_SIDES} or (
        entry.tag == _BITS and entry.number == 1
    )


def _check_entries(kept: list[Tag], content: bytes, order: str) -> None:
    """Each once, its values inside the file, and all of them together no more than the file."""
    sizes = [_SIZES.get(entry.form, len(content)) * entry.number for entry in kept]
    if len({entry.tag for entry in kept}) != len(kept) or sum(sizes) > len(content):
        raise broken()
    for entry, size in zip(kept, sizes, strict=True):
        if size > 4 and struct.unpack_from(f"{order}I", content, entry.place + 8)[0] + size > len(content):
            raise broken()
        if entry.tag in _OFFSETS and entry.number > PARTS_LIMIT:
            raise too_many_parts()


def _check_kind(numbers: dict[int, int]) -> None:
    if _WIDTH not in numbers or _HEIGHT not in numbers:
        raise broken()
    if (compression := numbers.get(_COMPRESSION, 1)) not in _COMPRESSIONS:
        raise unsupported(f"is a TIFF file with compression {compression}", "send it without, with LZW or deflate.")
    if (colours := numbers.get(_PHOTOMETRIC)) not in _COLOURS:
        raise unsupported(f"is a TIFF file with photometric interpretation {colours}", "send greyscale or RGB.")
    if colours == 0 and numbers.get(_BITS, 1) > 8:  # Pillow would not invert it
        raise unsupported("is a TIFF file of 16 bits with white as 0", "send it with black as 0.")
    _check_tiles(numbers)


def _check_tiles(numbers: dict[int, int]) -> None:
    width, height = numbers[_WIDTH], numbers[_HEIGHT]
    across, down = (numbers.get(tag, 1) for tag in _TILE_SIDES)
    if across < 1 or down < 1:
        raise broken()
    unpacked = math.ceil(width / across) * across * math.ceil(height / down) * down
    if unpacked > max(TILE_PIXELS_LIMIT, 4 * width * height):
        raise unsupported(f"has tiles of {across} by {down} pixels", "save it in strips.")


def _rewritten(content: bytes, order: str, kept: list[Tag]) -> bytes:
    """The file with a new directory, of copied entries, at its end."""
    content += bytes(len(content) % 2)
    raw = b"".join(content[entry.place : entry.place + 12] for entry in kept)
    ends = struct.pack(f"{order}H", len(kept)), struct.pack(f"{order}I", 0)
    return content[:4] + struct.pack(f"{order}I", len(content)) + content[8:] + ends[0] + raw + ends[1]


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


#: More than any header with its comments.
_HEADER_BYTES = 65_536
_GAP = rb"(?:\s|#[^\n]*\n)+"
_BIT_HEADER = re.compile(rb"P4" + _GAP + rb"(\d{1,9})" + _GAP + rb"(\d{1,9})\s")
_BYTE_HEADER = re.compile(rb"P[56]" + _GAP + rb"(\d{1,9})" + _GAP + rb"(\d{1,9})" + _GAP + rb"(\d{1,5})\s")
#: Largest level by kind; Pillow decodes others, and the kinds that are text throughout, number by number in Python.
_LEVELS = {b"P5": (255, 65_535), b"P6": (255,)}


def read_netpbm(content: bytes) -> Container:
    """The binary kinds with levels up to 255, grey ones up to 65,535 too."""
    kind = content[:2]
    if kind in (b"P1", b"P2", b"P3"):
        raise unsupported("is a Netpbm file of text", "send it in binary form, or as PNG.")
    found = (_BIT_HEADER if kind == b"P4" else _BYTE_HEADER).match(content[:_HEADER_BYTES])
    if found is None:
        raise broken()
    width, height, *levels = map(int, found.groups())
    if levels and levels[0] not in _LEVELS[kind]:
        raise unsupported(f"is a Netpbm file of levels up to {levels[0]}", "send levels up to 255, or a PNG.")
    header = b" ".join([kind, *map(b"%d".__mod__, (width, height, *levels))])
    return Container("PPM", width, height, UPRIGHT, header + b"\n" + content[found.end() :])
