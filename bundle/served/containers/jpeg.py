"""JPEG: segments behind markers, up to the end of the first picture.

Phones put a second picture (MPO), a depth map or megabytes of video behind it.
"""

from __future__ import annotations

import re
import struct

from bundle.served.containers.container import (
    PARTS_LIMIT,
    Container,
    ImageFileError,
    broken,
    read_orientation,
    too_many_parts,
    unsupported,
)

#: A progressive file has about ten; a few bytes each can stand for a pass over the whole picture.
SCANS_LIMIT = 100
#: What can follow 0xFF in the data of a scan, and is none of its bytes: neither a stuffed zero nor a restart.
_MARKER = re.compile(rb"\xff([^\x00\xff\xd0-\xd7])")
_SIZED = {*range(0xC0, 0xD0)} - {0xC4, 0xC8, 0xCC}
_ALONE, _START, _END, _SCAN = 0x01, 0xD8, 0xD9, 0xDA
_JFIF, _EXIF, _ADOBE = 0xE0, 0xE1, 0xEE
#: Applications' own and comments; two of them say how the colours are stored.
_LEFT_OUT = {*range(0xE0, 0xF0), 0xFE} - {_JFIF, _ADOBE}
_XMP = b"http://ns.adobe.com/xap/1.0/\0"


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
            size = _size(segment)
        elif marker == _SCAN:
            scans += 1
            _check_scans(scans)
        elif marker == _EXIF and segment[4:].startswith(b"Exif\0\0"):
            exif = exif or segment[4:]
        elif marker == _EXIF and segment[4:].startswith(_XMP):
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


def _size(segment: bytes) -> tuple[int, int]:
    bits, height, width = struct.unpack_from(">BHH", segment, 4)
    if bits != 8:
        raise unsupported(f"has {bits} bits a channel", "send 8.")
    return width, height


def _check_scans(scans: int) -> None:
    if scans > SCANS_LIMIT:
        raise ImageFileError("too-large", f"has more than {SCANS_LIMIT} scans", "save it again.")
