"""The attestation: an in-toto Statement v1 about model.onnx, with a predicate of its own type.

It is reproducible byte for byte: no time, no name, no folder. Time and identity belong to the signature. What GET
/robustness repeats of it is one table for who answers it, describes it and checks it.
"""
# pyright: reportUnknownMemberType=false, reportUnknownVariableType=false, reportUnknownArgumentType=false

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping
from functools import cache
from importlib.resources import files
from textwrap import shorten
from typing import TYPE_CHECKING, Any, cast

from bundle.digests import canonical_json
from bundle.errors import HallmarkError
from bundle.layout import MODEL, STATEMENT_BYTES, VERSION_DIGITS, check_size

if TYPE_CHECKING:
    from jsonschema.exceptions import ValidationError
    from jsonschema.protocols import Validator

STATEMENT_TYPE = "https://in-toto.io/Statement/v1"
PREDICATE_TYPE = "urn:hallmark:robustness-evaluation:v1"

MESSAGE_WIDTH = 200
#: Every whole number that 64 bits hold, with a sign or without.
WHOLE = range(-(2**63), 2**64)


def build_statement(model_sha256: str, predicate: Mapping[str, Any]) -> dict[str, Any]:
    """The statement that binds a predicate to a model file; raises HallmarkError where the schema is not met."""
    statement = {
        "_type": STATEMENT_TYPE,
        "subject": [{"name": MODEL, "digest": {"sha256": model_sha256}}],
        "predicateType": PREDICATE_TYPE,
        "predicate": dict(predicate),
    }
    check_statement(statement)
    return statement


def read_statement(content: bytes, where: str) -> dict[str, Any]:
    """Parses an attestation's bytes; `where` names the file in the messages.

    Raises HallmarkError where it is not JSON, not canonical (every byte is determined by the content, so that two
    readers cannot read two things), has whole numbers beyond 64 bits, is not of the schema, or is larger than
    bundle.layout grants.
    """
    check_size(where, len(content), STATEMENT_BYTES)
    try:
        statement = json.loads(content)
        canonical = canonical_json(statement)
    except (ValueError, RecursionError) as error:  # ValueError covers text that is not UTF-8
        raise HallmarkError(f"{where}: not an attestation: {error}") from None
    if canonical != content and canonical == content.replace(b"\r\n", b"\n"):
        reason = (
            "its line ends are CRLF, as git's core.autocrlf makes them; `* -text` in .gitattributes keeps the bytes"
        )
        raise HallmarkError(f"{where}: {reason}")
    if canonical != content:
        raise HallmarkError(f"{where}: not in canonical form (sorted keys, two spaces, no repeated key)")
    if large := next((number for number in _integers(statement) if number not in WHOLE), None):
        raise HallmarkError(f"{where}: {str(large)[:20]}… is beyond the whole numbers of 64 bits")
    check_statement(statement, where)
    return statement


def check_statement(statement: Any, where: str = "attestation") -> None:
    """Raises HallmarkError with the first place that the JSON Schema refuses."""
    _check(_validator(), statement, where, "statement")


def check_field(name: str, value: Any, where: str) -> None:
    """The same about one field of the predicate, before the others are there; `where` names the file that it is from."""
    field = schema()["properties"]["predicate"]["properties"][name]
    _check(_strict(field), value, where, name)


def _check(validator: Validator, value: Any, where: str, whole: str) -> None:
    from jsonschema.exceptions import best_match

    error: ValidationError | None = best_match(validator.iter_errors(value))
    if error is not None:
        message = shorten(error.message, MESSAGE_WIDTH, placeholder=" …")  # it quotes the value, however long
        place = error.json_path.removeprefix("$").removeprefix(".")
        raise HallmarkError(f"{where}: {place or whole}: {message}")


def model_digest(statement: Mapping[str, Any]) -> str:
    """The SHA-256 of the model that the statement is about."""
    return statement["subject"][0]["digest"]["sha256"]


def model_version(sha256: str) -> str:
    """A model's version as people read it: the first 12 digits of the SHA-256 of model.onnx."""
    return sha256[:VERSION_DIGITS]


@cache
def schema() -> dict[str, Any]:
    """The JSON Schema of the whole statement."""
    return json.loads(files("bundle").joinpath("attestation.schema.json").read_text(encoding="utf-8"))


@cache
def _validator() -> Validator:
    return _strict(schema())


def _strict(described: Mapping[str, Any]) -> Validator:
    """JSON Schema takes 60.0 for a whole number; in a canonical document 60 has one spelling."""
    from jsonschema import Draft202012Validator  # slow to import, and most commands' help needs no attestation
    from jsonschema.validators import extend

    types = Draft202012Validator.TYPE_CHECKER.redefine("integer", _is_integer)
    return extend(Draft202012Validator, type_checker=types)(described)


def _is_integer(_: Any, value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool)


def _integers(value: Any) -> Iterator[int]:
    """Every whole number in a JSON document."""
    if isinstance(value, int):
        yield value
    elif isinstance(value, dict | list):
        for item in cast("Iterable[Any]", value.values() if isinstance(value, dict) else value):
            yield from _integers(item)


#: Field of /robustness → field of the predicate that it repeats whole.
REPEATED = {
    "sample": "sample",
    "threats": "threats",
    "tier": "tier",
    "reliable": "reliable",
    "unions": "unions",
    "attacks": "attacks",
    "per_class": "perClass",
    "worst_class": "worstClass",
    "calibration": "calibration",
    "corruptions": "corruptionAccuracy",
    "minimum_distances": "minimumDistances",
    "agreement": "agreement",
    "bounds": "bounds",
    "smoothing": "smoothing",
    "sanity": "sanity",
    "parity": "parity",
    "not_tested": "notTested",
}
#: Field of /robustness → metric of the claims that it holds.
CLAIMED = {"clean": "clean_accuracy", "robust": "robust_accuracy"}
#: Field of /robustness → what it repeats of the predicate's field of the same name.
PARTS = {"method": ("name", "title", "paper", "reconstructed"), "data": ("name", "classes", "shape")}
