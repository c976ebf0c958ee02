"""`hallmark history`: every attestation of git once, in order, then what git has not; the figure and its lines."""

from __future__ import annotations

import json
import re
import shutil
import xml.dom.minidom
from dataclasses import replace
from pathlib import Path

import pytest
from typer.testing import CliRunner

from audit.cli import app
from audit.versions.timeline import Moment, Timeline, print_timeline, timeline, timeline_svg
from bundle.bundle import open_bundle
from bundle.pages.figures import Entry, over_versions
from tests.audit.conftest import Masters
from tests.audit.versions.test_versions import commit, git
from tests.bundles import make_bundle


@pytest.fixture
def folder(masters: Masters, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Two commits, the first with a tag; the first attestation comes back in a third."""
    (tmp_path / "work").mkdir()
    monkeypatch.chdir(tmp_path / "work")
    monkeypatch.setenv("GIT_CEILING_DIRECTORIES", str(tmp_path))
    git("init", "-b", "main")
    commit(masters.unsigned, "first")
    git("tag", "v1")
    commit(masters.second, "second")
    Path("out/bundle/attestation.json").write_text("{}\n")
    git("commit", "-am", "nonsense")
    commit(masters.unsigned, "the first again")
    shutil.rmtree("out")
    return tmp_path / "work"


def moments() -> list[Moment]:
    return list(timeline([Path("out/bundle")], Path("releases")).moments)


def test_each_attestation_stands_once_where_it_first_came(folder: Path, masters: Masters) -> None:
    """The second has no tag and no branch any more: only the history of commits knows it."""
    first, second = moments()
    assert first.label == "v1"
    assert first.numbers["digest"] == open_bundle(masters.unsigned).digest
    assert second.numbers["digest"] == open_bundle(masters.second).digest
    assert re.fullmatch("[0-9a-f]{10}", second.label)
    assert re.fullmatch(r"\d{4}-\d\d-\d\d", second.day or "")


def test_what_git_has_not_stands_at_the_end(folder: Path, tmp_path: Path) -> None:
    make_bundle(folder / "releases" / "new", seed=4, noise=0.2, tier="quick")
    last = moments()[-1]
    assert (len(moments()), last.label, last.day) == (3, "releases/new", None)
    days = re.findall(r"\d{4}-\d\d-\d\d|not in git", CliRunner().invoke(app, ["history"]).stdout)
    assert days == [*(moment.day for moment in moments()[:2]), "not in git"]


def test_the_command_draws_bars_and_writes_figures(folder: Path) -> None:
    done = CliRunner().invoke(app, ["history", "--wide", "--svg", "h.svg", "--html", "h.html"])
    assert done.exit_code == 0
    assert "██████████ 96.7 % [88.5, 99.6]" in done.stdout
    assert "█████████░ 90.0 % [79.5, 96.2]" in done.stdout
    svg = Path("h.svg").read_text()
    assert xml.dom.minidom.parseString(svg).documentElement.tagName == "svg"
    assert "v1, served: 45.0 % (27 of 60; 32.1 to 58.4 %)" in svg
    page = Path("h.html").read_text()
    assert "Right under all attacks (l∞ 32/255), an upper bound" in page and "<script" not in page
    assert re.search(r"left out: commit [0-9a-f]{10}: attestation\.json: ", done.stdout)
    whole = json.loads(CliRunner().invoke(app, ["history", "--json"]).stdout)
    document = whole["history"]
    assert len(whole["leftOut"]) == 1  # the commit that is none
    assert [item["headline"]["robust"]["served"]["correct"] for item in document] == [27, 20]
    assert document[0]["time"] <= document[1]["time"]


@pytest.mark.parametrize("columns", [80, 120])
def test_an_attestation_is_one_line_and_names_are_cut_where_numbers_are_not(
    folder: Path, columns: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    long = "a-release-whose-name-has-no-room"
    make_bundle(folder / "releases" / long, seed=4, noise=0.2, tier="quick")
    monkeypatch.setenv("COLUMNS", str(columns))
    done = CliRunner().invoke(app, ["history"]).stdout
    shown = [line.rstrip() for line in done.splitlines()]
    first, *rest = [line for line in shown if "32/255" in line]
    assert re.fullmatch(r"\d{4}-\d\d-\d\d  v1 +[0-9a-f]{12}  digits +96\.7 +45\.0  32/255 +\S.*", first)
    assert len(rest) == 2 and rest[1].startswith("not in git") and (long in done) == (columns == 120)
    assert max(len(line) for line in shown if not line.startswith("left out")) <= columns
    assert shown[-1] == "Image by image: hallmark diff A B; intervals and more: hallmark history --wide"


def test_what_is_unreliable_says_so(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (first, *_) = moments()
    assert first.version.statement is not None
    predicate = {**first.version.statement["predicate"], "reliable": False}
    broken = replace(first.version, statement={**first.version.statement, "predicate": predicate})
    print_timeline(Timeline([Moment(broken, first.commit)], [], None))
    said = capsys.readouterr().out
    assert "45.0!" in said and "UNRELIABLE: " in said


def test_without_a_version_it_says_so(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("GIT_CEILING_DIRECTORIES", str(tmp_path.parent))
    git("init", "-b", "main")
    done = CliRunner().invoke(app, ["history", "--svg", "h.svg"])
    assert (done.exit_code, done.stdout.startswith("No version at hand")) == (0, True)
    assert not Path("h.svg").exists()


def test_numbers_of_different_threats_are_not_joined(folder: Path) -> None:
    """A line from 32/255 to 16/255 would show a rise that is no rise."""
    before = timeline_svg(moments())
    make_bundle(folder / "releases" / "narrow", seed=4, noise=0.2, tier="quick", eps=(16,))
    after = timeline_svg(moments())
    drawn = [re.findall(r'<line class="curve (reference|served)"', text) for text in (before, after)]
    assert (len(drawn[0]), len(drawn[1])) == (4, 6)  # clean goes on, two settings; robust does not
    assert "l∞ 32/255, l∞ 16/255" in after


def test_numbers_of_different_tiers_are_not_joined_and_clean_ones_are(folder: Path) -> None:
    """Fewer attacks leave more images right: a line would show a change that is none."""
    drawn: list[list[str]] = []
    for tier in ("thorough", "standard"):
        make_bundle(folder / "releases" / "z", seed=4, noise=0.2, tier=tier)
        picture = timeline_svg(moments())
        figures = picture.split('<svg class="figure"')[1:] or picture.split("<svg ")[2:]
        drawn.append([len(re.findall(r'<line class="curve served"', figure)) for figure in figures[:2]])
        shutil.rmtree(folder / "releases" / "z")
    assert drawn == [[2, 1], [2, 2]]


def test_certified_numbers_of_other_data_are_not_joined(folder: Path) -> None:
    moved = [Entry("a", {**moments()[0].numbers}), Entry("b", {**moments()[1].numbers, "data": "letters"})]
    assert "curve certified" not in "".join(over_versions(moved))
    assert "curve certified" in "".join(over_versions([moved[0], moved[0]]))


def test_a_name_cannot_write_into_the_figure(folder: Path, masters: Masters) -> None:
    shutil.copytree(masters.unsigned, "releases/x")
    git("tag", "a<b>&c", "v1")
    git("tag", "-d", "v1")
    assert "<b>" not in timeline_svg(moments())
    xml.dom.minidom.parseString(timeline_svg(moments()))
