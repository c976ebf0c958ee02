"""YAML as people and DVC mean it: version 1.2's numbers, each name once, and what is wrong in our own words."""
# pyright: reportMissingModuleSource=false

from __future__ import annotations

import re
from collections.abc import Hashable
from pathlib import Path
from typing import Any, cast

import yaml

from bundle.errors import HallmarkError

MERGE = "tag:yaml.org,2002:merge"
#: What is read: bytes of text, mappings and lists inside of each other, values with every alias written out, bits of a
#: whole number. Settings, plans and policies are a hundredth of it.
BYTES, DEPTH, VALUES, BITS = 1_000_000, 50, 20_000, 64
#: Characters that no setting holds: end of a C string, halves of a character.
FOREIGN = re.compile("[\0\ud800-\udfff]")


class YamlError(HallmarkError):
    """A text is not YAML, or more than is read here; the message has line and column where they are known."""


class _Loader(yaml.SafeLoader):
    """Safe, without repeated names: of two a reader would see one and the parser take the other."""

    depth = values = 0

    def compose_node(self, parent: Any, index: Any) -> Any:
        """One value; what is too much is refused before all of it is held."""
        self.depth, self.values = self.depth + 1, self.values + 1
        _limit(self.values, self.depth, cast("Any", self).peek_event().start_mark)
        node = super().compose_node(parent, index)
        self.depth -= 1
        return node

    def construct_document(self, node: Any) -> Any:
        _limit(*_written_out(node, {}))
        return super().construct_document(node)

    def construct_mapping(self, node: Any, deep: bool = False) -> dict[Any, Any]:
        seen: set[Any] = set()
        for key, _ in node.value:
            name = MERGE if key.tag == MERGE else self.construct_object(key, deep=True)
            if not isinstance(name, Hashable):
                continue  # super() says where
            if name in seen:
                raise yaml.constructor.ConstructorError(None, None, f"{key.value} is there twice", key.start_mark)
            seen.add(name)
        self.flatten_mapping(node)
        return super().construct_mapping(node, deep=True)  # at once, so that a mapping inside of itself is found

    def construct_scalar(self, node: Any) -> Any:
        text = super().construct_scalar(node)
        if FOREIGN.search(text):
            raise yaml.constructor.ConstructorError(None, None, "has a character that no text holds", node.start_mark)
        return text

    def construct_yaml_int(self, node: Any) -> int:
        if len(node.value) > BITS + 2:  # no conversion of thousands of digits; 0b and 64 digits are the longest
            raise yaml.constructor.ConstructorError(None, None, _too_large(node.value), node.start_mark)
        try:
            number = super().construct_yaml_int(node)
        except ValueError:
            said = f"{node.value} is no whole number; quote it where it is meant as text"
            raise yaml.constructor.ConstructorError(None, None, said, node.start_mark) from None
        if number.bit_length() > BITS:
            raise yaml.constructor.ConstructorError(None, None, _too_large(node.value), node.start_mark)
        return number


_Loader.add_constructor("tag:yaml.org,2002:int", _Loader.construct_yaml_int)

# PyYAML reads 1e-3 as text, as YAML 1.1 does; DVC and people mean the number of YAML 1.2.
_Loader.add_implicit_resolver(
    "tag:yaml.org,2002:float",
    re.compile(r"^[-+]?(\d+(\.\d*)?|\.\d+)([eE][-+]?\d+)?$"),
    list("-+.0123456789"),
)


def read(path: Path) -> Any:
    """The document of a file, however large it or what it links to says that it is. Raises OSError and YamlError."""
    with path.open("rb") as file:
        return load(file.read(BYTES + 1))


def load(text: str | bytes) -> Any:
    """The document of a text, or of UTF-8 bytes; aliases and merged mappings (`<<`) are followed. Raises YamlError.

    Refused is what has more than BYTES, DEPTH, VALUES or BITS: a text of a few lines can stand for gigabytes.
    """
    if len(text) > BYTES:
        raise YamlError(f"is longer than {BYTES:,} bytes")
    try:
        return yaml.load(text, _Loader)
    except yaml.MarkedYAMLError as error:
        raise YamlError(_sentence(error)) from None
    except yaml.reader.ReaderError as error:
        raise YamlError(f"character {error.position + 1}: is none of UTF-8 text ({error.reason})") from None
    except (ValueError, TypeError, OverflowError, RecursionError) as error:  # a date that is none, a key that is a list
        raise YamlError(" ".join(str(error).split())) from None


def _limit(values: int, depth: int, mark: yaml.Mark | None = None) -> None:
    """Raises where a document has more values or levels than are read."""
    if depth > DEPTH:
        raise yaml.constructor.ConstructorError(None, None, f"is nested deeper than {DEPTH} levels", mark)
    if values > VALUES:
        said = f"has more than {VALUES:,} values, aliases written out"
        raise yaml.constructor.ConstructorError(None, None, said, mark)


def _written_out(node: Any, known: dict[int, tuple[int, int]]) -> tuple[int, int]:
    """Values and levels of a node with every alias written out; `known` holds those counted before, by identity.

    An alias inside of what it names counts nothing here: the constructor refuses it.
    """
    if id(node) not in known:
        known[id(node)] = 0, 0
        inner = node.value if isinstance(node, yaml.CollectionNode) else []
        parts = [part for item in inner for part in (item if isinstance(item, tuple) else (item,))]
        counts = [_written_out(part, known) for part in parts]
        known[id(node)] = 1 + sum(values for values, _ in counts), 1 + max((depth for _, depth in counts), default=0)
    return known[id(node)]


def _too_large(digits: str) -> str:
    return f"{digits[:20]}{'…' if len(digits) > 20 else ''} is a whole number of more than {BITS} bits"


def _sentence(error: yaml.MarkedYAMLError) -> str:
    problem, context = " ".join((error.problem or "cannot be read").split()), error.context or ""
    mark = cast("Any", error.problem_mark or error.context_mark)
    place = f"line {mark.line + 1}, column {mark.column + 1}: " if mark else ""
    if context == "while scanning an alias":
        return f"{place}* begins an alias of YAML, and this is none; quote text that begins with it, '*.pub'"
    if context == "while scanning an anchor":
        return f"{place}& begins an anchor of YAML, and this is none; quote text that begins with it, '&c'"
    if found := re.fullmatch("found undefined alias '(.*)'", problem):
        return f"{place}the alias *{found[1]} has no anchor &{found[1]} before it; quote it where it is meant as text"
    if problem == "found unconstructable recursive node":
        return f"{place}an alias stands inside of what its own anchor names"
    if found := re.fullmatch("could not determine a constructor for the tag '(.*)'", problem):
        return f"{place}the tag {found[1].replace('tag:yaml.org,2002:', '!!')} is not read here; write a plain value"
    return f"{place}{problem}"
