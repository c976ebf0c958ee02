"""What is known of an image file before anything in it is decoded, and how it is refused."""

from __future__ import annotations

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
