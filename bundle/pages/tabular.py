"""Tables for other programs: CSV with numbers as they are, Markdown and LaTeX as people read them."""

from __future__ import annotations

import csv
import io
from collections.abc import Mapping, Sequence
from enum import StrEnum
from typing import Annotated, Any

import typer

from bundle.errors import HallmarkError
from bundle.pages.card import plain

AsCsv = Annotated[bool, typer.Option("--csv", help="Print CSV: every number as it is, shares in [0, 1].")]
AsLatex = Annotated[bool, typer.Option("--latex", help="Print a LaTeX table (booktabs), in per cent.")]
AsMarkdown = Annotated[bool, typer.Option("--markdown", help="Print a Markdown table, in per cent.")]
Rows = Sequence[Mapping[str, Any]]
#: Characters that LaTeX would take for commands, and signs that it has commands for.
LATEX = {
    **{char: f"\\{char}" for char in "&%$#_{}"},
    **{"\\": r"\textbackslash{}", "~": r"\textasciitilde{}", "^": r"\textasciicircum{}"},
    **{
        "−": "$-$",
        "∞": r"$\infty$",
        "≥": r"$\ge$",
        "²": r"\textsuperscript{2}",
        "σ": r"$\sigma$",
        "→": r"$\to$",
        "–": "--",
    },
}


class TableForm(StrEnum):
    """What a table is printed as."""

    CSV = "csv"
    LATEX = "latex"
    MARKDOWN = "markdown"


def one_form(as_csv: bool, as_latex: bool, as_markdown: bool, **other: bool) -> TableForm | None:
    """The form that was asked for; None for none. Raises HallmarkError where two were, `other` options among them."""
    asked = {TableForm.CSV: as_csv, TableForm.LATEX: as_latex, TableForm.MARKDOWN: as_markdown}
    found = [form for form, wanted in asked.items() if wanted]
    if len(found) + sum(other.values()) > 1:
        raise HallmarkError(f"give one of --csv, --latex, --markdown and {' and '.join(f'--{name}' for name in other)}")
    return found[0] if found else None


def table_text(rows: Rows, form: TableForm) -> str:
    """Rows with the same keys, which are the heads, as text in a form; without a line break at its end."""
    heads = list(rows[0]) if rows else []
    if form is TableForm.CSV:
        text = io.StringIO()
        writer = csv.writer(text, lineterminator="\n")
        writer.writerows([heads, *([_cell(row[name]) for name in heads] for row in rows)])
        return text.getvalue().rstrip("\n")
    cells = [[str(row[name]) for name in heads] for row in rows]
    return (_markdown if form is TableForm.MARKDOWN else _latex)(heads, cells)


def _cell(value: Any) -> Any:
    """A spreadsheet would run a text that begins like a formula: it is told that it is text."""
    return f"'{value}" if isinstance(value, str) and value[:1] in ("=", "+", "-", "@", "\t", "\r") else value


def _markdown(heads: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    marked = [heads, *([plain(cell) for cell in line] for line in rows)]
    lines = [f"| {' | '.join(line)} |" for line in marked]
    return "\n".join([lines[0], "|---" * len(heads) + "|", *lines[1:]])


def _latex(heads: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    def line(cells: Sequence[str]) -> str:
        return " & ".join("".join(LATEX.get(char, char) for char in " ".join(cell.split())) for cell in cells) + r" \\"

    columns = "l" * len(heads)
    body = "\n".join(map(line, rows))
    return (
        f"\\begin{{tabular}}{{{columns}}}\n\\toprule\n{line(heads)}\n\\midrule\n{body}\n\\bottomrule\n\\end{{tabular}}"
    )
