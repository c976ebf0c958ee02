"""Results as rows of a table for other programs: ours, a row an experiment and radius over its seeds, and the papers'."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from bundle.numbers.claims import ALL_ATTACKS
from bundle.pages.tabular import Rows, TableForm
from bundle.pages.wording import threat_title
from bundle.table.threats import Threat
from pipeline.experiments.comparison import SeedSpread
from pipeline.experiments.published import Published, method_title, network_of
from pipeline.experiments.result import Result, Share

#: Columns of accuracy: the field in which the papers' rows have it, ours, and what people read.
COLUMNS = {
    "clean": (None, "clean"),
    "pgd_10": ("pgd-10", "PGD-10"),
    "pgd_20": ("pgd-20", "PGD-20"),
    "pgd_50": ("pgd-50", "PGD-50"),
    "cw": ("margin-20", "margin-20 / C&W"),
    "margin": ("margin", "margin"),
    "autoattack": ("autoattack", "AutoAttack"),
    "all": (ALL_ATTACKS, "all attacks"),
}
NORMS = {"linf": "l∞", "l2": "l2", "l1": "l1"}


def result_rows(results: Sequence[Result], published: Sequence[Published], form: TableForm) -> Rows:
    """Ours by data set, network and experiment, then the papers'.

    For CSV shares are in [0, 1]: of one seed with `_lower` and `_upper`, the ends of its 95 % Clopper-Pearson interval; of
    several with `_deviation`, the standard deviation over them. Else in per cent, without the columns that would be empty.
    """
    full = form is TableForm.CSV
    rows = [row for runs in _experiments(results) for row in _ours(runs, full)]
    rows += [(_theirs_in_full if full else _theirs)(row) for row in published]
    return rows if full else _without_empty(rows)


def _experiments(results: Sequence[Result]) -> list[list[Result]]:
    """Runs that differ in their seed alone."""
    found: dict[tuple[str, ...], list[Result]] = {}
    for run in results:
        key = (run.data.name, run.sample.split, network_of(run), run.name, str([*map(Threat.of, run.threats)]))
        found.setdefault(key, []).append(run)
    return list(found.values())


def _ours(runs: Sequence[Result], full: bool) -> list[dict[str, Any]]:
    return [(_ours_in_full if full else _ours_in_short)(runs, record) for record in runs[0].threats]


def _shares(runs: Sequence[Result], threat: str) -> dict[str, SeedSpread | None]:
    def over(attack: str | None) -> SeedSpread | None:
        found: list[Share | None] = [run.under(threat, attack) if attack else run.accuracy.clean for run in runs]
        shares = [share for share in found if share is not None]
        return SeedSpread.of(shares) if shares else None

    return {name: over(attack) for name, (attack, _) in COLUMNS.items()}


def _named(runs: Sequence[Result]) -> dict[str, Any]:
    first = runs[0]
    whose = f"ours{', reconstructed' if first.method.reconstructed else ''}"
    whose += ", validation split" if first.sample.split == "validation" else ""
    return {"data": first.data.name, "network": network_of(first), "method": method_title(first), "whose": whose}


def _ours_in_full(runs: Sequence[Result], record: Mapping[str, Any]) -> dict[str, Any]:
    threat = Threat.of(record)
    row = _named(runs) | {"norm": threat.norm, "eps": threat_title(record).split(" ", 1)[1]}
    for name, spread in _shares(runs, threat.name).items():
        row |= _cells(name, spread)
    seeds = " ".join(str(run.seed) for run in runs)
    about = {"images": runs[0].sample.size, "seeds": seeds, "flagged": any(run.flags for run in runs)}
    return row | about | {"selection": runs[0].selection.get("rule", ""), "source": ""}


def _cells(name: str, spread: SeedSpread | None) -> dict[str, Any]:
    one = spread is not None and spread.deviation is None
    return {
        name: "" if spread is None else spread.mean,
        f"{name}_lower": spread.low if spread and one else "",
        f"{name}_upper": spread.high if spread and one else "",
        f"{name}_deviation": spread.deviation if spread and not one else "",
    }


def _theirs_in_full(row: Published) -> dict[str, Any]:
    found: dict[str, Any] = {"data": row.dataset, "network": row.network, "method": row.method, "whose": _whose(row)}
    found |= {"norm": row.norm, "eps": row.eps}
    for name in COLUMNS:
        value = getattr(row, name, None)
        found |= _cells(name, None) | {name: "" if value is None else round(value / 100, 6)}
    about = {"images": "", "seeds": "", "flagged": "", "selection": row.selection, "source": row.source}
    return found | about


def _whose(row: Published) -> str:
    return "published, third party" if row.third_party else "published"


def _ours_in_short(runs: Sequence[Result], record: Mapping[str, Any]) -> dict[str, str]:
    flagged = " (flagged)" if any(run.flags for run in runs) else ""
    found = {
        COLUMNS[name][1]: share.say() if share else "" for name, share in _shares(runs, Threat.of(record).name).items()
    }
    named = _named(runs)
    return named | {"whose": named["whose"] + flagged, "threat": threat_title(record)} | found


def _theirs(row: Published) -> dict[str, str]:
    found = {"data": row.dataset, "network": row.network, "method": row.method, "whose": _whose(row)}
    found |= {"threat": f"{NORMS[row.norm]} {row.eps}"}
    values = {title: getattr(row, name, None) for name, (_, title) in COLUMNS.items()}
    return found | {title: "" if value is None else f"{value:.2f}" for title, value in values.items()}


def _without_empty(rows: Sequence[Mapping[str, str]]) -> Rows:
    used = [name for name in (rows[0] if rows else ()) if any(row[name] for row in rows)]
    return [{name: row[name] for name in used} for row in rows]
