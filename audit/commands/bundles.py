"""`hallmark verify`, `merge` and `document`: what is done with the bundle in a folder.

`document` writes model card, ML-BOM and crosswalk. The first two lie in the bundle as well; here they are rendered anew,
in the words of this release.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated

import typer

from audit.crosswalk import render_crosswalk
from audit.hub import write_hub
from audit.merge.write import merge_bundles
from audit.terminal import AsJson, Trust, fail, is_url, print_json, say
from audit.verification import UnsignedError, verify
from bundle.attestation import model_version
from bundle.bundle import Bundle, open_bundle
from bundle.digests import sha256_bytes, write_whole
from bundle.errors import HallmarkError
from bundle.pages.bom import render_bom
from bundle.pages.card import render_card
from bundle.process import plain


def verify_command(
    bundle: Annotated[Path, typer.Argument(metavar="BUNDLE", help="The bundle's folder.")],
    trust: Trust = None,
    data: Annotated[Path | None, typer.Option(help="A folder like out/data: every row is held against it.")] = None,
    proof: Annotated[Path | None, typer.Option(metavar="FILE", help="Opened rows of private evidence.")] = None,
    challenge: Annotated[Path | None, typer.Option(metavar="FILE", help="Your challenge that they answer.")] = None,
    as_json: AsJson = False,
) -> None:
    """Check every file, claim and image of a bundle, and its signature, if it has one."""
    try:
        _refuse_url(bundle)
        found = verify(bundle, trust or [], data, (proof, challenge))
    except HallmarkError as error:
        if as_json:
            outcome = "consistent but unsigned" if isinstance(error, UnsignedError) else "refused"
            print_json({"outcome": outcome, "reason": str(error)})
            raise typer.Exit(1) from None
        fail(str(error) if isinstance(error, UnsignedError) else f"refused: {error}")
    outcome = {"unsigned": "consistent but unsigned", "unchecked": "signature not checked", "signed": "signed"}
    details = found.details()
    if as_json:
        state = {"outcome": outcome[found.signature.state], "keyId": found.signature.key_id}
        print_json({**state, "sentence": found.signature.sentence(), **details})
        return
    say(f"{model_version(details['model'])}: {found.signature.sentence()}")
    if details["evidence"] == "private":
        say("private evidence: the images are not here, the rows are committed to; see hallmark challenge")
    say("checked: {files} files, {claims} claims, {bounds} bounds, {images} images".format(**details))
    if found.data is not None:
        labels = "index, image and label" if found.data.labels else "index and image (no labels are there)"
        say(f"data: {found.data.rows} rows agree with {data} ({', '.join(found.data.files)}): {labels}")
    if found.proof is not None:
        say(f"proof: {plain(found.proof.sentence())}")


def _refuse_url(bundle: Path) -> None:
    if is_url(bundle):
        url = re.sub("^(https?:)/+", r"\1//", bundle.as_posix())
        raise HallmarkError(
            f"{url}: is an address, not a folder; hallmark live {url} checks the service that answers there, and "
            f"hallmark fetch {url} DIR brings its bundle, which is verified"
        )


def merge_command(
    bundles: Annotated[
        list[Path], typer.Argument(metavar="A B…", help="Folders of bundles of one model, two or more.")
    ],
    out: Annotated[Path, typer.Option("-o", "--out", metavar="DIR", help="A new folder for the merged bundle.")],
    as_json: AsJson = False,
) -> None:
    """Join evaluations of one model image by image: what any of them broke is broken, so a claim can only go down."""
    found = merge_bundles(bundles, out)
    if as_json:
        print_json(found.describe())
        return
    for sentence in found.sentences():
        say(plain(sentence))


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
        raise HallmarkError("nothing to write: name a file with --card, --bom or --crosswalk, or a folder with --hub")
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
    hub: Annotated[
        Path | None,
        typer.Option(metavar="DIR", help="A new folder for `hf upload NAME DIR`: the card, and the bundle."),
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Write documents from a verified bundle: the model card, a bill of materials, a crosswalk to standards."""
    asked = {"card": card, "bom": bom, "crosswalk": crosswalk}
    files = {kind: file for kind, file in asked.items() if file is not None}
    digests = write_documents(bundle, files) if files or hub is None else {}
    if hub is not None:
        write_hub(open_bundle(bundle), hub)
    if as_json:
        found = {kind: {"file": file.as_posix(), "sha256": digests[kind]} for kind, file in files.items()}
        print_json({**found, **({"hub": {"folder": hub.as_posix()}} if hub else {})})
        return
    for kind, file in files.items():
        say(f"{kind}: {file} (SHA-256 {digests[kind][:12]}…)")
    if hub is not None:
        say(f"hub: {hub}; hf upload NAME {hub} publishes it")
