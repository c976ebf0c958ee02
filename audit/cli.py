"""The command `hallmark`. A refusal is one sentence on stderr and exit 1; wrong usage is exit 2."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated, Any, NoReturn

import typer
from typer.core import TyperGroup

from audit.merging import merge_bundles
from audit.signing import sign_bundle
from audit.tables import plain, print_version, print_versions
from audit.verification import UnsignedError, verify
from audit.versions import BUNDLE, RELEASES, VersionError, find_version, list_versions, read_folder
from bundle.attestation import model_version
from bundle.errors import HallmarkError
from bundle.signatures import PRIVATE_KEY, PUBLIC_KEY, generate_key


class OneSentence(TyperGroup):
    """Commands whose refusals reach people as one sentence, without a traceback."""

    def invoke(self, ctx: Any) -> Any:
        try:
            return super().invoke(ctx)
        except HallmarkError as error:
            fail(str(error))
        except OSError as error:
            fail(f"{error.filename or 'file'}: {error.strerror or error}")


app = typer.Typer(
    cls=OneSentence,
    help="Lists, shows, signs, verifies and merges the measured robustness of models.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
)

AsJson = Annotated[bool, typer.Option("--json", help="Print one JSON document.")]
Bundles = Annotated[
    list[Path] | None, typer.Option(help="A bundle's folder; may be given again. [default: out/bundle]")
]
Releases = Annotated[Path, typer.Option(help="The folder of signed bundles.")]
Trust = Annotated[list[Path] | None, typer.Option(help="A key.pub to trust; may be given again.")]


@app.command()
def versions(
    bundles: Bundles = None, releases: Releases = RELEASES, trust: Trust = None, as_json: AsJson = False
) -> None:
    """List every version at hand: bundles in folders, attestations in git's tags and branches."""
    found = list_versions(bundles or [BUNDLE], releases, trust or [])
    if as_json:
        print_json({"versions": [version.describe() for version in found]})
    elif found:
        print_versions(found)
    else:
        where = ", ".join(path.as_posix() for path in [*(bundles or [BUNDLE]), releases])
        typer.echo(
            f"No version at hand: no bundle in {where}, no out/bundle/attestation.json in git's tags and branches."
        )


@app.command()
def show(
    version: Annotated[str, typer.Argument(metavar="V", help="Digits of the SHA-256, a tag, or a bundle's folder.")],
    bundles: Bundles = None,
    releases: Releases = RELEASES,
    trust: Trust = None,
    as_json: AsJson = False,
) -> None:
    """Show one version: numbers with intervals, bounds, flags, how it came about, what was not tested."""
    if Path(version).is_dir():
        found = read_folder(Path(version), trust or [])
    else:
        found = find_version(version, list_versions(bundles or [BUNDLE], releases, trust or []))
    if found.statement is None:
        raise VersionError(f"{version}: {found.refusal}")
    if as_json:
        print_json({**found.describe(), "statement": found.statement})
    else:
        print_version(found)


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
        typer.echo(f"Key {key}: {private} (keep it secret) and {public} (give it to those who verify).")


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
        typer.echo(f"Version {signed.version} signed by {signed.key_id}: {signed.folder}")
    else:
        typer.echo(f"Version {signed.version} was already signed by {signed.key_id}: {signed.folder}; nothing changed.")


@app.command("verify")
def verify_command(
    bundle: Annotated[Path, typer.Argument(metavar="BUNDLE", help="The bundle's folder.")],
    trust: Trust = None,
    data: Annotated[Path | None, typer.Option(help="A folder like out/data: every row is held against it.")] = None,
    as_json: AsJson = False,
) -> None:
    """Check every file, claim and image of a bundle, and its signature, if it has one."""
    try:
        found = verify(bundle, trust or [], data)
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
    typer.echo(f"{model_version(details['model'])}: {found.signature.sentence()}")
    typer.echo("checked: {files} files, {claims} claims, {bounds} bounds, {images} images".format(**details))
    if found.data is not None:
        labels = "index, image and label" if found.data.labels else "index and image (no labels are there)"
        typer.echo(f"data: {found.data.rows} rows agree with {data} ({', '.join(found.data.files)}): {labels}")


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
        typer.echo(plain(sentence))


def print_json(document: Any) -> None:
    """One JSON document on stdout."""
    typer.echo(json.dumps(document, indent=2, sort_keys=True, ensure_ascii=False))


def fail(sentence: str) -> NoReturn:
    """One sentence on stderr, exit 1."""
    typer.echo(plain(sentence), err=True)
    raise typer.Exit(1)


def main() -> None:
    """The entry point of `hallmark`."""
    app()
