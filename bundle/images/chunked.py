"""Image files made of chunks, blocks or segments: PNG, GIF, WebP, JPEG.

PNG has chunks with checksums, WebP chunks in a RIFF file, GIF blocks, of which the first picture counts, JPEG segments
behind markers, up to the end of the first picture: phones put a second one (MPO), a depth map or megabytes of video
behind it.
"""

from __future__ import annotations

import re
import struct
import zlib

from bundle.images.container import (
    PARTS_LIMIT,
    UPRIGHT,
    Container,
    ImageFileError,
    broken,
    read_orientation,
    too_many_parts,
    unsupported,
)

_SIGNATURE_BYTES, _AROUND = 8, 12
#: All that decides the pixels; the frames of an animation are other chunks, its still picture is IDAT.
_KEPT = (b"IHDR", b"PLTE", b"tRNS", b"IDAT", b"IEND")
_XMP_KEY = b"XML:com.adobe.xmp\0"


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
        elif kind == b"iTXt" and data.startswith(_XMP_KEY + b"\0"):  # the flag of a text that is not compressed
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


_FIRST, _HEADER = 12, 8


def read_webp(content: bytes) -> Container:
    """Of an animation the first frame is decoded; libwebp unpacks nothing beside it."""
    width, height = _webp_size(content)
    chunks = _texts(content)
    return Container("WEBP", width, height, read_orientation(chunks[b"EXIF"], chunks[b"XMP "]), content)


def _webp_size(content: bytes) -> tuple[int, int]:
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


#: A progressive file has about ten; a few bytes each can stand for a pass over the whole picture.
SCANS_LIMIT = 100
#: What can follow 0xFF in the data of a scan, and is none of its bytes: neither a stuffed zero nor a restart.
_MARKER = re.compile(rb"\xff([^\x00\xff\xd0-\xd7])")
_SIZED = {*range(0xC0, 0xD0)} - {0xC4, 0xC8, 0xCC}
_ALONE, _START, _END, _SCAN = 0x01, 0xD8, 0xD9, 0xDA
_JFIF, _EXIF, _ADOBE = 0xE0, 0xE1, 0xEE
#: Applications' own and comments; two of them say how the colours are stored.
_LEFT_OUT = {*range(0xE0, 0xF0), 0xFE} - {_JFIF, _ADOBE}
_XMP_SEGMENT = b"http://ns.adobe.com/xap/1.0/\0"


def read_jpeg(content: bytes) -> Container:
    """The first picture; raises ImageFileError for 12 bits and for too many scans, too."""
    kept, size, exif, xmp, scans, place = [content[:2]], (0, 0), b"", b"", 0, 2
    for _ in range(PARTS_LIMIT):
        found = _MARKER.search(content, place)
        if found is None:
            raise broken()
        marker, scan_data = found[1][0], content[place : found.start()] if scans else b""
        kept.append(scan_data)
        if marker == _END:
            kept.append(found[0])
            return Container("JPEG", *size, read_orientation(exif, xmp), b"".join(kept))
        if marker in (_ALONE, _START):
            place = found.end()
            continue
        segment = _segment(content, found.start())
        place = found.start() + len(segment)
        if marker in _SIZED:
            size = _frame_size(segment)
        elif marker == _SCAN:
            scans += 1
            _check_scans(scans)
        elif marker == _EXIF and segment[4:].startswith(b"Exif\0\0"):
            exif = exif or segment[4:]
        elif marker == _EXIF and segment[4:].startswith(_XMP_SEGMENT):
            xmp = xmp or segment[4:]
        if marker not in _LEFT_OUT:
            kept.append(segment)
    raise too_many_parts()


def _segment(content: bytes, place: int) -> bytes:
    """Marker, length and data of the segment at a place."""
    [length] = struct.unpack_from(">H", content, place + 2)
    segment = content[place : place + 2 + length]
    if length < 2 or len(segment) < 2 + length:
        raise broken()
    return segment


def _frame_size(segment: bytes) -> tuple[int, int]:
    bits, height, width = struct.unpack_from(">BHH", segment, 4)
    if bits != 8:
        raise unsupported(f"has {bits} bits a channel", "send 8.")
    return width, height


def _check_scans(scans: int) -> None:
    if scans > SCANS_LIMIT:
        raise ImageFileError("too-large", f"has more than {SCANS_LIMIT} scans", "save it again.")
