"""A Parquet file from a stranger: what it unpacks to is read from its page headers before anything is unpacked.

The format's metadata may say anything, and a page of 100 kB may hold gigabytes; but a page is unpacked into as many bytes
as its own header says, and no more. Dictionaries and runs then repeat values, so values that have no fixed width are kept
as dictionaries until their lengths were looked at.
"""
# pyright: reportMissingTypeStubs=false, reportUnknownMemberType=false, reportAttributeAccessIssue=false
# pyright: reportUnknownVariableType=false, reportUnknownArgumentType=false

from __future__ import annotations

from collections.abc import Iterator, Sequence
from textwrap import shorten
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from bundle.errors import HallmarkError
from bundle.layout import COLUMNS, ROWS, VALUES

#: The only column of texts, and how long one may be.
TEXTS, TEXT_BYTES = "image_sha256", 64
#: Kinds of values with a fixed width of 8 bytes at most.
FIXED = {"BOOLEAN", "INT32", "INT64", "FLOAT", "DOUBLE"}
#: Plain values, runs, and dictionaries of them, by their number in the format.
ENCODINGS = {0, 2, 3, 8}
#: Bytes of a value, of a text, of what a page has beside its values, and of a column in the file's footer.
VALUE_ROOM, TEXT_ROOM, PAGE_ROOM, FOOTER_ROOM = 16, 128, 4096, 4096
#: Numbers of Thrift's compact protocol.
TRUE, FALSE, BYTE, INTEGERS, WIDE, DOUBLE, BINARY, LIST, STRUCT = 1, 2, 3, (4, 5, 6), 6, 7, 8, 9, 12
#: Fields of the footer, of a row group, of a column's chunk, and of what is said of it: sizes and places in the file.
GROUPS, CHUNKS, METADATA, CHUNK_PACKED, FIRST_PAGE, FIRST_DICTIONARY = 4, 1, 3, 7, 9, 11
#: Fields of a page's header: sizes, and the headers of data pages, dictionaries and data pages of version 2.
UNPACKED, PACKED, DATA, DICTIONARY, DATA_2 = 2, 3, 5, 7, 8
DEEPEST, LONGEST_NUMBER = 12, 10


class Wide(int):
    """A number that is written as one of 64 bits; Arrow passes over one of another width, as if it were not there."""


class ParquetError(HallmarkError):
    """The file is no table as Hallmark writes one, or is larger than it may be."""


def read_parquet(content: bytes, columns: Sequence[str] | None, rows: int | None) -> pa.Table:
    """The table of a Parquet file's bytes, whose texts are dictionaries.

    `columns` and `rows` say what it must hold; where they are None, anything within bundle.layout. Raises ParquetError.
    """
    try:
        _check_footer(content, len(columns) if columns is not None else COLUMNS)
        metadata = pq.read_metadata(pa.BufferReader(content))
        names = [metadata.schema.column(place).path for place in range(metadata.num_columns)]
        texts = [TEXTS] if TEXTS in names else []
        file = pq.ParquetFile(pa.BufferReader(content), metadata=metadata, read_dictionary=texts)
        _check_layout(file, columns, rows)
        _check_pages(content, metadata)
        table = file.read(use_threads=False)  # a thread that cannot be started would read as a damaged file
        _check_texts(table)
    except ParquetError:
        raise
    # What Arrow raises for damaged files is of many kinds; names that are no UTF-8 are a ValueError.
    except (
        pa.ArrowException,
        OSError,
        ValueError,
        TypeError,
        LookupError,
        MemoryError,
        NotImplementedError,
        AttributeError,
    ) as error:
        reason = shorten(str(error), 100, placeholder=" …")  # Arrow may list every column
        raise ParquetError(f"not a readable outcome table ({reason})") from None
    return table


def _check_footer(content: bytes, columns: int) -> None:
    """The footer is unpacked into many times its size."""
    size, most = int.from_bytes(content[-8:-4], "little"), FOOTER_ROOM * (columns + 16)
    if size > most:
        raise ParquetError(f"its footer has {size} bytes, for {columns} columns it may have {most}")


def _check_layout(file: pq.ParquetFile, columns: Sequence[str] | None, rows: int | None) -> None:
    metadata, names = file.metadata, list(file.schema_arrow.names)
    found = sum(metadata.row_group(group).num_rows for group in range(metadata.num_row_groups))
    if columns is not None:
        _check_names(names, columns)
    if rows is not None and {found, metadata.num_rows} != {rows}:
        raise ParquetError(f"has {metadata.num_rows} rows, the sample should have {rows}")
    if found != metadata.num_rows or found > ROWS or len(names) > COLUMNS or found * len(names) > VALUES:
        raise ParquetError(
            f"has {metadata.num_rows} rows of {len(names)} columns; it may have {ROWS} rows, {COLUMNS} columns, and "
            f"{VALUES} values in all"
        )
    leaves = [metadata.schema.column(place) for place in range(metadata.num_columns)]
    for leaf in leaves:
        fixed = leaf.physical_type in FIXED or (leaf.path == TEXTS and leaf.physical_type == "BYTE_ARRAY")
        if leaf.max_repetition_level or not fixed:
            raise ParquetError(f"{leaf.path}: must hold one number, truth value or digest a row")
    if [leaf.path for leaf in leaves] != names:
        raise ParquetError("its columns must hold single values")


def _check_names(names: Sequence[str], columns: Sequence[str]) -> None:
    there, wanted = set(names), set(columns)
    for name in columns:
        if name not in there:
            raise ParquetError(f"has no column {name}")
    for name in names:
        if name not in wanted:
            raise ParquetError(f"column {name}: the attestation names nothing that it would be of")


def _check_pages(content: bytes, metadata: Any) -> None:
    """Raises ParquetError where pages unpack to more than the values that the table has."""
    rows, columns = metadata.num_rows, metadata.num_columns
    left = rows * (VALUE_ROOM * columns + TEXT_ROOM) + PAGE_ROOM * columns
    for chunk in _chunks(memoryview(content), metadata):
        for header in _pages(memoryview(content), chunk):
            kind: Any = next((header[name] for name in (DATA, DICTIONARY, DATA_2) if name in header), {})
            encoding = kind.get(4 if DATA_2 in header else 2)
            left -= header[UNPACKED]
            if left < 0 or not 0 <= kind.get(1, -1) <= rows or encoding not in ENCODINGS:
                raise ParquetError(f"its pages unpack to more than {rows} rows of {columns} columns can take")


def _chunks(content: memoryview, metadata: Any) -> Iterator[dict[int, Any]]:
    """What the footer says of each column of each row group.

    PyArrow has it too, but where a footer contradicts itself its `column()` ends the whole process.
    """
    size = int.from_bytes(content[-8:-4], "little")
    groups = _struct(content[-8 - size : -8], 0)[0][GROUPS]
    if [len(group[CHUNKS]) for group in groups] != [metadata.num_columns] * metadata.num_row_groups:
        raise ParquetError("its footer has other columns than its schema")
    for group in groups:
        yield from (chunk[METADATA] for chunk in group[CHUNKS])


def _pages(content: memoryview, chunk: dict[int, Any]) -> Iterator[dict[int, Any]]:
    """The headers of a column's pages: Thrift structs, as numbers and structs by field."""
    starts, packed = [chunk[FIRST_PAGE], chunk.get(FIRST_DICTIONARY)], chunk[CHUNK_PACKED]
    if not all(isinstance(number, Wide) for number in [*starts, packed] if number is not None):
        raise ParquetError("a column does not say where it lies")
    place = min(start for start in starts if start)
    end = place + packed
    if not 0 < place <= end <= len(content):
        raise ParquetError("a column lies outside of the file")
    while place < end:
        header, place = _struct(content, place)
        sizes = header.get(UNPACKED, -1), header.get(PACKED, -1)
        if min(sizes) < 0:
            raise ParquetError("a page does not say how large it is")
        yield header
        place += sizes[1]


def _struct(content: memoryview, place: int, depth: int = 0) -> tuple[dict[int, Any], int]:
    """A struct of Thrift's compact protocol, each field once, and the place behind it; texts are left out."""
    fields: dict[int, Any] = {}
    name = 0
    while head := content[place]:
        place, kind = place + 1, head & 15
        if head >> 4:
            name += head >> 4
        else:
            name, place = _number(content, place)
        if name in fields:
            raise ParquetError("has a field twice")
        if kind in (TRUE, FALSE):
            fields[name] = kind == TRUE
        else:
            fields[name], place = _value(content, place, kind, depth)
    return fields, place + 1


def _value(content: memoryview, place: int, kind: int, depth: int) -> tuple[Any, int]:
    if kind in INTEGERS:
        number, place = _number(content, place)
        return (Wide(number) if kind == WIDE else number), place
    if kind in (STRUCT, LIST) and depth < DEEPEST:
        return (_struct if kind == STRUCT else _list)(content, place, depth + 1)
    if kind in (BYTE, DOUBLE):
        return None, place + (1 if kind == BYTE else 8)
    if kind == BINARY:
        length, place = _varint(content, place)
        return None, place + length
    raise ParquetError("a page's header or the footer is none")


def _list(content: memoryview, place: int, depth: int) -> tuple[list[Any], int]:
    """A list, and the place behind it; truth values, a byte each, are left out."""
    size, kind, place = content[place] >> 4, content[place] & 15, place + 1
    if size == 15:
        size, place = _varint(content, place)
    if kind in (TRUE, FALSE):
        return [], place + size
    found: list[Any] = []
    for _ in range(size):
        value, place = _value(content, place, kind, depth)
        found.append(value)
        if place > len(content):
            raise ParquetError("a list is cut off")
    return found, place


def _number(content: memoryview, place: int) -> tuple[int, int]:
    """A whole number: the sign is its lowest bit."""
    value, place = _varint(content, place)
    return value >> 1 ^ -(value & 1), place


def _varint(content: memoryview, place: int) -> tuple[int, int]:
    value = 0
    for count, byte in enumerate(content[place : place + LONGEST_NUMBER]):
        value |= (byte & 127) << 7 * count
        if byte < 128:
            return value, place + count + 1
    raise ParquetError("a page's header is none")


def _check_texts(table: pa.Table) -> None:
    """Of dictionaries: each text is looked at once, however many rows repeat it."""
    for name, column in zip(table.column_names, table.columns, strict=True):
        for chunk in column.chunks if pa.types.is_dictionary(column.type) else ():
            if (pc.max(pc.binary_length(chunk.dictionary)).as_py() or 0) > TEXT_BYTES:
                raise ParquetError(f"{name}: must be texts of {TEXT_BYTES} characters at most")
