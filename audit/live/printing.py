"""The report of an inspection as people read it."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from rich.table import Table

from audit.live.report import LIMITS, Fresh, Report, Square, told_chance
from audit.tables import console, plain, share_with_interval
from bundle.attestation import model_version
from bundle.wording import percent


def print_report(report: Report) -> None:
    """Outcome first, then what it rests on, then what it does not show."""
    out = console()
    out.print(f"{model_version(report.digest)} at {plain(report.url)}: {report.sentence()}")
    for sentence in report.contradictions():
        out.print(plain(sentence))
    out.print(f"\nIts evidence verifies: {report.signature.sentence()}")
    out.print(f"{report.answers} answers, of which {len(report.others)} name another model; seed {report.seed}\n")
    out.print(_checks(report))
    if report.accuracies:
        out.print(_accuracies(report))
    for sentence in _others(report):
        out.print(plain(sentence))
    _listed("Not checked", report.unchecked)
    _listed("What this does not show", LIMITS)


def _checks(report: Report) -> Table:
    table = Table("asked about", "sent as", "held against", "rows", "contradicted", "too close to tell")
    for item in report.checks:
        counts = map(str, (item.asked, item.contradicted, item.close))
        table.add_row(plain(item.name), item.way, item.against, *counts)
    return table


def _accuracies(report: Report) -> Table:
    table = Table("accuracy", "sent as", "from the answers", "attested, same rows")
    for item in report.accuracies:
        title = "clean" if item.threat is None else f"{plain(item.threat)}, all attacks"
        table.add_row(title, item.way, share_with_interval(item.answered), share_with_interval(item.attested))
    return table


def _others(report: Report) -> Iterator[str]:
    for item in report.stability:
        yield f"One level changed ({item.way}): {item.same} of {item.asked} are answered as without the change"
    if report.alone is not None:
        alike = report.alone.asked - report.alone.apart
        yield f"Alone as in a batch: model.onnx, run here, answers {alike} of {report.alone.asked} images alike"
    for item in report.fresh:
        yield _fresh(item)
    if report.square is not None:
        yield _square(report.square)


def _fresh(item: Fresh) -> str:
    lower, upper = (100 * end for end in item.interval)
    between = f"{share_with_interval(item.answered)}; attested, on others, {share_with_interval(item.attested)}"
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
