"""Chosen tests in a fork of this process, which has the libraries loaded: starting costs a fraction of a second."""

from __future__ import annotations

import ctypes
import gc
import importlib
import os
import signal
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import NoReturn

import psutil
import pytest

#: Slow to import, and none of them starts a thread by it: a fork loses threads.
LIBRARIES = (
    *("numpy", "scipy.special", "scipy.stats", "PIL.Image", "pyarrow.parquet", "onnx", "onnxruntime", "torch", "yaml"),
    *("sklearn.datasets", "sklearn.linear_model", "safetensors.numpy", "cryptography.x509", "jsonschema", "jinja2"),
    *("rich.console", "typer.testing", "hypothesis", "starlette.testclient", "requests", "pydantic", "uvicorn"),
    *("prometheus_client", "_hypothesis_pytestplugin"),
)
#: No other plugin is used by these tests, and to look for them takes longer than most.
OPTIONS = (
    *("-q", "-p", "no:cacheprovider", "--disable-plugin-autoload", "-p", "_hypothesis_pytestplugin"),
    "--hypothesis-seed=0",
)
#: What the copy has in place of the checkout.
ROOMS = ("audit", "bundle", "hallmark", "pipeline", "serving", "tests")
#: A test may take so many times as long as it did, and these seconds: fixtures may be made that were there before.
PATIENCE, WAITING = 10.0, 30.0
#: Tests whose files are collected first.
FIRST = 6
#: pytest's exit code where it found none of the tests: no test has failed.
EMPTY = int(pytest.ExitCode.NO_TESTS_COLLECTED)
#: prctl's PR_SET_CHILD_SUBREAPER: what a killed test leaves behind comes to this process, which ends it.
SUBREAPER = 36


class Chosen:
    """Keeps of what pytest collects the named tests, in their order, and writes down those that fail.

    The alarm ends the process where a test takes far longer than it did: many tests together may take long, one may not.
    """

    def __init__(self, tests: Mapping[str, float], failed: Path) -> None:
        self.order = {name: place for place, name in enumerate(tests)}
        self.tests, self.failed = tests, failed

    def pytest_collection_modifyitems(self, items: list[pytest.Item]) -> None:
        items[:] = sorted((i for i in items if i.nodeid in self.order), key=lambda item: self.order[item.nodeid])

    @pytest.hookimpl(wrapper=True)
    def pytest_runtest_protocol(self, item: pytest.Item) -> Iterator[None]:
        signal.setitimer(signal.ITIMER_REAL, WAITING + PATIENCE * self.tests[item.nodeid])
        done = yield
        signal.setitimer(signal.ITIMER_REAL, 0)
        return done

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        if report.failed:
            with self.failed.open("a", encoding="utf-8") as lines:
                lines.write(f"{report.nodeid}\n")


def prepare(copy: Path) -> None:
    """Loads the libraries; child processes of tests find the copy's packages, write no bytecode and use one thread."""
    os.environ |= {"PYTHONPATH": str(copy), "OMP_NUM_THREADS": "1", "OMP_WAIT_POLICY": "PASSIVE"}
    for name in LIBRARIES:
        importlib.import_module(name)
    ctypes.CDLL(None).prctl(SUBREAPER, 1, 0, 0, 0)
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(128 + signal.SIGTERM))
    gc.freeze()  # pages that no child's collector writes to stay shared


def run_tests(copy: Path, tests: Mapping[str, float], *options: str) -> tuple[str, list[str]]:
    """Runs tests in the copy, each with the seconds that it took: `survived`, `killed` or `timeout`, and which failed.

    The option `-x` ends it at the first that fails.
    """
    failed = copy.parent / "failed"
    failed.unlink(missing_ok=True)
    most = 4 * WAITING + PATIENCE * sum(tests.values())
    code = in_fork(copy, lambda: _pytest(copy, tests, failed, options), most)
    names = failed.read_text(encoding="utf-8").splitlines() if failed.exists() else []
    return "timeout" if code in (None, -signal.SIGALRM) else "killed" if code else "survived", names


def _pytest(copy: Path, tests: Mapping[str, float], failed: Path, options: Sequence[str]) -> int:
    """The first few tests need few test files, and mostly decide."""
    always = [*OPTIONS, f"--basetemp={copy.parent / 'pytest'}"]
    code, names = 0, list(tests)
    for part in filter(None, (names[:FIRST], names[FIRST:])):
        chosen = Chosen({name: tests[name] for name in part}, failed)
        files = list(dict.fromkeys(name.split("::")[0] for name in part))
        code = max(code, int(pytest.main([*always, *options, *files], plugins=[chosen])) % EMPTY)
        if code and "-x" in options:
            break
    return code


def in_fork(copy: Path, work: Callable[[], int], seconds: float) -> int | None:
    """The exit code of `work` in a child whose modules are the copy's, output in a file beside it; None after a timeout."""
    others = set(psutil.Process().children())
    child = os.fork()
    if not child:
        _work(copy, work)
    try:
        status = _wait(child, time.monotonic() + seconds, everyone=not others)
    finally:
        _end_children(others)
    return None if status is None else os.waitstatus_to_exitcode(status)


def _end_children(others: set[psutil.Process]) -> None:
    """All but the others, and what they started; what is left alone by its parent comes to this process, and goes next."""
    while children := set(psutil.Process().children()) - others:
        for left in [*children, *(deeper for child in children for deeper in _below(child))]:
            with suppress(psutil.NoSuchProcess):
                left.kill()
        psutil.wait_procs(children)


def _below(process: psutil.Process) -> list[psutil.Process]:
    with suppress(psutil.NoSuchProcess):
        return process.children(recursive=True)
    return []


def _wait(child: int, until: float, everyone: bool) -> int | None:
    """How the child ended, before then. Of `everyone` all that end are taken leave of: a test may wait for an orphan."""
    while time.monotonic() < until:
        ended, status = os.waitpid(-1 if everyone else child, os.WNOHANG)
        if ended == child:
            return status
        if not ended:
            time.sleep(0.02)
    return None


def _work(copy: Path, work: Callable[[], int]) -> NoReturn:
    code = 3
    try:
        signal.signal(signal.SIGINT, signal.default_int_handler)
        signal.signal(signal.SIGTERM, signal.SIG_DFL)
        os.setsid()
        with open(copy.parent / "output", "wb") as output, open(os.devnull, "rb") as nothing:
            for stream, target in ((0, nothing), (1, output), (2, output)):
                os.dup2(target.fileno(), stream)
        _enter(copy)
        code = int(work())
    finally:
        sys.stdout.flush()
        os._exit(code)


def _enter(copy: Path) -> None:
    """Makes the copy this process's tree, as if it had started there."""
    checkout = Path(__file__).resolve().parents[2]
    os.chdir(copy)
    sys.path[:] = [str(copy), *(entry for entry in sys.path if entry and Path(entry).resolve() != checkout)]
    for name in [name for name in sys.modules if name.split(".")[0] in ROOMS]:
        del sys.modules[name]
    importlib.invalidate_caches()
