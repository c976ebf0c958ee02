"""Image files before they are decoded: kind, size, orientation, and what of them a decoder gets to see.

One file a format. Each reads headers alone, in one pass that is bounded by PARTS_LIMIT, and raises ImageFileError.
"""

from __future__ import annotations

import struct

from bundle.served.containers.chunked import read_gif, read_png, read_webp
from bundle.served.containers.container import FORMATS, Container, ImageFileError, broken
from bundle.served.containers.jpeg import read_jpeg
from bundle.served.containers.rasters import read_bmp, read_netpbm, read_tiff

_READERS = {
    b"\x89PNG\r\n\x1a\n": read_png,
    b"\xff\xd8\xff": read_jpeg,
    b"RIFF": read_webp,
    b"BM": read_bmp,
    b"GIF87a": read_gif,
    b"GIF89a": read_gif,
    b"II*\0": read_tiff,
    b"MM\0*": read_tiff,
    **dict.fromkeys((b"P1", b"P2", b"P3", b"P4", b"P5", b"P6"), read_netpbm),
}

__all__ = ["FORMATS", "Container", "ImageFileError", "read_container"]


def read_container(content: bytes) -> Container:
    """What a whole image file holds, by its bytes; what it is called does not count.

    Raises ImageFileError where it is of no known format, cut off, without pixels, or of a kind that is not decoded.
    """
    if not content:
        raise ImageFileError("broken-file", "is empty", "send the whole file.")
    reader = next((read for start, read in _READERS.items() if content.startswith(start)), None)
    if reader is None or (reader is read_webp and content[8:12] != b"WEBP"):
        raise ImageFileError("wrong-type", "is not an image of a known format", f"send a {FORMATS} file.")
    try:
        container = reader(content)
    except (struct.error, IndexError, ValueError):
        raise broken() from None
    if container.width < 1 or container.height < 1:
        raise ImageFileError("broken-file", "has no pixels by its header", "send a picture.")
    return container
