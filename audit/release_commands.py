"""`hallmark gate` and `release`: what a policy asks for, and what is made where it is met."""

from __future__ import annotations

from functools import cache
from pathlib import Path
from typing import Annotated

import typer
from rich.table import Table

from audit.baseline import find_baseline
from audit.options import AsJson, Bundles, Releases, Trust, fail, print_json, say
from audit.release import release
from audit.tables import console, plain
from audit.versions import BUNDLE, RELEASES, list_versions, open_version
from bundle.bundle import open_bundle
from bundle.gate.gate import Gate, gate
from bundle.gate.reading import read_policy

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
    as_json: AsJson = False,
) -> None:
    """Hold a version against a policy: exit 0 with every rule and its numbers, exit 1 with those that failed."""
    wanted = read_policy(policy)
    at_hand = cache(lambda: list_versions(bundles or [BUNDLE], releases))
    bundle = open_version(version, at_hand)
    before = find_baseline(bundle, baseline, at_hand) if wanted.not_worse else None
    _answer(gate(bundle, wanted, before, trust or []), as_json)


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
    table = Table("rule", "must be", "is", "outcome")
    for rule in found.rules:
        table.add_row(plain(rule.name), plain(rule.required), plain(rule.measured), "pass" if rule.passed else "FAIL")
    console().print(table)
