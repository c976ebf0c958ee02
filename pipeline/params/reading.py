"""YAML files of settings, and what is wrong with them: one sentence per field: where, what would be right, what there was.

Of files that a method's settings name, a record holds the digests, since a path says nothing to others.
"""

from __future__ import annotations

import difflib
from collections.abc import Mapping
from pathlib import Path
from textwrap import shorten
from typing import Any, TypeVar

from pydantic import BaseModel, ValidationError

from bundle.digests import sha256_file
from bundle.errors import HallmarkError
from bundle.formats.yaml12 import YamlError, load, read

#: Wrong fields that are named, and characters of what a sentence quotes.
MOST_LINES, WIDTH = 20, 100

Model = TypeVar("Model", bound=BaseModel)


class ParamsError(HallmarkError):
    """params.yaml says something that cannot be run; the message names every wrong field."""


def read_yaml(path: Path, missing: str) -> Any:
    """A file's document; raises ParamsError where it is not YAML, and with `missing` where it is not there."""
    try:
        return read(path)
    except FileNotFoundError:
        raise ParamsError(f"{path}: {missing}") from None
    except OSError as error:
        raise ParamsError(f"{path}: cannot be read ({error.strerror})") from None
    except YamlError as error:
        raise ParamsError(f"{path}: not YAML: {error}") from None


def read_value(text: str) -> Any:
    """A value as YAML 1.2 reads it, so that `1e-3` is a number; raises ParamsError."""
    try:
        return load(text)
    except YamlError as error:
        raise ParamsError(f"{text!r}: is no YAML value ({error})") from None


def validated(model: type[Model], document: Any, prefix: str = "") -> Model:
    """A document as a model; raises ParamsError with one line per wrong field, `prefix` before each."""
    try:
        return model.model_validate(document)
    except ValidationError as error:
        lines = [_sentence(model, prefix, item) for item in error.errors()[:MOST_LINES]]
        if (left := error.error_count() - len(lines)) > 0:
            lines.append(f"and {left} more")
        raise ParamsError(*lines) from None


def _sentence(model: type[BaseModel], prefix: str, error: Any) -> str:
    """One validation error as `where: what would be right, what there was`."""
    parts = [prefix, *(str(part) for part in error["loc"])]
    where = shorten(".".join(part for part in parts if part), WIDTH, placeholder=" …")
    limits, got = error.get("ctx", {}), _Shown(error["input"])
    match error["type"]:
        case "greater_than_equal":
            return f"{where}: must be ≥ {_number(limits['ge'])}, got {got}"
        case "greater_than":
            return f"{where}: must be > {_number(limits['gt'])}, got {got}"
        case "less_than_equal":
            return f"{where}: must be ≤ {_number(limits['le'])}, got {got}"
        case "less_than":
            return f"{where}: must be < {_number(limits['lt'])}, got {got}"
        case "multiple_of":
            return f"{where}: must be a multiple of {limits['multiple_of']}, got {got}"
        case "literal_error":
            return f"{where}: must be one of {limits['expected']}, got {got!r}"
        case "missing":
            return f"{where}: is missing"
        case "extra_forbidden":
            return f"{where}: is not a key here; {_nearest(model, error['loc'])}"
        case "value_error":
            return f"{where}: {limits['error']}, got {got}"
        case "int_type" | "int_from_float":
            return f"{where}: must be a whole number, got {got!r}"
        case "float_type":
            return f"{where}: must be a number, got {got!r}"
        case "bool_type":
            return f"{where}: must be true or false, got {got!r}"
        case "dict_type" | "model_type" | "model_attributes_type":
            return f"{where}: must be a section with keys of its own, got {got!r}"
        case _:
            return f"{where}: {error['msg'][0].lower()}{error['msg'][1:]}, got {got!r}"


class _Shown:
    """A value as a sentence quotes it, however long it is."""

    def __init__(self, value: object) -> None:
        self.value = value

    def __str__(self) -> str:
        return _cut(str(self.value))

    def __repr__(self) -> str:
        return _cut(repr(self.value))


def _cut(text: str) -> str:
    return text if len(text) <= WIDTH else f"{text[:WIDTH]}…"


def _number(limit: float) -> str:
    return f"{limit:,}" if isinstance(limit, int) else f"{limit:g}"


def _nearest(model: type[BaseModel], location: tuple[Any, ...]) -> str:
    for part in location[:-1]:
        model = model.model_fields[part].annotation  # type: ignore[assignment]  # sections are models
    known = [field.alias or name for name, field in model.model_fields.items()]
    close = difflib.get_close_matches(str(location[-1]), known, n=1)
    return f"did you mean {close[0]}?" if close else f"the keys are {', '.join(known) or 'none'}"


def one_of(names: list[str], got: object) -> str:
    """The sentence about a name that is none of `names`."""
    close = difflib.get_close_matches(str(got), names, n=1)
    hint = f" (did you mean {close[0]}?)" if close else ""
    return f"must be one of {', '.join(names)}, got {_cut(repr(got))}{hint}"


#: Settings of methods that are paths to weights.
WEIGHT_SETTINGS = ("guide_weights", "init_weights")


def with_digests(method: Mapping[str, Any]) -> dict[str, Any]:
    """A method's settings with `sha256:DIGEST` in place of each path; null where there is no such file."""
    named = {key: Path(method[key]) for key in WEIGHT_SETTINGS if method.get(key)}
    found = {key: f"sha256:{sha256_file(path)}" if path.is_file() else None for key, path in named.items()}
    return {**method, **found}
