"""Bundles rewritten by somebody who knows how they are built: claims and digests agree, the content is another."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from bundle.digests import canonical_json, sha256_bytes
from bundle.layout import ATTESTATION, MODEL, OUTCOMES, described
from bundle.numbers.claims import claims
from bundle.table.outcomes import Outcomes, load_outcomes

Predicate = dict[str, Any]


def rewrite(
    folder: Path,
    *,
    outcomes: Callable[[Outcomes], Outcomes] | None = None,
    predicate: Callable[[Predicate], Any] | None = None,
    files: Mapping[str, bytes] | None = None,
    recompute: bool = True,
) -> None:
    """Changes the outcome table, whole files and the predicate; then digests and (if asked) claims are made to fit."""
    for name, content in (files or {}).items():
        (folder / name).write_bytes(content)
    if outcomes is not None:
        outcomes(load_outcomes(folder / OUTCOMES)).save(folder / OUTCOMES)
    statement = json.loads((folder / ATTESTATION).read_bytes())
    content = statement["predicate"]
    if recompute:
        content.update(claims(load_outcomes(folder / OUTCOMES), content))
    digest = sha256_bytes((folder / MODEL).read_bytes())
    statement["subject"][0]["digest"]["sha256"] = digest
    content["model"]["version"] = digest[:12]
    files = {name: (folder / name).read_bytes() for name in described("privateEvidence" in content)}
    content["files"] = [{"name": name, "sha256": sha256_bytes(data), "size": len(data)} for name, data in files.items()]
    if predicate is not None:
        predicate(content)
    (folder / ATTESTATION).write_bytes(canonical_json(statement))


def unbreak(name: str, rows: slice) -> Callable[[Outcomes], Outcomes]:
    """Says of some rows that an attack did not break them, margins, predictions and all."""

    def edit(table: Outcomes) -> Outcomes:
        broken, margin = table[f"{name}/broken"].copy(), table[f"{name}/margin"].copy()
        broken[rows], margin[rows] = False, abs(margin[rows])
        prediction = np.where(broken, table[f"{name}/prediction"], table["label"])
        return table.with_columns(
            {f"{name}/broken": broken, f"{name}/margin": margin, f"{name}/prediction": prediction}
        )

    return edit


def encrypted(archive: bytes) -> bytes:
    """A zip archive's bytes whose table of contents says of every member that it is encrypted."""
    first, *entries = archive.split(b"PK\1\2")
    return b"PK\1\2".join([first, *(entry[:4] + b"\1" + entry[5:] for entry in entries)])
