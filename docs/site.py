"""The pages of this repository as the source of a site: in one folder, with links that hold there.

`make docs` gathers them into .site/ and has mkdocs make site/ of it. README becomes the first page; what a page links or
shows is copied beside it; a link to a folder becomes its text.
"""

from __future__ import annotations

import os
import re
import shutil
from collections.abc import Iterator
from pathlib import Path

from bundle.command_line import run_command
from bundle.errors import HallmarkError

ROOT = Path(__file__).resolve().parents[1]
PAGES = ("README.md", "CONTRIBUTING.md", "CHANGELOG.md", "SECURITY.md", "docs/*.md", "benchmarks/*.md", "results/*.md")
#: A link or picture of Markdown: its text, then its target without and with an anchor.
LINK = re.compile(r"(!?)\[((?:[^\[\]]|\[[^\]]*\])*)\]\(([^()\s#]+)(#[^()\s]*)?\)")
OUTSIDE = re.compile(r"[a-z]+:", re.IGNORECASE)


def main() -> None:
    """Gathers README, docs/ and what they link into .site/, from which mkdocs makes the site."""
    gather(ROOT, ROOT / ".site")


def gather(root: Path, folder: Path) -> None:
    """Writes the source of the site into `folder`, which is made anew; raises HallmarkError for a link to nothing."""
    shutil.rmtree(folder, ignore_errors=True)
    pages = [path for pattern in PAGES for path in sorted(root.glob(pattern))]
    for page in pages:
        place = folder / placed(page.relative_to(root))
        place.parent.mkdir(parents=True, exist_ok=True)
        text = page.read_text(encoding="utf-8")
        for linked in _files(root, page, text):
            if linked not in pages:
                _copy(linked, folder / placed(linked.relative_to(root)))
        place.write_text(relinked(root, page, text, set(pages)), encoding="utf-8")


def placed(path: Path) -> Path:
    """Where a file of the repository lies in the site: docs/ is its top, and README its first page."""
    if path == Path("README.md"):
        return Path("index.md")
    return Path(*path.parts[1:]) if path.parts[0] == "docs" else path


def relinked(root: Path, page: Path, text: str, pages: set[Path]) -> str:
    """A page with its links as they must be in the site."""
    here = placed(page.relative_to(root)).parent

    def link(found: re.Match[str]) -> str:
        mark, words, target, anchor = found.groups()
        if OUTSIDE.match(target):
            return found[0]
        path = _resolved(root, page, target)
        if path.is_dir():
            return words
        there = os.path.relpath(placed(path.relative_to(root)), here)
        return f"{mark}[{words}]({Path(there).as_posix()}{anchor or ''})"

    return LINK.sub(link, text)


def _files(root: Path, page: Path, text: str) -> Iterator[Path]:
    """The files of the repository that a page links or shows."""
    for found in LINK.finditer(text):
        if not OUTSIDE.match(found[3]) and (path := _resolved(root, page, found[3])).is_file():
            yield path


def _resolved(root: Path, page: Path, target: str) -> Path:
    path = (page.parent / target).resolve()
    if not path.exists() or not path.is_relative_to(root):
        raise HallmarkError(f"{page.relative_to(root)}: links {target}, which is not in this repository")
    return path


def _copy(path: Path, place: Path) -> None:
    place.parent.mkdir(parents=True, exist_ok=True)
    shutil.copyfile(path, place)


if __name__ == "__main__":
    run_command(main)
