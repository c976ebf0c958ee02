"""Versions on one screen: one of them in a dozen lines, all of them in a line each."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from rich.console import Console
from rich.table import Table
from rich.text import Text

from audit.terminal import ABSENT, FAIL, PASS, console, percent_short, plain_table
from audit.versions.find import BUNDLE, Version, served_bounds
from audit.versions.tables import SETTING_COLUMNS, print_refused, signature
from bundle.attestation import model_digest, model_version
from bundle.layout import REPORT
from bundle.pages.headline import clean_claim, headline, headline_bound, main_names, robust_claim, warnings
from bundle.pages.wording import threat_name_title
from bundle.process import plain

#: Flags that a summary tells; the others are counted.
MOST_FLAGS = 2
#: Main threats that a summary tells of.
MOST_THREATS = 2
#: Columns of the list that are cut where there is no room.
CUT = ("tag", "data", "method")
#: What stands below a list.
LEGEND = "In per cent, served. Robust: an upper bound; certified: a lower bound."
#: What a signature is called in one word.
SIGNED = {
    "attestation only": "git only",
    "unsigned": "no",
    "unchecked": "untried",
    "signed": "yes",
    "invalid": "INVALID",
}


def print_summary(version: Version) -> None:
    """Clean, robust, proved, version and flags, where the report is and what to type next; at most 14 lines."""
    assert version.statement is not None
    predicate, top, out = version.statement["predicate"], headline(version.statement), console()
    named = f"Version {top['version']}: {top['data']}, {top['method']}; {signature(version)}"
    out.print(plain(named), soft_wrap=True)
    for part in (_numbers(predicate), _reliability(predicate))[:: 1 if top["reliable"] else -1]:
        out.print(part, soft_wrap=isinstance(part, Text))
    sample = predicate["sample"]
    out.print(
        f"Robust accuracy is an upper bound; {sample['size']} of {sample['of']} test images, 95 % intervals.",
        soft_wrap=True,
    )
    for line in _next(version):
        out.print(plain(line), soft_wrap=True)


def _numbers(predicate: Mapping[str, Any]) -> Table:
    """Clean and robust accuracy in both settings; what is proved, and about which classifier."""
    table = plain_table("", "served", "reference")
    table.add_row("clean", *(percent_short(clean_claim(predicate, name)) for name in SETTING_COLUMNS))
    for threat in main_names(predicate)[:MOST_THREATS]:
        found = [percent_short(robust_claim(predicate, name, threat)) for name in SETTING_COLUMNS]
        table.add_row(plain(f"robust, {threat_name_title(predicate, threat)}"), *found)
    if proof := farthest_proof(predicate):
        said = "a lower bound" if proof["value"] else "nothing is proved"
        table.add_row(f"proved, l∞ {proof['eps_255']:g}/255", percent_short(proof), said)
    if bound := headline_bound(predicate):
        table.add_row(f"proved, l2 {bound['radius']:g}", percent_short(bound), "smoothed, another classifier")
    return table


def farthest_proof(predicate: Mapping[str, Any]) -> Mapping[str, Any] | None:
    """Of what is proved about the served classifier: the largest radius at which any image is, the smallest if none is.

    None where no proof was tried.
    """
    bounds = sorted(served_bounds(predicate), key=lambda item: (item["eps_255"], item["value"]))
    return next((item for item in reversed(bounds) if item["value"] > 0), bounds[0] if bounds else None)


def _reliability(predicate: Mapping[str, Any]) -> Text:
    found = warnings(predicate)
    if not found:
        return Text("Flags: none; every sanity check passed", style=PASS)
    more = f"; {len(found) - MOST_FLAGS} more" if len(found) > MOST_FLAGS else ""
    said = "Flags" if predicate["reliable"] else "UNRELIABLE, the truth may be much worse"
    return Text(plain(f"{said}: {' '.join(found[:MOST_FLAGS])}{more}"), style=FAIL if not predicate["reliable"] else "")


def _next(version: Version) -> Iterator[str]:
    """Where the report is, and what is typed next."""
    place = version.places[0]
    if place.kind == "url":
        yield f"Next: hallmark live {place.name}"
        yield f"      hallmark fetch {place.name} DIR"
        return
    name = version.folder.as_posix() if version.folder else (version.attestation or "")[:12]
    if version.folder is None:
        yield "Only the attestation is at hand, not its bundle: nothing of it could be recomputed."
        yield f"Next: hallmark show {name} --all"
        return
    yield f"Report: {(version.folder / REPORT).as_posix()}"
    serve = "make serve" if version.folder == BUNDLE else f"python -m serving --bundle {name}"
    yield f"Next: {serve}"
    yield f"      hallmark verify {name}"
    yield f"      hallmark show {name} --all"


def print_list(versions: Sequence[Version]) -> None:
    """One line an attestation; what is refused, and what is unreliable, follows below the table."""
    table = plain_table()
    for name in ("version", "tag", "data", "method", "clean", "robust", "at", "certified", "signed"):
        # Where the terminal is narrow, names are cut and numbers are not.
        table.add_column(name, no_wrap=name not in CUT, justify="right" if name in ("clean", "robust") else "left")
    for version in versions:
        if version.statement is not None:
            table.add_row(*_line(version), style="" if version.statement["predicate"]["reliable"] else FAIL)
    out = console()
    if table.row_count:
        out.print(table)
    print_refused(out, versions)
    print_unreliable(out, versions)
    if table.row_count:
        out.print(LEGEND, soft_wrap=True)
        out.print("Intervals and more: hallmark versions --wide", soft_wrap=True)


def print_unreliable(out: Console, versions: Sequence[Version]) -> None:
    """A sentence for each version of which a sanity check failed."""
    for version in versions:
        if version.statement is not None and not version.statement["predicate"]["reliable"]:
            out.print(
                f"UNRELIABLE: {_name(version)}: a sanity check failed, the truth may be much worse", soft_wrap=True
            )


def _line(version: Version) -> list[str | Text]:
    assert version.statement is not None
    predicate = version.statement["predicate"]
    word = SIGNED[version.signature]
    return [
        model_version(model_digest(version.statement)),
        *map(cut, (_tags(version), predicate["data"]["name"], predicate["method"]["name"])),
        *short_numbers(version.statement),
        Text(word, style={"yes": PASS, "INVALID": FAIL}.get(word, "")),
    ]


def short_numbers(statement: Mapping[str, Any]) -> tuple[str, str, str, str]:
    """Clean and robust accuracy, the radius of the latter, and what is certified, each in a few characters."""
    top, predicate = headline(statement), statement["predicate"]
    robust = _share(top["robust"]["served"]) + ("" if predicate["reliable"] else "!")
    return _share(top["clean"]["served"]), robust, plain(_ball(top["robust"])), _certified(predicate)


def _tags(version: Version) -> str:
    """The first tag, and how many more there are."""
    tags = [place.name for place in version.places if place.kind == "tag"]
    return ABSENT if not tags else tags[0] + (f" +{len(tags) - 1}" if tags[1:] else "")


def cut(name: str) -> Text:
    """A name that is cut where its column has no room."""
    return Text(plain(name), no_wrap=True, overflow="ellipsis")


def _share(claim: Mapping[str, Any] | None) -> str:
    return ABSENT if claim is None else f"{100 * claim['value']:.1f}"


def _ball(robust: Mapping[str, Any]) -> str:
    norm = robust["threat"].split("-")[0]
    return f"{robust['eps_255']:g}/255" if "eps_255" in robust else f"{norm} {robust['eps']:g}"


def _certified(predicate: Mapping[str, Any]) -> str:
    """What is proved about the served classifier, at the largest radius; else about its smoothed form, in brackets."""
    if proof := farthest_proof(predicate):
        return f"{_share(proof)} {proof['eps_255']:g}/255"
    bound = headline_bound(predicate)
    return f"({_share(bound)} l2 {bound['radius']:g})" if bound else ABSENT


def _name(version: Version) -> str:
    assert version.statement is not None
    return model_version(model_digest(version.statement))
