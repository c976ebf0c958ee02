"""What is known of an image file before anything in it is decoded, which way up it is, and how it is refused.

Orientation is EXIF's, or XMP's where EXIF has none. It has a reader of its own, because Pillow reads every entry of EXIF
first and warns of each odd one: a megabyte of them takes seconds.
"""

from __future__ import annotations

import re
import struct
from collections.abc import Iterator
from typing import NamedTuple

from bundle.errors import HallmarkError

#: The formats that are read, as people name them; the bytes decide which one a file is.
FORMATS = "PNG, JPEG, WebP, BMP, GIF, TIFF or PPM"
#: Segments, chunks, blocks, strips: far more than an encoder makes, and few enough to be walked through at once.
PARTS_LIMIT = 16_384


class ImageFileError(HallmarkError):
    """An image file that is not decoded.

    `kind` is wrong-type, broken-file, wrong-pixels or too-large; `reason` goes on from the file's name, `remedy` says
    what would be right.
    """

    def __init__(self, kind: str, reason: str, remedy: str) -> None:
        super().__init__(f"{reason}; {remedy}")
        self.kind, self.reason = kind, reason


class Container(NamedTuple):
    """An image file as its first picture's headers describe it.

    `kind` is Pillow's name of the format; width and height, in pixels, are as stored, both at least 1; `orientation` is
    EXIF's, 1 to 8. `content` is a file of that format with nothing but what decides the pixels: a decoder gets to see no
    texts, profiles, previews or further pictures, which could be made to cost more than the picture.
    """

    kind: str
    width: int
    height: int
    orientation: int
    content: bytes

    @property
    def upright(self) -> tuple[int, int]:
        """Width and height as shown, after the orientation was applied."""
        return (self.height, self.width) if self.orientation > 4 else (self.width, self.height)


def broken() -> ImageFileError:
    """The refusal of a file that cannot be read to its end."""
    return ImageFileError("broken-file", "is damaged or cut off", "send the whole file.")


def too_many_parts() -> ImageFileError:
    """The refusal of a file whose parts are too many to look at."""
    return ImageFileError("too-large", f"is made of more than {PARTS_LIMIT} parts", "save it again.")


def unsupported(reason: str, remedy: str) -> ImageFileError:
    """The refusal of a file of a known format with pixels that are not decoded."""
    return ImageFileError("wrong-pixels", reason, remedy)


UPRIGHT = 1
_PREFIX = b"Exif\0\0"
_TAG, _SHORT, _LONG = 0x0112, 3, 4
_XMP = re.compile(rb'tiff:Orientation(?:="|>)([1-8])')
_ORDERS = {b"II": "<", b"MM": ">"}


class Tag(NamedTuple):
    """An entry of an image file directory: its tag, the form and number of its values, and where it stands."""

    tag: int
    form: int
    number: int
    place: int


def byte_order(content: bytes) -> str:
    """The sign of the module struct for a TIFF file's order of bytes; raises KeyError where it names none."""
    return _ORDERS[content[:2]]


def directory(content: bytes, order: str) -> Iterator[Tag]:
    """The entries of the first directory of a TIFF file, at most 65,535; raises struct.error where it is cut off."""
    [start] = struct.unpack_from(f"{order}I", content, 4)
    [count] = struct.unpack_from(f"{order}H", content, start)
    for place in range(start + 2, start + 2 + 12 * count, 12):
        tag, form, number = struct.unpack_from(f"{order}HHI", content, place)
        yield Tag(tag, form, number, place)


def whole_number(content: bytes, order: str, entry: Tag) -> int:
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
