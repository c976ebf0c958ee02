"""`hallmark verify` and `hallmark merge`: what is done with bundles as they come."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from audit.merge.write import merge_bundles
from audit.terminal import AsJson, Trust, fail, print_json, say
from audit.verification import UnsignedError, verify
from bundle.attestation import model_version
from bundle.errors import HallmarkError
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
