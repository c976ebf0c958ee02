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


def raw_png(width: int, height: int, depth: int, colour: int, rows: bytes) -> bytes:
    """A PNG file from its header's fields and its rows, each with a filter byte, which need not fit."""

    def chunk(kind: bytes, content: bytes) -> bytes:
        return struct.pack(">I", len(content)) + kind + content + struct.pack(">I", zlib.crc32(kind + content))

    header = struct.pack(">IIBBBBB", width, height, depth, colour, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(rows)) + chunk(b"IEND", b"")


def multipart(field: str, content: bytes) -> tuple[bytes, str]:
    """A body and its content type, for tests that change them."""
    head = f'--edge\r\nContent-Disposition: form-data; name="{field}"; filename="x"\r\n\r\n'.encode()
    return head + content + b"\r\n--edge--\r\n", "multipart/form-data; boundary=edge"
