"""The commands about private evidence: `withhold` and `prove` are its owner's, `challenge` the auditor's."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated

import typer

from audit.private.challenge import draw_challenge
from audit.private.proof import check_extent
from audit.private.proof import prove as open_rows
from audit.private.withholding import make_private, read_secret
from audit.terminal import AsJson, print_json, say
from bundle.bundle import open_bundle
from bundle.digests import sha256_bytes, write_whole
from bundle.errors import HallmarkError
from bundle.numbers.intervals import most_false
from bundle.private import FIELD


def withhold(
    bundle: Annotated[Path, typer.Argument(metavar="BUNDLE", help="A bundle with its images; it stays as it is.")],
    out: Annotated[
        Path, typer.Option("-o", "--out", metavar="DIR", help="A new folder for the bundle without images.")
    ],
    private: Annotated[Path, typer.Option(metavar="DIR", help="A new folder for what stays with you.")],
    secret: Annotated[
        Path, typer.Option(metavar="FILE", help="64 hexadecimal digits, made where there are none; for every version.")
    ],
    as_json: AsJson = False,
) -> None:
    """Make a bundle that commits to its test images without holding them, to be signed and handed out."""
    made = make_private(bundle, out, private, read_secret(secret))
    root = made.predicate[FIELD]["root"]
    if as_json:
        print_json({"folder": out.as_posix(), "private": private.as_posix(), "version": made.version, "root": root})
        return
    say(f"Version {made.version}: {out}, with a commitment to {len(made.outcomes)} rows in place of the images.")
    say(f"Keep {private} and {secret}: they open the rows, and nothing else can.")
    say(f"A signature does not carry over: hallmark sign {out} --key KEY signs what is handed out.")


def challenge(
    bundle: Annotated[Path, typer.Argument(metavar="BUNDLE", help="A bundle with private evidence.")],
    count: Annotated[int, typer.Option("-k", "--rows", help="How many rows are to be opened.")] = 50,
    seed_from: Annotated[
        str | None,
        typer.Option(metavar="TEXT", help="Draw from this public value instead of the system's entropy."),
    ] = None,
    out: Annotated[Path, typer.Option("-o", "--out", metavar="FILE", help="The challenge.")] = Path("challenge.json"),
    as_json: AsJson = False,
) -> None:
    """Name rows at random that the owner of private evidence is to open; keep the file, the proof is held against it."""
    if out.exists():
        raise HallmarkError(f"{out}: is there already; a challenge is drawn once, so give another name with -o")
    opened = open_bundle(bundle)
    drawn = draw_challenge(opened, count, seed_from)
    check_extent(drawn, opened.predicate, str(out))
    write_whole(out, drawn.encode())
    left = most_false(drawn.of, count)
    if as_json:
        print_json({"challenge": out.as_posix(), **json.loads(drawn.encode()), "mostFalseRows": left})
        return
    say(f"{out}: {count} of {drawn.of} rows, drawn from {drawn.source}.")
    say(f"If all are true, then with 95 % confidence at most {left} rows ({100 * left / drawn.of:.1f} %) are false.")


def prove(
    challenge: Annotated[Path, typer.Argument(metavar="CHALLENGE", help="The auditor's file.")],
    private: Annotated[Path, typer.Option(metavar="DIR", help="The folder that `hallmark withhold` made.")],
    out: Annotated[Path, typer.Option("-o", "--out", metavar="FILE", help="The proof.")] = Path("proof.json"),
    as_json: AsJson = False,
) -> None:
    """Open the rows that a challenge names. The proof holds their images, and no others."""
    content = open_rows(challenge, private)
    write_whole(out, content, mode=0o600)
    if as_json:
        print_json({"proof": out.as_posix(), "sha256": sha256_bytes(content), "bytes": len(content)})
        return
    rows = len(json.loads(content)["rows"])
    say(f"{out}: opens {rows} rows. hallmark verify BUNDLE --proof {out} --challenge {challenge} checks it.")
