"""Netpbm (PBM, PGM, PPM): a few numbers as text, then the pixels as bytes."""

from __future__ import annotations

import re

from bundle.containers.container import Container, broken, unsupported
from bundle.containers.orientation import UPRIGHT

#: More than any header with its comments.
_HEADER_BYTES = 65_536
_GAP = rb"(?:\s|#[^\n]*\n)+"
_BITS = re.compile(rb"P4" + _GAP + rb"(\d{1,9})" + _GAP + rb"(\d{1,9})\s")
_BYTES = re.compile(rb"P[56]" + _GAP + rb"(\d{1,9})" + _GAP + rb"(\d{1,9})" + _GAP + rb"(\d{1,5})\s")
#: Largest level by kind; Pillow decodes others, and the kinds that are text throughout, number by number in Python.
_LEVELS = {b"P5": (255, 65_535), b"P6": (255,)}


def read_netpbm(content: bytes) -> Container:
    """The binary kinds with levels up to 255, grey ones up to 65,535 too."""
    kind = content[:2]
    if kind in (b"P1", b"P2", b"P3"):
        raise unsupported("is a Netpbm file of text", "send it in binary form, or as PNG.")
    found = (_BITS if kind == b"P4" else _BYTES).match(content[:_HEADER_BYTES])
    if found is None:
        raise broken()
    width, height, *levels = map(int, found.groups())
    if levels and levels[0] not in _LEVELS[kind]:
        raise unsupported(f"is a Netpbm file of levels up to {levels[0]}", "send levels up to 255, or a PNG.")
    header = b" ".join([kind, *map(b"%d".__mod__, (width, height, *levels))])
    return Container("PPM", width, height, UPRIGHT, header + b"\n" + content[found.end() :])
