"""`hallmark document`: the papers that others ask for, made from a verified bundle: model card, ML-BOM, crosswalk.

The first two lie in the bundle as well. Here they are rendered anew, in the words of this release.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Annotated

import typer

from audit.documents.crosswalk import render_crosswalk
from audit.terminal import AsJson, print_json, say
from bundle.bundle import Bundle, open_bundle
from bundle.digests import sha256_bytes, write_whole
from bundle.errors import HallmarkError
from bundle.pages.bom import render_bom
from bundle.pages.card import render_card


def render_documents(bundle: Bundle) -> dict[str, bytes]:
    """`card` (Markdown), `bom` (CycloneDX 1.6 JSON) and `crosswalk` (Markdown), the same to the byte for the same bundle."""
    return {
        "card": render_card(bundle.predicate, bundle.digest).encode(),
        "bom": render_bom(bundle.predicate, bundle.digest),
        "crosswalk": render_crosswalk(bundle.predicate, bundle.digest).encode(),
    }


def write_documents(path: Path, files: Mapping[str, Path]) -> dict[str, str]:
    """Verifies the bundle in `path` and writes the documents that `files` names (`card`, `bom`, `crosswalk`).

    Returns the SHA-256 of each. Raises HallmarkError where nothing is named, two documents have one file, a file
    lies in the bundle, whose set of files is exact, or the bundle is refused.
    """
    _check_places(path, files)
    documents = render_documents(open_bundle(path))
    for kind, file in files.items():
        write_whole(file, documents[kind])
    return {kind: sha256_bytes(documents[kind]) for kind in files}


def _check_places(bundle: Path, files: Mapping[str, Path]) -> None:
    if not files:
        raise HallmarkError("nothing to write: name a file with --card, --bom or --crosswalk")
    places = [file.resolve() for file in files.values()]
    for file, place in zip(files.values(), places, strict=True):
        if places.count(place) > 1:
            raise HallmarkError(f"{file}: two documents cannot be one file")
        if place.is_relative_to(bundle.resolve()):
            raise HallmarkError(f"{file}: lies in the bundle, whose set of files is exact; write it elsewhere")


def document(
    bundle: Annotated[Path, typer.Argument(metavar="BUNDLE", help="The bundle's folder.")],
    card: Annotated[Path | None, typer.Option(metavar="FILE", help="Model card, with Hugging Face's metadata.")] = None,
    bom: Annotated[Path | None, typer.Option(metavar="FILE", help="ML-BOM: CycloneDX 1.6, JSON.")] = None,
    crosswalk: Annotated[
        Path | None,
        typer.Option(
            metavar="FILE", help="Where EU AI Act art. 15, ISO/IEC 24029, NIST AI 100-2 and OWASP AISVS are answered."
        ),
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Write documents from a verified bundle: the model card, a bill of materials, a crosswalk to standards."""
    asked = {"card": card, "bom": bom, "crosswalk": crosswalk}
    files = {kind: file for kind, file in asked.items() if file is not None}
    digests = write_documents(bundle, files)
    if as_json:
        found = {kind: {"file": file.as_posix(), "sha256": digests[kind]} for kind, file in files.items()}
        print_json(found)
        return
    for kind, file in files.items():
        say(f"{kind}: {file} (SHA-256 {digests[kind][:12]}…)")
