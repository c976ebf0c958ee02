"""What people are told to do: the pages name what is there, `make check` is quick, commits are checked offline."""

from __future__ import annotations

import re
import subprocess
from pathlib import Path

import pytest
import yaml

from tests.imports import ROOMS, ROOT
from tests.processors import TESTS
from tests.quick import QUICK, SLOW, Clock

CONFIG = yaml.safe_load((ROOT / ".pre-commit-config.yaml").read_text(encoding="utf-8"))
HOOKS = {hook["id"]: hook for repository in CONFIG["repos"] for hook in repository["hooks"]}


def tracked() -> list[Path]:
    listed = subprocess.run(["git", "ls-files", "-z"], cwd=ROOT, capture_output=True, encoding="utf-8", check=True)
    return [path for name in listed.stdout.split("\0")[:-1] if (path := ROOT / name).is_file()]


def test_the_guide_names_files_that_are_there() -> None:
    page = (ROOT / "CONTRIBUTING.md").read_text(encoding="utf-8")
    named = {name for name in re.findall(r"`([\w./-]+/[\w.-]+)`|\]\(([\w./-]+)\)", page) for name in name if name}
    named = {name for name in named if not re.search("NAME|FILE", name)}
    assert len(named) > 20
    assert [name for name in sorted(named) if not (ROOT / name).exists()] == []


@pytest.mark.parametrize("page", ["CONTRIBUTING.md", "CHANGELOG.md", "CITATION.cff"])
def test_the_readme_links_the_pages_at_the_top(page: str) -> None:
    assert f"]({page})" in (ROOT / "README.md").read_text(encoding="utf-8") and (ROOT / page).is_file()


def test_the_citation_is_of_this_version() -> None:
    project = (ROOT / "pyproject.toml").read_text(encoding="utf-8")
    citation = yaml.safe_load((ROOT / "CITATION.cff").read_text(encoding="utf-8"))
    assert f'version = "{citation["version"]}"' in project and f'license = "{citation["license"]}"' in project
    assert {"cff-version", "message", "title", "authors"} <= citation.keys()


def test_the_quick_tests_are_there_and_of_every_room() -> None:
    assert [name for name in [*QUICK, *SLOW] if not (ROOT / name).exists()] == []
    assert [name for name in SLOW if not {str(path) for path in Path(name).parents} & {*QUICK}] == []
    assert {room for room in ROOMS if any(name.startswith(f"tests/{room}") for name in QUICK)} == {*ROOMS}


def test_what_other_processors_try_is_there() -> None:
    assert [name for name in TESTS if not (ROOT / name).exists()] == []


def test_a_quick_file_that_takes_too_long_is_named() -> None:
    clock = Clock()
    clock.seconds.update({"tests/test_a.py": 3.0, "tests/test_b.py": 31.0})
    (said,) = clock.late(limit=5)
    assert said == "tests/test_b.py: took 31 s of CPU, a quick file may take 5: name it in SLOW of tests/quick.py"


def test_hooks_need_no_download() -> None:
    assert all(repository["repo"] == "local" for repository in CONFIG["repos"])
    assert {hook["language"] for hook in HOOKS.values()} == {"system", "pygrep"}
    assert {"ruff-check", "ruff-format", "basedpyright", "large-files"} <= HOOKS.keys()


@pytest.mark.parametrize(
    ("hook", "wrong", "right"),
    [
        ("end-of-file", [b"a", b"a\n\n"], b"a\n\nb\n"),
        ("trailing-whitespace", [b"a \n", b"a\t\nb\n", b"a\r\n"], b" a\n"),
    ],
)
def test_the_patterns_find_what_they_are_for_and_nothing_here(hook: str, wrong: list[bytes], right: bytes) -> None:
    flags = re.MULTILINE | (re.DOTALL if "--multiline" in HOOKS[hook].get("args", []) else 0)
    pattern = re.compile(HOOKS[hook]["entry"].encode(), flags)
    assert all(pattern.search(content) for content in wrong) and not pattern.search(right)
    contents = {path: path.read_bytes() for path in tracked()}
    assert [path for path, content in contents.items() if b"\0" not in content and pattern.search(content)] == []


def test_the_help_of_make_is_80_columns_wide() -> None:
    said = subprocess.run(["make", "help"], cwd=ROOT, capture_output=True, encoding="utf-8", check=True).stdout
    assert "check" in said and max(map(len, said.splitlines())) <= 80


def test_text_has_the_same_line_ends_everywhere() -> None:
    """git takes CRLF out of every file that it takes for text, and puts none in."""
    command = ["git", "ls-files", "--eol"]
    lines = subprocess.run(command, cwd=ROOT, capture_output=True, encoding="utf-8", check=True).stdout.splitlines()
    assert [line for line in lines if re.match(r"i/(crlf|mixed)", line)] == []
    assert [line for line in lines if line.startswith("i/lf") and "eol=lf" not in line] == []
