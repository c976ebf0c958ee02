"""Requests that were good once: files, forms, headers and paths with something wrong in them, each from its own number."""

from __future__ import annotations

import io
import struct
import zlib
from collections.abc import Callable
from dataclasses import dataclass
from typing import TypeVar

import numpy as np
from numpy.lib import format as npy
from numpy.typing import NDArray
from PIL import Image

T = TypeVar("T")
Draw = np.random.Generator
BOUNDARY = "a-boundary"
#: Numbers at which sizes and counts go wrong.
EXTREMES = (0, 1, 0x7F, 0x80, 0xFF, 0x7FFF, 0xFFFF, 0x7FFFFFFF, 0x80000000, 0xFFFFFFFF)

ODD_TYPES = ("text/plain", "", "multipart/form-data", "multipart/form-data; boundary=", "\xe9/\xe9", "image/" * 99)


@dataclass(frozen=True)
class Sources:
    """Good files to begin with: `pictures` by format, and one `.npy` file of rows."""

    pictures: list[bytes]
    rows: bytes


def sources(images: NDArray[np.uint8]) -> Sources:
    """Files of the clean images uint8 (N, H, W, 1 or 3), in every format that the service takes."""
    pictures: list[bytes] = []
    for number, kind in enumerate(("PNG", "JPEG", "WEBP", "BMP", "PNG", "GIF", "TIFF", "PPM")):
        buffer = io.BytesIO()
        pixels = images[number % len(images)]
        Image.fromarray(pixels[..., 0] if pixels.shape[2] == 1 else pixels).save(buffer, format=kind)
        pictures.append(buffer.getvalue())
    buffer = io.BytesIO()
    np.save(buffer, images[:4])
    return Sources(pictures, buffer.getvalue())


def request(given: Sources, seed: int, number: int) -> bytes:
    """The bytes of one request; the same for the same seed and number."""
    draw = np.random.default_rng([seed, number])
    batch = draw.random() < 0.4
    content = _array(given.rows, draw) if batch else _picture(given.pictures, draw)
    return _message(draw, "/predict_batch" if batch else "/predict", "images" if batch else "image", content)


def form_request(path: str, name: str, content: bytes) -> bytes:
    """A request with one file in a multipart form, as it should be."""
    body = _form(name, content)
    kind = f"multipart/form-data; boundary={BOUNDARY}"
    lines = [
        f"POST {path} HTTP/1.1",
        "Host: localhost",
        f"Content-Type: {kind}",
        f"Content-Length: {len(body)}",
        "",
        "",
    ]
    return "\r\n".join(lines).encode() + body


def _picture(pictures: list[bytes], draw: Draw) -> bytes:
    content = pictures[draw.integers(len(pictures))]
    if content.startswith(b"\x89PNG") and draw.random() < 0.5:
        return _chunk(content, draw)
    return mutated(content, draw)


def mutated(content: bytes, draw: Draw) -> bytes:
    """A file with one to three changes of its bytes, any of which may be none."""
    for _ in range(draw.integers(1, 4)):
        content = _pick(draw, [_flip, _cut, _grow, _number, _repeat, _nothing])(content, draw)
    return content


def _array(rows: bytes, draw: Draw) -> bytes:
    """A `.npy` file whose header says something else, or whose bytes were changed."""
    if draw.random() < 0.5:
        return _pick(draw, [_flip, _cut, _grow, _number, _nothing])(rows, draw)
    descriptions = [
        "'|u1'",
        "'|O'",
        "'<f8'",
        "'>u2'",
        "'|S9'",
        "[('a', '|u1')]",
        "None",
        "1",
        "'|u1', 'x': __import__('os')",
    ]
    shapes = [
        "(4, 8, 8, 1)",
        "(0, 8, 8, 1)",
        "(-1, 8, 8, 1)",
        "(99999999999, 8, 8, 1)",
        "(4, 8, 8)",
        "()",
        "4",
        "(1.5,)",
    ]
    header = "{{'descr': {}, 'fortran_order': {}, 'shape': {}, }}".format(
        descriptions[draw.integers(len(descriptions))],
        _pick(draw, ["False", "True", "2", "'no'"]),
        _pick(draw, [*shapes, "(" * 200, "((1, 2), 3)", f"({'9' * 500},)"]),
    ).encode()
    length = _pick(draw, [len(header), 0, 65535, len(header) // 2])
    version = _pick(draw, [b"\x01\x00", b"\x02\x00", b"\x03\x00", b"\x09\x09"])
    return npy.MAGIC_PREFIX + version + struct.pack("<H", length) + header + rows[-256:]


def _chunk(content: bytes, draw: Draw) -> bytes:
    """A PNG with one chunk changed and its checksum right, so that what lies behind the checksum is reached."""
    chunks, place = [], 8
    while place < len(content):
        size = int.from_bytes(content[place : place + 4], "big")
        chunks.append((content[place + 4 : place + 8], content[place + 8 : place + 8 + size]))
        place += 12 + size
    chosen = draw.integers(len(chunks))
    kind, data = chunks[chosen]
    if draw.random() < 0.2:
        kind, data = _pick(draw, [b"tRNS", b"PLTE", b"iCCP", b"zTXt", b"acTL", b"IDAT", b"eXIf"]), draw.bytes(30)
    elif data:
        data = _pick(draw, [_flip, _number, _cut, _repeat])(data, draw)
    chunks[chosen] = (kind, data)
    packed = [
        struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data)) for kind, data in chunks
    ]
    return content[:8] + b"".join(packed)


def _message(draw: Draw, path: str, name: str, content: bytes) -> bytes:
    """The whole request; one in three has something wrong around the file, too."""
    kind, body = f"multipart/form-data; boundary={BOUNDARY}", _form(name, content)
    if draw.random() < 0.3:
        kind, body = _pick(draw, ["image/png", "image/webp", "application/octet-stream", "application/x-npy"]), content
    method, length = "POST", len(body)
    if draw.random() < 0.33:
        odd = draw.integers(7)
        if odd == 0:
            kind = _pick(
                draw,
                ["text/plain", "", "multipart/form-data", "multipart/form-data; boundary=", "\xe9/\xe9", "image/" * 99],
            )
        elif odd == 1:
            body = _pick(draw, [_flip, _cut, _grow])(body, draw)
            length = len(body)
        elif odd == 2:
            body, length = _form(_pick(draw, ["file", "", "images" * 50, "image\x00"]), content), None
        elif odd == 3:
            body, length = _form(name, content) + _form(name, content), None
        elif odd == 4:
            path += _pick(
                draw, ["?explain=robustness", "?explain=x", "?a=%00", "/", "/../robustness", "?" + "x" * 3000]
            )
        elif odd == 5:
            method = _pick(draw, ["GET", "PUT", "DELETE", "HEAD", "PATCH", "OPTIONS", "TRACE"])
        else:
            path = _pick(
                draw, ["/versions/%00", "/evidence/%2e%2e", "/samples/99999999999999999999.png", "/%ff", "/metrics"]
            )
    length = len(body) if length is None else length
    lines = [
        f"{method} {path} HTTP/1.1",
        "Host: localhost",
        f"Content-Type: {kind}",
        f"Content-Length: {length}",
        "",
        "",
    ]
    return "\r\n".join(lines).encode("latin-1") + body


def _form(name: str, content: bytes) -> bytes:
    head = f'--{BOUNDARY}\r\nContent-Disposition: form-data; name="{name}"; filename="f"\r\n\r\n'.encode()
    return head + content + f"\r\n--{BOUNDARY}--\r\n".encode()


def _pick(draw: Draw, choices: list[T]) -> T:
    return choices[draw.integers(len(choices))]


Change = Callable[[bytes, Draw], bytes]


def _place(content: bytes, draw: Draw) -> int:
    return int(draw.integers(max(1, len(content))))


def _flip(content: bytes, draw: Draw) -> bytes:
    changed = bytearray(content)
    for _ in range(draw.integers(1, 9)):
        if changed:
            changed[_place(content, draw)] ^= 1 << int(draw.integers(8))
    return bytes(changed)


def _cut(content: bytes, draw: Draw) -> bytes:
    return content[: _place(content, draw)]


def _grow(content: bytes, draw: Draw) -> bytes:
    place = _place(content, draw)
    return content[:place] + draw.bytes(int(draw.integers(1, 200))) + content[place:]


def _repeat(content: bytes, draw: Draw) -> bytes:
    first, last = sorted((_place(content, draw), _place(content, draw)))
    return content[:last] + content[first:]


def _number(content: bytes, draw: Draw) -> bytes:
    place, order = _place(content, draw), _pick(draw, ["<", ">"])
    return content[:place] + struct.pack(f"{order}I", _pick(draw, [*EXTREMES])) + content[place + 4 :]


def _nothing(content: bytes, draw: Draw) -> bytes:
    return content
