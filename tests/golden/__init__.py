"""One small signed bundle of every form that attestation.schema.json ever had, kept as its code made it."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from bundle.digests import canonical_json, sha256_bytes

HERE = Path(__file__).parent
TABLE = HERE / "golden.json"
#: Words of a JSON Schema that say nothing about what it takes.
PROSE = ("description", "title")


def table() -> list[dict[str, str]]:
    """The bundles in the order of their making; golden.json's fields are explained in the README beside it."""
    return json.loads(TABLE.read_text(encoding="utf-8"))


def form_digest(schema: dict[str, Any]) -> str:
    """SHA-256 of a schema without its prose: another digest is another form."""
    return sha256_bytes(canonical_json(_form(schema)))


def _form(value: Any) -> Any:
    if isinstance(value, dict):  # a property may be called title: then it is a schema, not a text
        return {name: _form(item) for name, item in value.items() if name not in PROSE or not isinstance(item, str)}
    return [_form(item) for item in value] if isinstance(value, list) else value
