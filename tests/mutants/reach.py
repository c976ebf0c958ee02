"""Which tests reach a line of bundle/ and audit/, by one run of them under coverage, and how long each takes."""

from __future__ import annotations

import ast
import json
import os
import sys
from collections import defaultdict
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import coverage
import pytest

from tests.mutants.copying import digest, files
from tests.mutants.running import OPTIONS, in_fork

SOURCES = ("bundle", "audit")
TESTS = (
    "tests/bundle",
    "tests/audit",
    "tests/hallmark",
    "tests/test_decoding.py",
    "tests/test_git.py",
    "tests/test_streams.py",
)
#: What else decides which lines a test reaches.
HELPERS = ("bundle/", "audit/", "tests/bundle", "tests/audit", "tests/models.py")
#: What a process that a test starts reaches counts for that test: pytest names it in the environment.
SETTINGS = """[run]
source = {sources}
parallel = true
sigterm = true
data_file = {folder}/data
context = ${{PYTEST_CURRENT_TEST-}}
"""


BLOCKS = (ast.stmt, ast.ExceptHandler)


@dataclass(frozen=True)
class Reach:
    """Of each file the tests by line, none where only importing reaches it; the seconds of each test that passes."""

    lines: dict[str, dict[int, list[str]]]
    seconds: dict[str, float]
    #: Of each file the test files that import it.
    importers: dict[str, set[str]] = field(default_factory=dict)

    def tests(self, file: str, source: str, line: int) -> list[str]:
        """The tests of a mutant in this line, those first whose file imports the mutant's or lies in its room, then the
        quickest.

        What importing runs, as a constant or a default, is of all that reach the file, or the function that it is of, or
        that import the file: which test was the first to do so says nothing. Where nothing was seen to come by, the tests
        of the file's name are asked.
        """
        reached, lines = self.lines.get(file, {}), _lines_of(source, line)
        near = {name for name in self.seconds if name.split("::")[0] in self.importers.get(file, ())}
        found = {name for number in lines for name in reached.get(number, [])}
        if reached.keys().isdisjoint(lines):
            found = {name for name in self.seconds if f"/test_{Path(file).stem}.py::" in name}
        elif _when_imported(source, line):
            found |= near

        def key(name: str) -> tuple[bool, int, float, str]:
            shared = os.path.commonpath([file, name.removeprefix("tests/").split("::")[0]])
            return name not in near, -len(Path(shared).parts), self.seconds[name], name

        return sorted(found & self.seconds.keys(), key=key)


def importers(root: Path, tests: Iterable[str]) -> dict[str, set[str]]:
    """The test files that import a file of ours, by its name."""
    found: dict[str, set[str]] = defaultdict(set)
    for test in tests:
        for node in ast.walk(ast.parse((root / test).read_text(encoding="utf-8"))):
            if isinstance(node, ast.ImportFrom) and (node.module or "").startswith(SOURCES):
                module = (node.module or "").replace(".", "/")
                for name in (module, *(f"{module}/{alias.name}" for alias in node.names)):
                    for file in _files_of(root, name):
                        found[file].add(test)
    return found


def _files_of(root: Path, name: str) -> list[str]:
    """A module's file; of a package that hands on what its files have, all of them."""
    front = root / name / "__init__.py"
    if not front.is_file():
        return [f"{name}.py"]
    handing_on = "import " in front.read_text(encoding="utf-8")
    return [file.relative_to(root).as_posix() for file in ((root / name).glob("*.py") if handing_on else [front])]


def _lines_of(source: str, line: int) -> set[int]:
    """Inside of a function the statement at a line, of a block its head; of a signature the function; else all lines."""
    nodes = _around(source, line)
    function = next((node for node in nodes if isinstance(node, ast.FunctionDef)), None)
    if function is None:
        return set(range(1, source.count("\n") + 1))
    return set(_lines(function)) if nodes[0] is function else {line} | _head(nodes[0])


def _when_imported(source: str, line: int) -> bool:
    """Whether a line runs when its file is imported."""
    nodes = _around(source, line)
    return not any(isinstance(node, ast.FunctionDef) for node in nodes[1:])


def _around(source: str, line: int) -> list[Any]:
    """The statements that hold a line, the innermost first."""
    nodes = [node for node in ast.walk(ast.parse(source)) if isinstance(node, BLOCKS) and line in _lines(node)]
    return sorted(nodes, key=lambda node: len(_lines(node)))


def _head(node: Any) -> set[int]:
    body = getattr(node, "body", None)
    return set(range(_lines(node).start, _lines(body[0]).start) if body else _lines(node))


def _lines(node: Any) -> range:
    decorators = getattr(node, "decorator_list", [])
    return range(min([node.lineno, *(decorator.lineno for decorator in decorators)]), node.end_lineno + 1)


class Recorder:
    """Tells coverage which test runs, and keeps how long each took that passed.

    What a fixture of a module or a session does is of every test that asks for it, not of the first alone.
    """

    def __init__(self, measured: coverage.Coverage) -> None:
        self.measured = measured
        self.fixtures: dict[str, list[str]] = defaultdict(list)
        self.seconds: dict[str, float] = defaultdict(float)
        self.failed: set[str] = set()

    @pytest.hookimpl(wrapper=True)
    def pytest_runtest_protocol(self, item: pytest.Item) -> Iterator[None]:
        _forget()
        for name in getattr(item, "fixturenames", ()):
            self.fixtures[name].append(item.nodeid)
        self.measured.switch_context(item.nodeid)
        done = yield
        self.measured.switch_context("")
        return done

    @pytest.hookimpl(wrapper=True)
    def pytest_fixture_setup(
        self, fixturedef: pytest.FixtureDef[object], request: pytest.FixtureRequest
    ) -> Iterator[None]:
        if fixturedef.scope != "function":
            self.measured.switch_context(f"fixture {fixturedef.argname}")
        try:
            return (yield)
        finally:
            self.measured.switch_context(request._pyfuncitem.nodeid)

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        self.seconds[report.nodeid] += report.duration
        if not report.passed:
            self.failed.add(report.nodeid)

    def passed(self) -> dict[str, float]:
        return {name: seconds for name, seconds in self.seconds.items() if name not in self.failed}


def _forget() -> None:
    """Empties the caches of our modules: what an earlier test left there would hide the way of this one."""
    ours = [module for name, module in sys.modules.items() if name.split(".")[0] in SOURCES]
    for clear in [getattr(value, "cache_clear", None) for module in ours for value in vars(module).values()]:
        if clear:
            clear()


def up_to_date(copy: Path, folder: Path) -> Reach:
    """What is known from `folder`, of test files that changed since by a run of them in the copy."""
    kept = folder / "reach.json"
    known = json.loads(kept.read_text(encoding="utf-8")) if kept.exists() else {}
    tests = [name for name in files() if name.startswith(TESTS) and Path(name).name.startswith("test_")]
    tested = {name: digest([name]) for name in tests}
    others = [name for name in files() if name.startswith(HELPERS) and name.endswith(".py") and name not in tests]
    if known.get("others") != digest(others):
        known = {"others": digest(others), "tested": {}, "lines": {}, "seconds": {}}
    if changed := sorted(name for name in tested if known["tested"].get(name) != tested[name]):
        _merge(known, changed, trace(copy, changed))
        folder.mkdir(exist_ok=True)
        kept.write_text(json.dumps(known | {"tested": tested}), encoding="utf-8")
    lines = {file: {int(line): tests for line, tests in reached.items()} for file, reached in known["lines"].items()}
    return Reach(lines, known["seconds"], importers(copy, tested))


def _merge(known: dict[str, Any], changed: list[str], new: dict[str, Any]) -> None:
    """Forgets what tests of the changed files reached, and adds what they reach now."""
    old = [name for name in known["seconds"] if name.split("::")[0] in changed]
    for name in old:
        del known["seconds"][name]
    known["seconds"] |= new["seconds"]
    for file, lines in new["lines"].items():
        kept = known["lines"].setdefault(file, {})
        for line, tests in lines.items():
            kept[line] = sorted({*kept.get(line, []), *tests} - {*old} | {*tests})


def trace(copy: Path, tests: Sequence[str], seconds: float = 3600) -> dict[str, Any]:
    """Runs test files in the copy under coverage: of each file the tests by line, and the seconds of those that passed."""
    settings, traced = copy.parent / "settings", copy.parent / "traced"
    sources = ", ".join(str(copy / room) for room in SOURCES)
    settings.write_text(SETTINGS.format(sources=sources, folder=copy.parent), encoding="utf-8")
    if in_fork(copy, lambda: _measure(copy, traced, settings, tests), seconds) is None:
        raise SystemExit(f"the tests took more than {seconds:.0f} s")
    return json.loads(traced.read_text(encoding="utf-8"))


def _measure(copy: Path, traced: Path, settings: Path, tests: Sequence[str]) -> int:
    measured = coverage.Coverage(config_file=str(settings))
    os.environ["COVERAGE_PROCESS_START"] = str(settings)
    recorder = Recorder(measured)
    measured.start()
    code = pytest.main([*OPTIONS, f"--basetemp={copy.parent / 'pytest'}", *tests], plugins=[recorder])
    measured.stop()
    measured.save()
    measured.combine()
    traced.write_text(json.dumps(_reached(measured, recorder, copy)), encoding="utf-8")
    return code


def _reached(measured: coverage.Coverage, recorder: Recorder, copy: Path) -> dict[str, object]:
    data = measured.get_data()
    lines = {
        Path(file).relative_to(copy).as_posix(): {
            line: sorted({test for context in contexts for test in _tests(context, recorder)})
            for line, contexts in data.contexts_by_lineno(file).items()
        }
        for file in data.measured_files()
    }
    return {"lines": lines, "seconds": recorder.passed()}


def _tests(context: str, recorder: Recorder) -> list[str]:
    """A context is a test, a fixture's name, or, of a child process, what pytest says: `test (call)`."""
    for part in context.split("|"):
        if part.startswith("fixture "):
            return recorder.fixtures[part.removeprefix("fixture ")]
        if part:
            return [part.rsplit(" (", 1)[0]]
    return []
