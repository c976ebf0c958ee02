"""Protocol Buffers as they lie in a file: the fields of one message, strictly and without a copy.

Two readers that forgive may read two things in the same bytes: a field that comes twice, one of an unknown number, a
number that is written too long. Only the one form that serialisers write is taken here; all else is refused.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from enum import IntEnum

from bundle.errors import HallmarkError


class WireError(HallmarkError):
    """The bytes are no such message."""


class WireType(IntEnum):
    """How a field's value lies in the bytes; groups, which nobody writes any more, are no member."""

    VARINT = 0
    FIXED64 = 1
    BYTES = 2
    FIXED32 = 5


#: Bytes of the values of fixed length.
LENGTHS = {WireType.FIXED64: 8, WireType.FIXED32: 4}


@dataclass(frozen=True)
class Field:
    """A known field: its name, how it is written, and whether it may come more than once (numbers then also packed)."""

    name: str
    wire: WireType
    repeated: bool = False


Value = int | memoryview
#: The values of one message by field name, in the order of the bytes.
Values = Mapping[str, list[Value]]


class Wire:
    """A reader of messages that takes at most `limit` fields in all, so that a small file cannot keep it busy."""

    def __init__(self, limit: int) -> None:
        self._limit = self._left = limit

    def fields(self, message: memoryview, known: Mapping[int, Field], what: str) -> Values:
        """The values of one message; raises WireError that calls the message `what`."""
        found: dict[str, list[Value]] = {}
        for field, value in self._each(message, known, what):
            values = found.setdefault(field.name, [])
            if values and not field.repeated:
                raise WireError(f"{what}: has {field.name} twice")
            values.append(value)
        return found

    def _each(self, message: memoryview, known: Mapping[int, Field], what: str) -> Iterator[tuple[Field, Value]]:
        place = 0
        while place < len(message):
            self._left -= 1
            if self._left < 0:
                raise WireError(f"{what}: the file has more than {self._limit} fields")
            tag, place = varint(message, place, what)
            field = known.get(tag >> 3)
            if field is None:
                raise WireError(f"{what}: has an unknown field (number {tag >> 3})")
            wire = tag & 7
            if wire != field.wire and not (field.repeated and wire == WireType.BYTES):
                raise WireError(f"{what}: {field.name} has the wrong wire type")
            value, place = _value(message, place, WireType(wire), f"{what}: {field.name}")
            yield field, value


def varint(message: memoryview, place: int, what: str) -> tuple[int, int]:
    """The unsigned 64-bit number at a place, and the place after it; raises WireError where it is cut off or too long."""
    value = 0
    for length in range(10):
        if place + length >= len(message):
            raise WireError(f"{what}: is cut off")
        byte = message[place + length]
        value |= (byte & 127) << 7 * length
        if byte < 128:
            if (byte == 0 and length) or value >> 64:
                break
            return value, place + length + 1
    raise WireError(f"{what}: has a number that is written too long")


def packed(message: memoryview, what: str) -> list[int]:
    """The numbers that lie in one packed field."""
    found: list[int] = []
    place = 0
    while place < len(message):
        value, place = varint(message, place, what)
        found.append(value)
    return found


def signed(value: int) -> int:
    """The int64 whose two's complement an unsigned 64-bit number is."""
    return value - (1 << 64) if value >> 63 else value


def _value(message: memoryview, place: int, wire: WireType, what: str) -> tuple[Value, int]:
    if wire == WireType.VARINT:
        return varint(message, place, what)
    if wire == WireType.BYTES:
        length, place = varint(message, place, what)
    else:
        length = LENGTHS[wire]
    if length > len(message) - place:
        raise WireError(f"{what}: is cut off")
    return message[place : place + length], place + length
