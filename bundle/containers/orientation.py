"""Which way up a picture is: EXIF's orientation, or XMP's where EXIF has none.

A reader of its own, because Pillow reads every entry of EXIF first and warns of each odd one: a megabyte of them takes
seconds.
"""

from __future__ import annotations

import re
import struct
from collections.abc import Iterator
from typing import NamedTuple

UPRIGHT = 1
_PREFIX = b"Exif\0\0"
_TAG, _SHORT, _LONG = 0x0112, 3, 4
_XMP = re.compile(rb'tiff:Orientation(?:="|>)([1-8])')
_ORDERS = {b"II": "<", b"MM": ">"}


class Entry(NamedTuple):
    """An entry of an image file directory: its tag, the form and number of its values, and where it stands."""

    tag: int
    form: int
    number: int
    place: int


def byte_order(content: bytes) -> str:
    """The sign of the module struct for a TIFF file's order of bytes; raises KeyError where it names none."""
    return _ORDERS[content[:2]]


def directory(content: bytes, order: str) -> Iterator[Entry]:
    """The entries of the first directory of a TIFF file, at most 65,535; raises struct.error where it is cut off."""
    [start] = struct.unpack_from(f"{order}I", content, 4)
    [count] = struct.unpack_from(f"{order}H", content, start)
    for place in range(start + 2, start + 2 + 12 * count, 12):
        tag, form, number = struct.unpack_from(f"{order}HHI", content, place)
        yield Entry(tag, form, number, place)


def whole_number(content: bytes, order: str, entry: Entry) -> int:
    """The first value of an entry whose values fit into it; raises ValueError where it is no SHORT or LONG."""
    if entry.form not in (_SHORT, _LONG) or entry.number < 1:
        raise ValueError("not a whole number")
    return struct.unpack_from(order + ("H" if entry.form == _SHORT else "I"), content, entry.place + 8)[0]


def read_orientation(exif: bytes, xmp: bytes = b"") -> int:
    """1 to 8; 1, as it is stored, where nothing is said or what is said cannot be read."""
    tagged = _tagged(exif.removeprefix(_PREFIX))
    if tagged is None:
        found = _XMP.search(xmp)
        tagged = int(found[1]) if found else UPRIGHT
    return tagged if 1 <= tagged <= 8 else UPRIGHT


def _tagged(exif: bytes) -> int | None:
    try:
        order = byte_order(exif)
        for entry in directory(exif, order):
            if entry.tag == _TAG:
                return whole_number(exif, order, entry)
    except (struct.error, KeyError, ValueError):
        return None
    return None
