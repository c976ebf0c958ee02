"""YAML as people and DVC mean it: version 1.2's numbers, each name once, and what is wrong in our own words."""
# pyright: reportMissingModuleSource=false

from __future__ import annotations

import re
from typing import Any, cast

import yaml

from bundle.errors import HallmarkError

MERGE = "tag:yaml.org,2002:merge"


class YamlError(HallmarkError):
    """A text is not YAML, or more than is read here; the message has line and column where they are known."""


class _Loader(yaml.SafeLoader):
    """Safe, without repeated names: of two a reader would see one and the parser take the other."""

    def construct_mapping(self, node: Any, deep: bool = False) -> dict[Any, Any]:
        seen: list[Any] = []
        for key, _ in node.value:
            name = None if key.tag == MERGE else self.construct_object(key, deep=True)
            if name is not None and name in seen:
                raise yaml.constructor.ConstructorError(None, None, f"{name} is there twice", None)
            seen.append(name)
        self.flatten_mapping(node)
        return super().construct_mapping(node, deep=True)  # at once, so that a mapping inside of itself is found


# PyYAML reads 1e-3 as text, as YAML 1.1 does; DVC and people mean the number of YAML 1.2.
_Loader.add_implicit_resolver(
    "tag:yaml.org,2002:float",
    re.compile(r"^[-+]?(\d+(\.\d*)?|\.\d+)([eE][-+]?\d+)?$"),
    list("-+.0123456789"),
)


def load(text: str | bytes) -> Any:
    """The document of a text, or of UTF-8 bytes; aliases and merged mappings (`<<`) are followed. Raises YamlError."""
    try:
        return yaml.load(text, _Loader)
    except yaml.MarkedYAMLError as error:
        raise YamlError(_sentence(error)) from None
    except yaml.reader.ReaderError as error:
        raise YamlError(f"character {error.position + 1}: is none of UTF-8 text ({error.reason})") from None
    except (
        ValueError,
        TypeError,
        RecursionError,
    ) as error:  # a date that is none, a key that is a list, endless nesting
        raise YamlError(" ".join(str(error).split())) from None


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
