"""The report of an inspection as people read it: on one screen, or everything that was asked."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from rich.table import Table

from audit.live.report import LIMITS, Check, Fresh, LiveAccuracy, Report, Square, told_chance
from audit.terminal import console, percent_in_full, percent_short, plain_table
from bundle.attestation import model_version
from bundle.pages.wording import percent
from bundle.process import plain

#: How questions of images that differ in one level from the evidence end.
CHANGED = ", one level changed"


def print_report(report: Report, everything: bool = False) -> None:
    """Outcome first, then what it rests on, then what it does not show; `everything`: image set by image set."""
    out = console()
    out.print(f"{model_version(report.digest)} at {plain(report.url)}: {report.sentence()}")
    for sentence in report.contradictions():
        out.print(plain(sentence))
    out.print(f"Its evidence verifies: {report.signature.sentence()}")
    out.print(f"{report.answers} answers, of which {len(report.others)} name another model; seed {report.seed}\n")
    out.print(_checks(_each(report) if everything else _summed(report)))
    if everything and report.accuracies:
        out.print(_accuracies(report))
    for sentence in [] if everything else _agreement(report):
        out.print(plain(sentence))
    for sentence in _others(report):
        out.print(plain(sentence))
    _listed("Not checked", report.unchecked)
    _listed("What this does not show", LIMITS)
    if not everything:
        out.print("--all: each set of images by itself")


#: What was asked about, what the answers are held against, and rows: all, contradicted, too close to tell.
Row = tuple[str, str, int, int, int]


def _each(report: Report) -> list[Row]:
    return [_row(item) for item in report.checks]


def _row(item: Check) -> Row:
    return f"{item.name} ({item.way})", item.against, item.asked, item.contradicted, item.close


def _summed(report: Report) -> list[Row]:
    """The evidence's sets and both ways of sending in one; what contradicts stands by itself as well."""
    found: dict[tuple[str, str], list[int]] = {}
    for item in report.checks:
        changed = CHANGED if item.name.endswith(CHANGED) else ""
        name = f"the evidence{changed}" if changed or item.against == "attestation" else item.name
        counts = found.setdefault((name, item.against), [0, 0, 0])
        for place, count in enumerate((item.asked, item.contradicted, item.close)):
            counts[place] += count
    summed: list[Row] = [(*key, counts[0], counts[1], counts[2]) for key, counts in found.items()]
    return summed + [_row(item) for item in report.checks if item.contradicted]


def _checks(rows: Sequence[Row]) -> Table:
    table = plain_table("asked about", "held against", "rows", "contradicted", "too close")
    for row in rows:
        table.add_row(*(plain(str(cell)) for cell in row))
    return table


def _agreement(report: Report) -> Iterator[str]:
    """Whether the answers give the attested accuracies; those that they do not give."""
    others = [item for item in report.accuracies if item.answered["value"] != item.attested["value"]]
    alike = len(report.accuracies) - len(others)
    yield f"Accuracies from the answers: {alike} of {len(report.accuracies)} are the attested ones"
    for item in others:
        both = f"{percent_short(item.answered)}, attested {percent_short(item.attested)}"
        yield f"- {_title(item)} ({item.way}): {both}"


def _title(item: LiveAccuracy) -> str:
    return "clean" if item.threat is None else f"{item.threat}, all attacks"


def _accuracies(report: Report) -> Table:
    table = plain_table("accuracy", "sent as", "from the answers", "attested, same rows")
    for item in report.accuracies:
        table.add_row(plain(_title(item)), item.way, percent_in_full(item.answered), percent_in_full(item.attested))
    return table


def _others(report: Report) -> Iterator[str]:
    for item in report.stability:
        yield f"One level changed ({item.way}): {item.same} of {item.asked} are answered as without the change"
    if report.batch is not None:
        alike = report.batch.asked - report.batch.apart
        yield f"Alone as in a batch: model.onnx, run here, answers {alike} of {report.batch.asked} images alike"
    for item in report.fresh:
        yield _fresh(item)
    if report.square is not None:
        yield _square(report.square)


def _fresh(item: Fresh) -> str:
    lower, upper = (100 * end for end in item.interval)
    between = f"{percent_in_full(item.answered)}; attested, on others, {percent_in_full(item.attested)}"
    return f"Fresh images ({item.way}): {between}; difference [{lower:+.1f}, {upper:+.1f}] points; {told_chance(item)}"


def _square(found: Square) -> str:
    tried = f"Square, {found.queries} queries in {found.threat}: broke {found.broken} of {found.tried} right images"
    if not found.new:
        return f"{tried}, none of them attested right under all attacks ({percent(found.attested['value'])})"
    return (
        f"{tried}; {found.new} of them are attested right under all attacks ({percent(found.attested['value'])}): a "
        "finding, no contradiction: that number is an upper bound, and the true one is lower"
    )


def _listed(title: str, sentences: Sequence[str]) -> None:
    out = console()
    if sentences:
        out.print(f"\n{title}")
        for sentence in sentences:
            out.print(f"- {plain(sentence)}")
