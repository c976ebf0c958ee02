"""How the numbers went: every attestation of git's history in the order of its commits, then those that git has not."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from rich.table import Table

from audit.history import Committed, attestation_commits, unseen
from audit.numbers import autoattack
from audit.tables import ABSENT, console, plain, share_short
from audit.versions import Version, hidden, list_versions, read_committed
from bundle.git import GitError
from bundle.versions import headline

BAR = 10


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


def print_timeline(found: Timeline) -> None:
    """A row an attestation, each share with a bar; served, since that is what a client meets."""
    table = Table()
    for name in ("when", "what", "version", "tier", "clean, served", "all attacks, served", "at", "AutoAttack, served"):
        table.add_column(name)
    for name in ("certified (smoothed)", "flags"):
        table.add_column(name)
    for moment in found.moments:
        table.add_row(*map(plain, _row(moment)))
    out = console()
    out.print(table)
    for sentence in found.left_out:
        out.print(f"left out: {plain(sentence)}", soft_wrap=True)
    if found.left_out:
        out.print(f"{len(found.left_out)} of {len(found.moments) + len(found.left_out)} attestations could not be read")
    out.print(
        "Numbers of different threats, data or tiers do not compare; `hallmark diff A B` compares image by image."
    )


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


def barred(share: Mapping[str, Any] | None) -> str:
    """A share with a bar before it: `████████░░ 80.0 % [67.7, 89.2]`."""
    if share is None:
        return ABSENT
    filled = round(BAR * share["value"])
    return f"{'█' * filled}{'░' * (BAR - filled)} {share_short(share)}"
