"""The JSON Schemas that docs/ publishes: of the attestation, with the sentences of docs/attestation.md, and of settings.

`python -m docs.build_schema` writes docs/attestation.schema.json, docs/params.schema.json and docs/policy.schema.json.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from bundle.attestation import schema
from bundle.command_line import run_command
from bundle.digests import write_whole
from bundle.errors import HallmarkError
from docs.settings_schema import params_schema, policy_schema

PAGE = "attestation.md"
SCHEMA = "attestation.schema.json"
#: A row of a table: fields as code in the first cell, their meaning in the second.
ROW = re.compile(r"^\| (`[^|]+`) \| ([^|]+) \|$", re.MULTILINE)
#: Where a schema has schemas of the same place; conditions describe no fields of their own.
CHOICES = ("anyOf", "oneOf", "allOf")


def field_sentences(page: str) -> dict[str, str]:
    """Field and sentence of every row of the page's field tables; raises HallmarkError for a field that is there twice.

    A field is its path below the predicate (or the statement, for the statement's own): `claims[].value`.
    """
    found: dict[str, str] = {}
    for cell, sentence in ROW.findall(page.partition("## Every field")[2]):
        for field in re.findall(r"`([^`]+)`", cell):
            if field in found:
                raise HallmarkError(f"{PAGE}: describes {field} twice")
            found[field] = sentence.strip()
    return found


def fields(part: Mapping[str, Any], path: str = "") -> Iterator[tuple[str, dict[str, Any]]]:
    """Every property that a schema knows, with its path and its own schema."""
    for name, value in part.get("properties", {}).items():
        field = name if path in ("", "predicate") else f"{path}.{name}"
        yield field, value
        yield from fields(value, field)
    if "items" in part:
        yield from fields(part["items"], f"{path}[]")
    for choice in CHOICES:
        for item in part.get(choice, ()):
            yield from fields(item, path)


def described_schema(page: str) -> dict[str, Any]:
    """The schema with a description on every property: its own where it has one, else the page's sentence.

    Raises HallmarkError where the page leaves out a field or names one that the schema does not know.
    """
    sentences, described = field_sentences(page), json.loads(json.dumps(schema()))
    known = dict(fields(described))
    for field in [*known, *sentences]:
        if (field in known) != (field in sentences):
            wrong = "does not describe" if field in known else "describes what the schema does not know:"
            raise HallmarkError(f"{PAGE}: {wrong} {field}")
    for field, value in fields(described):
        value.setdefault("description", sentences[field])
    return described


def schemas(folder: Path) -> dict[str, dict[str, Any]]:
    """Every published schema by the name of its file; `folder` has attestation.md."""
    return {
        SCHEMA: described_schema((folder / PAGE).read_text(encoding="utf-8")),
        "params.schema.json": params_schema(),
        "policy.schema.json": policy_schema(),
    }


def publish(folder: Path) -> None:
    """Writes the schemas into the folder of attestation.md."""
    for name, document in schemas(folder).items():
        write_whole(folder / name, (json.dumps(document, indent=2, ensure_ascii=False) + "\n").encode())


def main() -> None:
    """Writes the JSON Schemas into docs/: of the attestation, with a sentence of docs/attestation.md on every field, of
    params.yaml and of policy.yaml."""
    publish(Path(__file__).parent)


if __name__ == "__main__":
    run_command(main)
