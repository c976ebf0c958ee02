"""The table of versions: one row an attestation, the two settings below one another."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from rich.table import Table
from rich.text import Text

from audit.numbers import autoattack, served_bounds
from audit.tables import ABSENT, console, plain, share_short, signature
from audit.versions import Version
from bundle.headline import headline_threat
from bundle.versions import headline

#: In the order of the two lines of a row.
SETTINGS = ("served", "reference")
LEGEND = (
    "all attacks: right under every attack of the main threat, an upper bound; certified: a lower bound of the named "
    "classifier; 95 % intervals: of the drawing of images"
)


def print_versions(versions: Sequence[Version]) -> None:
    """One row an attestation; what is refused follows below the table, each with its sentence."""
    table = Table()
    for name in ("version", "where", "data", "method", "tier", "setting"):
        table.add_column(name, overflow="fold")
    for name in ("clean", "all attacks", "AutoAttack", "certified", "n"):
        table.add_column(name, justify="right")
    for name in ("flags", "signature"):
        table.add_column(name, overflow="fold")
    for version in versions:
        table.add_row(*_row(version))
    out = console()
    out.print(table)
    refused = [version for version in versions if version.refusal]
    for version in refused:
        out.print(f"refused: {plain(version.places[0])}: {plain(version.refusal)}", soft_wrap=True)
    if refused:
        out.print(f"{len(refused)} of {len(versions)} rows could not be read or trusted")
    if versions:
        out.print(LEGEND)


def _row(version: Version) -> list[str | Text]:
    where = "\n".join(plain(place) for place in version.places)
    if version.statement is None:
        return [ABSENT, where, *[ABSENT] * 10, "refused"]
    top, predicate = headline(version.statement), version.statement["predicate"]
    attacked = autoattack(predicate)
    return [
        plain(top["version"]),
        where,
        plain(top["data"]),
        plain(top["method"]),
        top["tier"],
        "\n".join(SETTINGS),
        _both(top["clean"]),
        f"{_both(top['robust'])}\nat {plain(top['robust']['threat'])}",
        _both(attacked) if attacked else ABSENT,
        _certified(top["certified"], predicate),
        str(top["n"]),
        _flags(top),
        plain(signature(version)),
    ]


def _both(shares: Mapping[str, Any]) -> str:
    return "\n".join(share_short(shares[name]) for name in SETTINGS)


def _certified(bound: Mapping[str, Any] | None, predicate: Mapping[str, Any]) -> str:
    lines: list[str] = []
    trained = headline_threat(predicate).get("eps_255")
    for proof in served_bounds(predicate):
        if proof["eps_255"] == trained:
            lines.append(f"{share_short(proof)}\nserved, linf {trained:g}/255")
    if bound:
        lines.append(f"{share_short(bound)}\n{plain(bound['classifier'])}, l2 {bound['radius']:g}")
    return "\n".join(lines) or ABSENT


def _flags(top: Mapping[str, Any]) -> str | Text:
    count = str(len(top["flags"])) if top["flags"] else "none"
    return count if top["reliable"] else Text(f"UNRELIABLE\n{count}", style="bold red")
