"""Image files and arrays, good and bad, as a client may send them."""

from __future__ import annotations

import io
import struct
import zlib
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from tests.bundles import digits


def digit(row: int = 1200) -> NDArray[np.uint8]:
    """A digit, uint8 (8, 8)."""
    return digits()[0][row, ..., 0]


def encoded(image: Image.Image, kind: str = "PNG", **options: Any) -> bytes:
    """An image file."""
    buffer = io.BytesIO()
    image.save(buffer, format=kind, **options)
    return buffer.getvalue()


def png(pixels: NDArray[Any]) -> bytes:
    """A PNG file of uint8 (H, W), (H, W, 3) or (H, W, 4), or uint16 (H, W)."""
    return encoded(Image.fromarray(pixels))


def npy(array: NDArray[Any], **options: Any) -> bytes:
    """A .npy file."""
    buffer = io.BytesIO()
    np.save(buffer, array, **options)
    return buffer.getvalue()


def png_chunk(kind: bytes, content: bytes) -> bytes:
    """A chunk of a PNG file."""
    return struct.pack(">I", len(content)) + kind + content + struct.pack(">I", zlib.crc32(kind + content))


def with_chunk(file: bytes, kind: bytes, content: bytes) -> bytes:
    """A PNG file with one chunk more, right after its header."""
    return file[:33] + png_chunk(kind, content) + file[33:]


def raw_png(width: int, height: int, depth: int, colour: int, rows: bytes) -> bytes:
    """A PNG file from its header's fields and its rows, each with a filter byte, which need not fit."""
    header = struct.pack(">IIBBBBB", width, height, depth, colour, 0, 0, 0)
    chunks = ((b"IHDR", header), (b"IDAT", zlib.compress(rows)), (b"IEND", b""))
    return b"\x89PNG\r\n\x1a\n" + b"".join(png_chunk(*item) for item in chunks)


def changed(file: bytes, place: int, form: str, *values: int) -> bytes:
    """A file with some of its numbers changed; `form` is of the module struct."""
    copy = bytearray(file)
    struct.pack_into(form, copy, place, *values)
    return bytes(copy)


def exif_of(orientation: int) -> Image.Exif:
    """EXIF data that say which way up a picture is."""
    exif = Image.Exif()
    exif[0x0112] = orientation
    return exif


def bmp32(pixels: NDArray[np.uint8], masks: bool) -> bytes:
    """A BMP file of 32 bits a pixel from uint8 (H, W, 4) RGBA; with masks its header says that the last byte is alpha."""
    height, width = pixels.shape[:2]
    data = pixels[..., (2, 1, 0, 3)].tobytes()
    colours = struct.pack("<IIII", 0xFF0000, 0xFF00, 0xFF, 0xFF000000) if masks else b""
    header = struct.pack(
        "<IiiHHIIiiII", 40 + len(colours), width, -height, 1, 32, 3 if masks else 0, len(data), 0, 0, 0, 0
    )
    start = 14 + len(header) + len(colours)
    return struct.pack("<2sIHHI", b"BM", start + len(data), 0, 0, start) + header + colours + data


def multipart(field: str, content: bytes) -> tuple[bytes, str]:
    """A body and its content type, for tests that change them."""
    head = f'--edge\r\nContent-Disposition: form-data; name="{field}"; filename="x"\r\n\r\n'.encode()
    return head + content + b"\r\n--edge--\r\n", "multipart/form-data; boundary=edge"
