"""Puts a bundle together: claims, bill of materials, model card, report, digests, attestation, in that order."""

from __future__ import annotations

import io
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from bundle import layout as limits
from bundle.attestation import build_statement, model_version, read_statement
from bundle.digests import canonical_json, sha256_bytes, write_whole
from bundle.layout import ATTESTATION, BOM, CARD, IMAGES, MODEL, NETWORK, OUTCOMES, REPORT, WEIGHTS
from bundle.numbers.claims import claims
from bundle.pages.bom import render_bom
from bundle.pages.card import render_card
from bundle.pages.report import render_report
from bundle.private import CLEAN, is_private
from bundle.served.model_file import check_model_file
from bundle.table.columns import check_extent
from bundle.table.outcomes import Outcomes
from bundle.table.plan import reliable


def assemble(
    folder: Path,
    *,
    model: bytes,
    weights: bytes,
    outcomes: Outcomes,
    images: Mapping[str, NDArray[np.uint8]],
    predicate: Mapping[str, Any],
) -> dict[str, Any]:
    """Writes a bundle's files into `folder` and returns the statement.

    Parameters
    ----------
    model, weights : the bytes of model.onnx and weights.safetensors.
    images : uint8 (N, H, W, C) arrays, `clean` and `THREAT/ATTACK` for every attack of the predicate; with private
        evidence bundle.private's Withheld, and no images.npz is written.
    predicate : everything that the schema asks for but the lists of claims(), `reliable` and `files`, which are computed
        here, and `model.version`, which is the digest's.

    The attestation is written last, so that a folder that was left half-way does not verify. Raises HallmarkError
    where the model is none that may be served, HallmarkError where the predicate does not meet the schema, and
    HallmarkError or OutcomeError where something is larger than open_bundle() would read; nothing is written then.
    """
    check_model_file(model)
    check_extent(predicate)
    if not is_private(predicate):
        limits.check_sets(len(images), images[CLEAN].shape)
    digest = sha256_bytes(model)
    complete = {**predicate, **claims(outcomes, predicate), "reliable": reliable(predicate["sanity"])}
    complete["model"] = {**predicate["model"], "version": model_version(digest)}
    contents = {
        MODEL: model,
        WEIGHTS: weights,
        NETWORK: canonical_json(predicate["network"]),
        OUTCOMES: outcomes.parquet(),
        **({} if is_private(predicate) else {IMAGES: pack_images(images)}),
    }
    complete["files"] = _described(contents)
    contents[BOM] = render_bom(complete, digest)
    contents[CARD] = render_card(complete, digest).encode()
    contents[REPORT] = render_report(complete, digest, outcomes, images).encode()
    complete["files"] = _described(contents)
    statement = build_statement(digest, complete)
    contents[ATTESTATION] = canonical_json(statement)
    for name, content in contents.items():
        limits.check_size(name, len(content))
    read_statement(contents[ATTESTATION], ATTESTATION)
    for name, content in contents.items():
        write_whole(folder / name, content, aside=folder.parent)
    return statement


def _described(contents: Mapping[str, bytes]) -> list[dict[str, Any]]:
    """Name, SHA-256 and size of every file but the model, which is the statement's subject."""
    return [
        {"name": name, "sha256": sha256_bytes(content), "size": len(content)}
        for name, content in contents.items()
        if name != MODEL
    ]


def pack_images(images: Mapping[str, NDArray[np.uint8]]) -> bytes:
    """The bytes of an images.npz; images uint8 (N, H, W, C) by name."""
    buffer = io.BytesIO()
    np.savez_compressed(buffer, **{name: np.ascontiguousarray(array) for name, array in images.items()})  # type: ignore[arg-type]  # the stub takes the names for options
    return buffer.getvalue()
