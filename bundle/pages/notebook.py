"""What notebooks show of a bundle: its headline as a line of text, and as a small table."""

from __future__ import annotations

from collections.abc import Mapping
from html import escape
from typing import Any

from bundle.pages.headline import headline


def headline_line(statement: Mapping[str, Any]) -> str:
    """`5fd209a58da5, digits, D²R-CAG: clean 96.5 %, robust 81.5 % at linf-32, served`, and whether it is unreliable."""
    top = headline(statement)
    clean, robust = (100 * top[name]["served"]["value"] for name in ("clean", "robust"))
    said = f"clean {clean:.1f} %, robust {robust:.1f} % at {top['robust']['threat']}, served"
    return f"{top['version']}, {top['data']}, {top['method']}: {said}{'' if top['reliable'] else '; UNRELIABLE'}"


def headline_html(statement: Mapping[str, Any]) -> str:
    """The headline's numbers with their intervals, in both settings, as HTML."""
    top = headline(statement)
    rows = {
        f"{name}, {setting}": _share(top[name][setting])
        for name in ("clean", "robust")
        for setting in ("served", "reference")
    }
    rows |= {"robust at": top["robust"]["threat"], "images": str(top["n"]), "flags": str(len(top["flags"]) or "none")}
    reliable = "" if top["reliable"] else "UNRELIABLE: a sanity check failed. "
    return html_table(f"{reliable}{top['version']}: {top['data']}, {top['method']}", rows)


def html_table(title: str, rows: Mapping[str, str]) -> str:
    """A caption over rows of a name and a value; every text is escaped."""
    lines = "".join(f"<tr><th>{escape(name)}</th><td>{escape(value)}</td></tr>" for name, value in rows.items())
    return f"<table><caption>{escape(title)}</caption>{lines}</table>"


def _share(claim: Mapping[str, Any] | None) -> str:
    if claim is None:
        return "–"
    lower, upper = (100 * end for end in claim["interval"])
    return f"{100 * claim['value']:.1f} % [{lower:.1f}, {upper:.1f}]"
