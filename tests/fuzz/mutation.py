"""Files that were good once: with other bytes, or with other values in their own form, each from its own number."""

from __future__ import annotations

import copy
import json
from collections.abc import Iterator
from typing import Any

import numpy as np

from bundle.digests import canonical_json
from tests.serving.mutations import Draw, mutated

#: What stands in the place of a value of JSON or YAML: other kinds, ends of ranges, names that mean something elsewhere.
VALUES: tuple[Any, ...] = (
    *(None, True, False, 0, -1, 1, 60.0, 0.5, 1e308, -0.0, 2**63, 2**64, 10**30, "", "0", "-1", "nan", "linf", "clean"),
    *("\0", "\ud800", "\u202e", "a\nb", "../..", "a" * 5000, "é", [], {}, [[]], [None], {"name": "x"}, {"": 0}),
)
#: Bytes that parsers look for.
MARKS = (
    *(b"{", b"}", b"[", b"]", b'"', b",", b":", b"\\", b"\n", b"\r\n", b"\0", b"*a", b"&a", b"<<", b"!!", b"---"),
    *(b"PK\1\2", b"PK\3\4", b"PAR1", b"\x80\x02", b"NaN", b"1e999", b"\xff", b"\xf0\x9f", b"--", b";", b"%00"),
)


def variant(seeds: list[bytes], draw: Draw) -> bytes:
    """One file made of the seeds: in a third of all cases a document of canonical JSON is changed as one, else bytes are."""
    content = seeds[draw.integers(len(seeds))]
    if content[:2] in (b"{\n", b"[\n") and draw.random() < 1 / 3:
        return restructured(content, draw)
    match int(draw.integers(4)):
        case 0:
            return _marked(content, draw)
        case 1:
            return _spliced(content, seeds[draw.integers(len(seeds))], draw)
        case _:
            return mutated(content, draw)


def restructured(content: bytes, draw: Draw) -> bytes:
    """A JSON document with one to three values replaced, taken out, renamed or doubled; canonical, so that it is read."""
    document = json.loads(content)
    for _ in range(draw.integers(1, 4)):
        places = list(_places(document))
        if not places:
            break
        holder, key = places[draw.integers(len(places))]
        _change(holder, key, draw)
    try:
        return canonical_json(document)
    except ValueError:  # half a surrogate pair has no bytes
        return json.dumps(document).encode()


def _places(value: Any) -> Iterator[tuple[Any, Any]]:
    """Every list or mapping of a document with every key of it."""
    pairs = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for key, inner in pairs:
        yield value, key
        yield from _places(inner)


def _change(holder: Any, key: Any, draw: Draw) -> None:
    other = list(_places(holder))
    match int(draw.integers(5)):
        case 0:
            del holder[key]
        case 1:
            place, name = other[draw.integers(len(other))]
            holder[key] = copy.deepcopy(place[name])
        case 2 if isinstance(holder, list):
            holder.insert(key, copy.deepcopy(holder[key]))
        case 2:
            holder[f"{key}{VALUES[draw.integers(len(VALUES))]}"] = holder.pop(key)
        case 3 if isinstance(holder[key], int | float) and not isinstance(holder[key], bool):
            holder[key] = [holder[key] + 1, -holder[key], float(holder[key]), holder[key] * 2**70][draw.integers(4)]
        case _:
            holder[key] = copy.deepcopy(VALUES[draw.integers(len(VALUES))])


def _marked(content: bytes, draw: Draw) -> bytes:
    place, mark = int(draw.integers(len(content) + 1)), MARKS[draw.integers(len(MARKS))]
    times = int(draw.choice([1, 1, 1, 2, 40, 2000]))
    return content[:place] + mark * times + content[place + int(draw.integers(0, 3)) :]


def _spliced(content: bytes, other: bytes, draw: Draw) -> bytes:
    return content[: draw.integers(len(content) + 1)] + other[draw.integers(len(other) + 1) :]


def generator(name: str, seed: int, number: int) -> Draw:
    """The source of everything random about one input."""
    return np.random.default_rng([*name.encode(), seed, number])
