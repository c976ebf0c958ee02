"""The command `hallmark`. A refusal is one sentence on stderr and exit 1; wrong usage is exit 2."""

from __future__ import annotations

import signal
from pathlib import Path
from typing import Annotated

import typer

from audit.challenge_commands import challenge as challenge_command
from audit.challenge_commands import prove, withhold
from audit.documents import document
from audit.live_commands import live
from audit.merging import merge_bundles
from audit.options import AsJson, OneSentence, Trust, fail, print_json, say
from audit.release_commands import gate_command, release_command
from audit.signing import sign_bundle
from audit.tables import plain
from audit.verification import UnsignedError, verify
from audit.version_commands import TwoSides, diff, history, show, versions
from bundle.attestation import model_version
from bundle.errors import HallmarkError
from bundle.signatures import PRIVATE_KEY, PUBLIC_KEY, generate_key
from bundle.streams import plain_streams

app = typer.Typer(
    cls=OneSentence,
    help="Lists, compares, gates, releases, signs, verifies and merges the measured robustness of models.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
)

app.command()(versions)
app.command()(show)
app.command(cls=TwoSides)(diff)
app.command("gate")(gate_command)
app.command()(history)
app.command("release")(release_command)
app.command("challenge")(challenge_command)
app.command()(prove)
app.command()(withhold)
app.command()(document)
app.command()(live)


@app.command()
def keygen(
    directory: Annotated[Path, typer.Argument(metavar="DIR", help="Where key.pem and key.pub go.")],
    as_json: AsJson = False,
) -> None:
    """Make an Ed25519 key: key.pem, which stays secret, and key.pub for those who verify."""
    key = generate_key(directory)
    private, public = directory / PRIVATE_KEY, directory / PUBLIC_KEY
    if as_json:
        print_json({"keyId": key, "private": private.as_posix(), "public": public.as_posix()})
    else:
        say(f"Key {key}: {private} (keep it secret) and {public} (give it to those who verify).")


@app.command()
def sign(
    bundle: Annotated[Path, typer.Argument(metavar="BUNDLE", help="The bundle's folder.")],
    key: Annotated[Path, typer.Option(help="The private key, key.pem.")],
    as_json: AsJson = False,
) -> None:
    """Verify a bundle and sign it: DVC's out/bundle as a copy in releases/, any other folder in place."""
    signed = sign_bundle(bundle, key)
    if as_json:
        document = {"folder": signed.folder.as_posix(), "version": signed.version, "keyId": signed.key_id}
        print_json({**document, "written": signed.written})
    elif signed.written:
        say(f"Version {signed.version} signed by {signed.key_id}: {signed.folder}")
    else:
        say(f"Version {signed.version} was already signed by {signed.key_id}: {signed.folder}; nothing changed.")


@app.command("verify")
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


@app.command("merge")
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


def main() -> None:
    """The entry point of `hallmark`."""
    plain_streams()
    signal.signal(signal.SIGTERM, signal.default_int_handler)  # a half-made release is undone, as by Ctrl-C
    app()
