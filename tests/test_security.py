"""SECURITY.md: every promise names a test, and every test that it names is there."""

from __future__ import annotations

import ast
import re
from pathlib import Path

TESTS = Path(__file__).parent
PAGE = (TESTS.parent / "SECURITY.md").read_text(encoding="utf-8")
NAMED = re.compile(r"`([\w/]+\.py)::(\w+)`")


def functions(path: Path) -> set[str]:
    """The tests that pytest finds in a file's own body."""
    body = ast.parse(path.read_text(encoding="utf-8")).body
    return {item.name for item in body if isinstance(item, ast.FunctionDef | ast.AsyncFunctionDef)}


def test_every_test_that_is_named_exists() -> None:
    named = NAMED.findall(PAGE)
    assert len(named) > 40 and all(name.startswith("test_") for _, name in named)
    absent = [f"{file}::{name}" for file, name in named if name not in functions(TESTS / file)]
    assert absent == []


def test_every_promise_names_one() -> None:
    rows = [line for line in PAGE.splitlines() if line.startswith("|") and not line.startswith(("|---", "| promise"))]
    assert len(rows) > 20
    assert [row for row in rows if not re.fullmatch(rf"\| [^|]+ \| {NAMED.pattern}(, {NAMED.pattern})* \|", row)] == []


def test_the_page_is_short_and_every_section_has_its_limits() -> None:
    assert len(PAGE.splitlines()) <= 120
    sections = PAGE.split("\n## ")[2:]
    assert len(sections) == 6 and all("\nNot promised: " in section for section in sections)


def test_nobody_is_sent_to_an_address_that_does_not_exist() -> None:
    assert "private vulnerability reporting" in PAGE and not re.search(r"\S+@\S+\.\w+|https?://", PAGE)
