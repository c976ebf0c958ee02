"""`hallmark keygen`, `sign`, `gate` and `release`: what a policy asks for, and what is made where it is met."""

from __future__ import annotations

import json
from functools import cache
from pathlib import Path
from typing import Annotated

import typer
from rich.text import Text

from audit.export import sarif
from audit.releasing import find_baseline, release, sign_bundle
from audit.terminal import FAIL, PASS, AsJson, Bundles, Releases, Trust, console, fail, plain_table, print_json, say
from audit.versions.find import BUNDLE, RELEASES, list_versions, open_version
from bundle.bundle import open_bundle
from bundle.digests import write_whole
from bundle.gate.gate import Gate, gate
from bundle.gate.reading import read_policy
from bundle.process import plain
from bundle.signatures import PRIVATE_KEY, PUBLIC_KEY, generate_key

#: Columns in which a rule's measured value, its interval and count have room beside what must be.
ROOM = 160
PolicyFile = Annotated[Path, typer.Option("--policy", metavar="FILE", help="The policy, YAML or JSON.")]
BaselineName = Annotated[
    str | None, typer.Option("--baseline", metavar="VERSION", help="Compare with this version. [default: the last tag]")
]


def gate_command(
    version: Annotated[
        str, typer.Argument(metavar="BUNDLE-OR-VERSION", help="A bundle's folder, a tag, or digits of the SHA-256.")
    ],
    policy: PolicyFile,
    baseline: BaselineName = None,
    bundles: Bundles = None,
    releases: Releases = RELEASES,
    trust: Trust = None,
    sarif_file: Annotated[
        Path | None, typer.Option("--sarif", metavar="FILE", help="Write every rule and its outcome as SARIF 2.1.0.")
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Hold a version against a policy: exit 0 with every rule and its numbers, exit 1 with those that failed."""
    wanted = read_policy(policy)
    at_hand = cache(lambda: list_versions(bundles or [BUNDLE], releases))
    bundle = open_version(version, at_hand)
    before = find_baseline(bundle, baseline, at_hand) if wanted.not_worse else None
    found = gate(bundle, wanted, before, trust or [])
    if sarif_file is not None:
        write_whole(sarif_file, (json.dumps(sarif(found), indent=2) + "\n").encode())
    _answer(found, as_json)


def release_command(
    bundle: Annotated[Path, typer.Argument(metavar="BUNDLE", help="The bundle's folder.")],
    tag: Annotated[str, typer.Option(metavar="NAME", help="The git tag that is made.")],
    policy: PolicyFile,
    key: Annotated[Path | None, typer.Option(help="The private key, key.pem; without one nothing is signed.")] = None,
    name: Annotated[str | None, typer.Option(help="Its name in BentoML's model store.")] = None,
    baseline: BaselineName = None,
    releases: Releases = RELEASES,
    trust: Trust = None,
    as_json: AsJson = False,
) -> None:
    """Gate a bundle, sign it, put it in BentoML's model store and tag the commit that holds its attestation."""
    wanted = read_policy(policy)
    opened = open_bundle(bundle)
    at_hand = cache(lambda: list_versions([bundle], releases))
    before = find_baseline(opened, baseline, at_hand) if wanted.not_worse else None
    found = release(opened, tag, wanted, key=key, name=name, baseline=before, trusted=trust or [])
    if isinstance(found, Gate):
        _answer(found, as_json)
        return
    if as_json:
        print_json(found.describe())
        return
    _print_rules(found.gate)
    say(
        f"Version {opened.version} released: {found.folder}, BentoML model {found.stored.tag}, git tag {found.tag} "
        f"(git push origin {found.tag} shares it)"
    )


def _answer(found: Gate, as_json: bool) -> None:
    if as_json:
        print_json(found.describe())
        if found.failed:
            raise typer.Exit(1)
        return
    _print_rules(found)
    if found.failed:
        fail(found.sentence())
    say(plain(found.sentence()))


def _print_rules(found: Gate) -> None:
    """A rule in a line or two; where a terminal has less than ROOM, only what failed has its words in brackets."""
    table, out = plain_table("", "rule", "must be", "is", whole=("",)), console()
    for rule in found.rules:
        outcome = Text("pass", PASS) if rule.passed else Text("FAIL", FAIL)
        brief = rule.passed and out.width < ROOM
        said = [text.split(" (")[0] if brief else text for text in (rule.required, rule.measured)]
        table.add_row(outcome, plain(rule.name), *map(plain, said))
    out.print(table)


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
