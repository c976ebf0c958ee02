"""The tool that counts how many small faults the tests notice: python -m tests.mutants."""

from __future__ import annotations

import ast
import importlib
import itertools
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from tests.mutants import __main__ as command
from tests.mutants.judging import Mutant, Result, judge, read, results, within_limit
from tests.mutants.reach import Reach, importers

SOURCE = '''"""A toy."""

FIVE = 5


def capped(number: int | None) -> int:
    if number is None:
        return 0
    return (
        number
        if number < FIVE
        else FIVE
    )
'''
TEST = """from bundle.toy import capped

def test_small(): assert capped(1) == 1
def test_large(): assert capped(9) == 5
"""
FILE = "bundle/toy.py"
SMALL, LARGE = "tests/test_caps.py::test_small", "tests/test_caps.py::test_large"
REACH = Reach({FILE: {3: [], 6: [], 7: [SMALL, LARGE], 10: [SMALL], 11: [SMALL, LARGE]}}, {SMALL: 0.2, LARGE: 0.1})
BOUND = Mutant(FILE, 11, 18, "ReplaceComparisonOperator_Lt_LtE", 0)
STATES = ("sources", "tests")


@pytest.fixture
def copy(tmp_path: Path) -> Path:
    tree = tmp_path / "tree"
    for name, content in ((FILE, SOURCE), ("tests/test_caps.py", TEST), ("tests/__init__.py", "")):
        (tree / name).parent.mkdir(parents=True, exist_ok=True)
        (tree / name).write_text(content, encoding="utf-8")
    return tree


def tried(copy: Path, before: str, after: str, line: int) -> Result:
    assert before in SOURCE
    return judge(copy, replace(BOUND, line=line), SOURCE.replace(before, after), REACH, 9.0, STATES)


def test_a_fault_that_a_test_notices_is_killed_by_it_and_mended(copy: Path) -> None:
    result = tried(copy, "number < FIVE", "number > FIVE", 11)
    assert (result.verdict, result.test, result.change) == ("killed", LARGE, "if number > FIVE")
    assert (copy / FILE).read_text(encoding="utf-8") == SOURCE


def test_a_fault_that_changes_nothing_survives(copy: Path) -> None:
    result = tried(copy, "number < FIVE", "number <= FIVE", 11)
    assert (result.verdict, result.test, result.ran) == ("survived", "", 2)


def test_mutants_of_the_same_length_are_told_apart(copy: Path) -> None:
    verdicts = [tried(copy, "FIVE = 5", f"FIVE = {number}", 3).verdict for number in (5, 6, 5)]
    assert verdicts == ["survived", "killed", "survived"]


def test_what_does_not_end_is_stopped(copy: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tests.mutants.running.WAITING", 1.0)
    assert tried(copy, "return 0", "return 0\n    while True: pass", 8).verdict == "survived"  # which no test reaches
    assert tried(copy, "    return (", "    while number: pass\n    return (", 7).verdict == "timeout"


@pytest.mark.parametrize(
    ("line", "tests"),
    [
        (3, [LARGE, SMALL]),  # a constant: all that reach the file, the quickest first
        (6, [LARGE, SMALL]),  # a signature: all that reach the function
        (8, []),  # no test comes by
        (12, [LARGE, SMALL]),  # a line of a statement that they reach
    ],
)
def test_the_tests_of_a_line(line: int, tests: list[str]) -> None:
    assert REACH.tests(FILE, SOURCE, line) == tests


def test_tests_whose_file_imports_the_mutants_come_first_and_read_its_constants() -> None:
    near, far, other = "tests/audit/test_x.py::a", "tests/bundle/test_y.py::a", "tests/audit/test_x.py::b"
    reach = Reach({FILE: {3: [], 7: [far, near]}}, {near: 9.0, far: 0.1, other: 5.0}, {FILE: {"tests/audit/test_x.py"}})
    assert reach.tests(FILE, SOURCE, 7) == [near, far]
    assert reach.tests(FILE, SOURCE, 3) == [other, near, far]


def test_imports_are_found_in_each_form(tmp_path: Path) -> None:
    (tmp_path / "test_x.py").write_text("from bundle.toy import capped\nfrom bundle import toy, other\nimport json\n")
    found = importers(tmp_path, ["test_x.py"])
    assert found["bundle/toy.py"] == found["bundle/other.py"] == {"test_x.py"} and "json.py" not in found


def test_where_none_was_seen_the_tests_of_that_name_are_asked() -> None:
    mirrored = "tests/bundle/test_toy.py::test_child"
    assert replace(REACH, seconds={mirrored: 1.0, SMALL: 0.1}).tests("bundle/toy.py", SOURCE, 8) == [mirrored]


def test_the_slowest_tests_are_left_out_but_one_is_run() -> None:
    seconds = {"a": 0.6, "b": 0.6, "c": 2.0}
    assert within_limit(["a", "b", "c"], seconds, 1.0) == ["a"] and within_limit(["c"], seconds, 1.0) == ["c"]


def test_a_run_goes_on_where_it_was_stopped(copy: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    kept = tmp_path / "results.jsonl"
    drawn = [(BOUND, SOURCE.replace("<", ">")), (replace(BOUND, occurrence=1), SOURCE.replace("<", "<="))]
    monkeypatch.setattr("tests.mutants.judging._state", lambda: STATES)
    first = list(results(copy, drawn, REACH, kept, 9.0))
    assert [item.verdict for item in first] == ["killed", "survived"] and read(kept) == first
    kept.write_text(kept.read_text(encoding="utf-8") + '{"mutant": "cut o', encoding="utf-8")
    monkeypatch.setattr("tests.mutants.judging.judge", lambda *_: pytest.fail("tried again"))
    assert list(results(copy, drawn, REACH, kept, 9.0)) == first
    monkeypatch.setattr("tests.mutants.judging._state", lambda: ("sources", "other tests"))
    again = replace(first[1], verdict="killed", tests="other tests")
    monkeypatch.setattr("tests.mutants.judging.judge", lambda *_: again)
    assert list(results(copy, drawn, REACH, kept, 9.0)) == [first[0], again]


def test_the_report_counts_by_room_and_names_what_says_nothing() -> None:
    killed = Result("audit/a.py:1:0 X 0", "x", "killed", SMALL, 1, 1, 9.0, *STATES)
    survived = replace(killed, mutant="bundle/b.py:7:0 Y 0", verdict="survived", test="", ran=2, reaching=3)
    lines = list(command.report([killed, replace(killed, verdict="timeout", test=""), survived], {SMALL}))
    assert lines[0] == "survived 2 of 3 tests: bundle/b.py:7:0 Y 0\n    x"
    assert lines[1] == f"fails without a mutant too: {SMALL}, which killed 1"
    assert lines[2].startswith("audit: 2 of 2 killed (1 by a timeout), 0 survived: 100.0% (95 %: 15.8% to 100.0%)")
    assert lines[4].startswith("all: 2 of 3 killed")


def test_without_cosmic_ray_it_says_how_to_install_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "cosmic_ray", None)
    with pytest.raises(command.HallmarkError, match=r"^cosmic-ray is missing: .*pip install cosmic-ray"):
        command.main()


class TestDrawing:
    """Of cosmic-ray, which the lock does not have."""

    @pytest.fixture
    def drawing(self) -> Any:
        pytest.importorskip("cosmic_ray")
        return importlib.import_module("tests.mutants.drawing")

    def test_a_sample_is_the_seeds(self, drawing: Any, copy: Path) -> None:
        first, again, other = ([*drawing.sample(copy, [FILE], 4, seed)] for seed in (1, 1, 2))
        assert first == again != other and len({(mutant.line, mutant.column) for mutant, _ in first}) == 4
        assert all(code != SOURCE for _, code in first)

    def test_a_change_is_in_the_line_that_is_named(self, drawing: Any) -> None:
        """Operators count their places; a place that is not used, as an assertion, counts too."""
        source = SOURCE.replace("    if number", "    assert number != 7\n    if number", 1)
        for mutant in itertools.chain(*drawing.of_file(FILE, source).values()):
            pairs = zip(source.splitlines(), (drawing.changed(mutant, source) or source).splitlines(), strict=True)
            assert {number for number, (old, new) in enumerate(pairs, 1) if old != new} <= {mutant.line}

    def test_no_annotation_is_changed(self, drawing: Any) -> None:
        found = drawing.of_file(FILE, SOURCE)
        assert {(line, family) for line, _, family in found} == {
            *((3, "NumberReplacer"), (7, "AddNot"), (7, "ReplaceComparisonOperator"), (8, "NumberReplacer")),
            *((11, "AddNot"), (11, "ReplaceComparisonOperator")),
        }

    @pytest.mark.parametrize(
        "source",
        [
            "Name = int | None",
            "if TYPE_CHECKING:\n    x = 1",
            'if __name__ == "__main__":\n    x = 1',
            "@cache\ndef f(): pass",
            "@lru_cache(maxsize=7)\ndef f(): pass",
            "isinstance(x, int | str)",
            "def f(a: int | None = None) -> int | None: ...",
            "x: int | None",
            "def f(a, *, b): ...",
        ],
    )
    def test_what_no_test_can_notice_is_left_out(self, drawing: Any, source: str) -> None:
        assert drawing.of_file(FILE, source) == {}

    def test_a_change_that_is_no_python_or_the_same_is_none(self, drawing: Any) -> None:
        for source in ("x = {**y, 'z': w}", "x = not y in z"):
            for mutant in itertools.chain(*drawing.of_file(FILE, source).values()):
                code = drawing.changed(mutant, source)
                assert code is None or ast.dump(ast.parse(code)) != ast.dump(ast.parse(source))
