"""README in its frame, and the source of the site: every page, with links that hold."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
import typer
import yaml
from PIL import Image

from audit.cli import app
from bundle.errors import HallmarkError
from docs.site import LINK, OUTSIDE, gather, placed

ROOT = Path(__file__).parents[1]
README = (ROOT / "README.md").read_text(encoding="utf-8")


@pytest.fixture(scope="module")
def source(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("site") / "source"
    gather(ROOT, folder)
    return folder


def test_the_readme_is_short_and_shows_two_small_pictures() -> None:
    assert len(README.splitlines()) <= 150
    pictures = re.findall(r"!\[[^\]]+\]\(([^)]+)\)", README)
    assert pictures == ["docs/report.png", "docs/page.png"]
    for name in pictures:
        assert (ROOT / name).stat().st_size < 200_000 and Image.open(ROOT / name).width >= 1000


def test_the_readme_has_the_four_ways_in_and_links_every_page_of_docs() -> None:
    ways = ["I have images", "I have a model", "I was given a bundle or a URL", "I do research"]
    assert re.findall(r"^### (.+)$", README, re.MULTILINE) == ways
    linked = set(re.findall(r"\]\((docs/[\w.-]+)\)", README))
    assert {f"docs/{path.name}" for path in (ROOT / "docs").glob("*.md")} <= linked


def test_what_make_repro_ends_with_is_shown_in_twelve_lines() -> None:
    (shown,) = [block for block in re.findall(r"```\n(.*?)```", README, re.DOTALL) if block.startswith("Version ")]
    assert len(shown.splitlines()) == 12
    assert max(map(len, shown.splitlines())) <= 80


def test_the_table_of_commands_has_every_command() -> None:
    page = (ROOT / "docs" / "commands.md").read_text(encoding="utf-8")
    rows = " ".join(line for line in page.splitlines() if line.startswith("| `hallmark "))
    commands = typer.main.get_command(app).commands  # type: ignore[attr-defined]
    assert [name for name in commands if not re.search(rf"`(hallmark )?{name}\b", rows)] == []


def test_every_link_of_the_site_leads_to_a_file_of_it(source: Path) -> None:
    checked = 0
    for page in source.rglob("*.md"):
        for _, _, target, _ in LINK.findall(page.read_text(encoding="utf-8")):
            if not OUTSIDE.match(target):
                checked += 1
                assert (page.parent / target).is_file(), f"{page.relative_to(source)} links {target}"
    assert checked > 60


def test_the_contents_name_pages_of_the_site_and_none_is_left_out(source: Path) -> None:
    site = yaml.safe_load((ROOT / "mkdocs.yml").read_text())
    named = [page for part in site["nav"] for page in (part if isinstance(part, dict) else {"": [part]}).values()]
    pages = [name for part in named for name in part]
    assert len(set(pages)) == len(pages)
    assert [name for name in pages if not (source / name).is_file()] == []
    assert {path.name for path in source.glob("*.md")} <= set(pages)
    assert (site["docs_dir"], site["site_dir"]) == (".site", "site")


def test_the_python_page_names_what_is_there() -> None:
    from importlib import import_module

    page = (ROOT / "docs" / "python.md").read_text(encoding="utf-8")
    named = re.findall(r"^::: ([\w.]+)(?:\n    options: \{members: \[([\w, ]+)\])?", page, re.MULTILINE)
    assert len(named) >= 6
    for module, members in named:
        assert [name for name in members.split(", ") if name and not hasattr(import_module(module), name)] == []


def test_links_hold_after_pages_moved(tmp_path: Path) -> None:
    (tmp_path / "docs").mkdir()
    (tmp_path / "results").mkdir()
    (tmp_path / "README.md").write_text("[one](docs/one.md#part) [dir](results) [out](https://example.org/docs/x)\n")
    (tmp_path / "docs/one.md").write_text("![`a` picture](one.png) [top](../README.md) [all](../results/README.md)\n")
    (tmp_path / "docs/one.png").write_bytes(b"picture")
    (tmp_path / "results/README.md").write_text("[one](../docs/one.md)\n")
    gather(tmp_path, tmp_path / "site")
    made = {path.relative_to(tmp_path / "site").as_posix() for path in (tmp_path / "site").rglob("*.*")}
    assert made == {"index.md", "one.md", "one.png", "results/README.md"}
    assert (tmp_path / "site/index.md").read_text() == "[one](one.md#part) dir [out](https://example.org/docs/x)\n"
    moved = "![`a` picture](one.png) [top](index.md) [all](results/README.md)\n"
    assert (tmp_path / "site/one.md").read_text() == moved
    assert (tmp_path / "site/results/README.md").read_text() == "[one](../one.md)\n"
    (tmp_path / "README.md").write_text("[gone](docs/two.md)")
    with pytest.raises(HallmarkError, match=r"README\.md: links docs/two\.md"):
        gather(tmp_path, tmp_path / "site")


def test_where_a_page_lies() -> None:
    assert placed(Path("docs/a/b.md")) == Path("a/b.md") and placed(Path("results/README.md")) == Path(
        "results/README.md"
    )
