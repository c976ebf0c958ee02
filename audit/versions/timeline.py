"""How the numbers went: every attestation of git's history in the order of its commits, then those that git has not.

The figure of `hallmark history`: clean, robust and certified accuracy over the versions, as a page and as a picture.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from html import escape
from pathlib import Path
from typing import Any

from rich.table import Table

from audit.terminal import ABSENT, FAIL, console, percent_short, plain_table
from audit.versions.find import Version, autoattack, hidden, list_versions, read_committed
from audit.versions.history import Committed, attestation_commits, unseen
from audit.versions.summary import LEGEND, cut, print_unreliable, short_numbers
from bundle.attestation import model_digest, model_version
from bundle.git import GitError
from bundle.pages.figures import VERSIONS_HEIGHT, Entry, over_versions
from bundle.pages.headline import headline
from bundle.pages.report import STYLE
from bundle.pages.svg import WIDTH
from bundle.process import plain

BAR = 10
#: Columns that the wide table takes where a terminal has fewer.
WIDE = 210


@dataclass(frozen=True)
class Moment:
    """One attestation: its version, and the first commit that held it (None: no commit does)."""

    version: Version
    commit: Committed | None

    @property
    def label(self) -> str:
        """The tag where there is one, else the store's or folder's name of what git has not, else the commit."""
        places = self.version.places
        tag = next((place.name for place in places if place.kind == "tag"), None)
        return tag or (self.commit.name if self.commit else places[0].name)

    @property
    def day(self) -> str | None:
        """The day of the commit, in UTC: `2026-03-01`; a time that no calendar has is told in seconds since 1970."""
        if self.commit is None or self.commit.time is None:
            return None
        try:
            return datetime.fromtimestamp(self.commit.time, UTC).date().isoformat()
        except (ValueError, OverflowError, OSError):  # whoever commits sets the time
            return f"{self.commit.time} s"

    @property
    def numbers(self) -> dict[str, Any]:
        """The headline."""
        assert self.version.statement is not None  # timeline() leaves out what is refused
        return headline(self.version.statement)

    def describe(self) -> dict[str, Any]:
        return {
            "label": self.label,
            "commit": self.commit.name if self.commit else None,
            "time": self.commit.time if self.commit else None,
            **self.version.describe(),
        }


@dataclass(frozen=True)
class Timeline:
    """The moments, oldest first, and why attestations of git's history are not among them, a sentence each.

    `hidden`: why git, the folder of releases or the store cannot tell of all of them; None where they can.
    """

    moments: Sequence[Moment]
    left_out: Sequence[str]
    hidden: str | None


def timeline(bundles: Sequence[Path], releases: Path, trusted: Sequence[Path] = (), root: Path = Path()) -> Timeline:
    """Every attestation once; bundles that do not verify are left out (`hallmark versions` lists them)."""
    listed = list_versions(bundles, releases, trusted, root)
    known = {item.attestation: item for item in listed if item.statement}
    moments: dict[str | None, Moment] = {}
    left_out: list[str] = []
    commits, unread = _commits(root)
    for commit in commits:
        version = read_committed(commit)
        if version.refusal:
            left_out.append(f"commit {commit.name}: {version.refusal}")
        elif version.attestation not in moments:
            moments[version.attestation] = Moment(known.get(version.attestation, version), commit)
    rest = {key: Moment(version, None) for key, version in known.items() if key not in moments}
    return Timeline([*moments.values(), *rest.values()], left_out, unread or next(iter(hidden(listed)), None))


def _commits(root: Path) -> tuple[list[Committed], str | None]:
    """Those of git's history, and why they may not be all."""
    try:
        return attestation_commits(root), unseen(root)
    except GitError as error:
        return [], str(error)


def print_timeline(found: Timeline, wide: bool = False) -> None:
    """One line an attestation, served, since that is what a client meets; `wide` has bars, intervals and flags."""
    out = console(WIDE if wide else 0)
    out.print(_wide_table(found.moments) if wide else _short_table(found.moments))
    for sentence in found.left_out:
        out.print(f"left out: {plain(sentence)}", soft_wrap=True)
    if found.left_out:
        out.print(f"{len(found.left_out)} of {len(found.moments) + len(found.left_out)} attestations could not be read")
    if not wide:
        print_unreliable(out, [moment.version for moment in found.moments])
        out.print(LEGEND, soft_wrap=True)
    out.print("Numbers of different threats, data or tiers do not compare.", soft_wrap=True)
    more = "" if wide else "; intervals and more: hallmark history --wide"
    out.print(f"Image by image: hallmark diff A B{more}", soft_wrap=True)


def _short_table(moments: Sequence[Moment]) -> Table:
    table = plain_table()
    for name in ("when", "what", "version", "data", "clean", "robust", "at", "certified"):
        # Where the terminal is narrow, names are cut and numbers are not.
        named, number = name in ("what", "data"), name in ("clean", "robust")
        table.add_column(name, no_wrap=not named, justify="right" if number else "left")
    for moment in moments:
        statement = moment.version.statement
        assert statement is not None  # timeline() leaves out what is refused
        version, data = model_version(model_digest(statement)), cut(statement["predicate"]["data"]["name"])
        cells = (moment.day or "not in git", cut(moment.label), version, data, *short_numbers(statement))
        table.add_row(*cells, style="" if statement["predicate"]["reliable"] else FAIL)
    return table


def _wide_table(moments: Sequence[Moment]) -> Table:
    """Each accuracy with a bar."""
    table = plain_table()
    for name in ("when", "what", "version", "tier", "clean", "all attacks", "at", "AutoAttack"):
        table.add_column(name, overflow="fold")
    for name in ("certified (smoothed)", "flags"):
        table.add_column(name)
    for moment in moments:
        table.add_row(*map(plain, _row(moment)))
    return table


def _row(moment: Moment) -> list[str]:
    top = moment.numbers
    assert moment.version.statement is not None
    attacked = autoattack(moment.version.statement["predicate"])
    return [
        moment.day or "not in git",
        moment.label,
        top["version"],
        top["tier"],
        barred(top["clean"]["served"]),
        barred(top["robust"]["served"]),
        top["robust"]["threat"],
        barred(attacked["served"]) if attacked else ABSENT,
        f"{barred(top['certified'])} at l2 {top['certified']['radius']:g}" if top["certified"] else ABSENT,
        (str(len(top["flags"])) if top["flags"] else "none") + ("" if top["reliable"] else ", UNRELIABLE"),
    ]


def barred(claim: Mapping[str, Any] | None) -> str:
    """An accuracy with a bar before it: `████████░░ 80.0 % [67.7, 89.2]`."""
    if claim is None:
        return ABSENT
    filled = round(BAR * claim["value"])
    return f"{'█' * filled}{'░' * (BAR - filled)} {percent_short(claim)}"


def timeline_html(moments: Sequence[Moment]) -> str:
    """One self-contained page with the three figures; the same to the byte for the same versions."""
    figures = "".join(f"<figure>{figure}</figure>" for figure in _figures(moments))
    return (
        '<!DOCTYPE html>\n<html lang="en"><head><meta charset="utf-8"><title>Versions</title>'
        f'<meta name="viewport" content="width=device-width"><style>{STYLE}</style></head><body>'
        '<header class="page-header"><h1>Robustness over the versions</h1></header><main class="report">'
        f'{figures}<p class="caption">{escape(_caption(moments))}</p></main></body></html>\n'
    )


def timeline_svg(moments: Sequence[Moment]) -> str:
    """One SVG file with the three figures below one another; it brings its own style."""
    figures = list(_figures(moments))
    size = f'width="{WIDTH}" height="{VERSIONS_HEIGHT:g}"'
    placed = [
        figure.replace('class="figure" ', f'y="{number * VERSIONS_HEIGHT:g}" {size} ', 1)
        for number, figure in enumerate(figures)
    ]
    total = VERSIONS_HEIGHT * len(figures)
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {total:g}" width="{WIDTH}" height="{total:g}">'
        f"<style>{escape(STYLE, quote=False)} svg {{ background: var(--ground); font-family: system-ui, sans-serif; }}</style>"
        f'<g class="report">{"".join(placed)}</g></svg>\n'
    )


def _figures(moments: Sequence[Moment]) -> list[str]:
    return list(over_versions([Entry(moment.label, moment.numbers) for moment in moments]))


def _caption(moments: Sequence[Moment]) -> str:
    last = moments[-1].label
    return (
        f"{len(moments)} attestations, the last one {last}. Whiskers: 95 % Clopper-Pearson intervals, for the drawing of "
        "images. A line joins neighbours of the same data alone; under attack, of the same threat and tier too."
    )
