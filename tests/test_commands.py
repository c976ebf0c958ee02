"""What README and docs tell people to run: each says what it does, does nothing for it, and refuses what it does not have."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
from pathlib import Path

import pytest
import typer

from audit.cli import app
from bundle.command_line import one_sentence
from bundle.errors import HallmarkError
from tests.imports import ROOMS, ROOT

PAGES = ("*.md", "docs/*.md", "benchmarks/*.md", "results/README.md", "Makefile", "dvc.yaml")
#: Runs modules one after another, each as `python -m` would, and prints how each ended and what it said.
CHILD = """
import contextlib, io, json, os, runpy, sys
ended = {}
for name in sys.argv[1:]:
    for asked in ("--help", "--no-such-option", "no-such-word another"):
        sys.argv, out = [name, *asked.split()], io.StringIO()
        with contextlib.redirect_stdout(out), contextlib.redirect_stderr(out):
            try:
                runpy.run_module(name, run_name="__main__", alter_sys=True)
                code = "went on"
            except SystemExit as error:
                code = error.code
        ended[f"{name} {asked}"] = [code, out.getvalue(), os.listdir()]
print(json.dumps(ended))
"""
#: Those that take any words.
TAKES_WORDS = {"tests.processors", "tests.chaos"}


def named() -> list[str]:
    """Every module of ours that a page, the Makefile or the pipeline runs."""
    text = "\n".join(path.read_text(encoding="utf-8") for page in PAGES for path in sorted(ROOT.glob(page)))
    found = sorted(set(re.findall(r"(?:python|\$\(RUN\)) -m ([a-z_]+(?:\.[a-z_]+)*)", text)))
    ours = [name for name in found if name.split(".")[0] in (*ROOMS, "benchmarks", "docs", "tests")]
    return [name for name in ours if name != "benchmarks"]  # the Makefile's benchmarks.$(WHAT)


@pytest.fixture(scope="module")
def ended(tmp_path_factory: pytest.TempPathFactory) -> dict[str, tuple[object, str, list[str]]]:
    """How each module ended, by its name and what was asked, all in one process, in an empty folder."""
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "COLUMNS": "80"}
    command = [sys.executable, "-W", "ignore", "-c", CHILD, *(name for name in named() if name != "tests.quick")]
    done = subprocess.run(
        command, cwd=tmp_path_factory.mktemp("empty"), env=environment, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout.splitlines()[-1])


def test_the_pages_name_commands_of_every_room() -> None:
    found = named()
    assert {"pipeline.train", "serving", "serving.bento", "docs.draw_architecture", "tests.golden"} <= {*found}
    assert len(found) > 25 and "benchmarks.attack" in found


def test_help_says_what_a_command_does_and_does_not_do_it(ended: dict[str, tuple[object, str, list[str]]]) -> None:
    for asked, (code, said, left) in ended.items():
        if asked.endswith("--help"):
            assert code == 0 and re.match(r"\s*usage: ", said, re.IGNORECASE), f"{asked}: {said}"
            assert re.search(r"\n *\n *\w[^\n]{12}", said), f"{asked} says nothing: {said}"
            assert left == [], asked


def test_what_a_command_does_not_have_is_refused(ended: dict[str, tuple[object, str, list[str]]]) -> None:
    for asked, (code, said, left) in ended.items():
        if "--no-such-option" in asked or (asked.endswith("another") and asked.split()[0] not in TAKES_WORDS):
            assert code == 2 and left == [], f"{asked}: {code}, {said}"
            assert re.search(
                "no such option|missing|unrecognized arguments|unexpected extra argument|invalid", said, re.I
            ), said


def test_the_service_tells_its_defaults(ended: dict[str, tuple[object, str, list[str]]]) -> None:
    said = " ".join(ended["serving --help"][1].replace("│", "").split())
    for default in ("out/bundle", "releases", "127.0.0.1", "3000", "auto"):
        assert re.search(rf"default: {re.escape(default)}\]", said), default


@pytest.mark.parametrize("command", sorted(typer.main.get_command(app).commands))  # type: ignore[attr-defined]
def test_the_list_of_commands_fits_80_columns(command: str) -> None:
    short = typer.main.get_command(app).commands[command].short_help  # type: ignore[attr-defined]
    assert short and short.endswith(".") and len(f"  challenge  {short}") <= 78


@pytest.mark.parametrize("command", sorted(typer.main.get_command(app).commands))  # type: ignore[attr-defined]
def test_a_command_is_the_one_that_is_listed(command: str) -> None:
    found = typer.main.get_command(app).load(command)  # type: ignore[attr-defined]
    assert found.name == command and found.callback is not None and found.get_short_help_str(100)[-1] == "."


def test_help_imports_nothing_that_computes() -> None:
    code = (
        "import sys; from audit.cli import app; app(['--help'], standalone_mode=False);"
        "print(sorted({'numpy', 'scipy', 'pyarrow', 'onnxruntime', 'jinja2'} & {*sys.modules}))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.splitlines()[-1] == "[]"


@pytest.mark.parametrize(
    ("error", "code", "said"),
    [
        (KeyboardInterrupt(), 130, "\nstopped by hand\n"),
        (HallmarkError("a: must be b"), 1, "a: must be b\n"),
        (FileNotFoundError(2, "No such file or directory", "x"), 1, "x: No such file or directory\n"),
    ],
)
def test_how_a_command_ends(error: BaseException, code: int, said: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ended, one_sentence():
        raise error
    assert ended.value.code == code and capsys.readouterr().err == said


def test_a_fault_of_the_code_keeps_its_traceback() -> None:
    with pytest.raises(ZeroDivisionError), one_sentence():
        raise ZeroDivisionError


def hallmark(*arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
    command = [str(Path(sys.executable).with_name("hallmark")), *arguments]
    return subprocess.run(
        command, env={**os.environ, **environment}, capture_output=True, encoding="utf-8", check=False
    )


def test_the_command_tells_its_version_and_completes_words() -> None:
    project = (ROOT / "pyproject.toml").read_text(encoding="utf-8")
    (version,) = re.findall(r'^version = "(.+)"$', project, re.MULTILINE)
    assert hallmark("--version").stdout == f"hallmark {version}\n"
    asked = {"_HALLMARK_COMPLETE": "complete_bash", "COMP_WORDS": "hallmark ver", "COMP_CWORD": "1"}
    assert hallmark(**asked).stdout.split() == ["versions", "verify"]


def test_ctrl_c_ends_a_command_with_130(tmp_path: Path) -> None:
    """While it asks a service that never answers. Whatever a shell starts in the background has Ctrl-C ignored: not here."""
    code = (
        "import socket, sys; s = socket.create_server(('127.0.0.1', 0)); print(s.getsockname()[1], flush=True);"
        "held = s.accept(); print('asked', flush=True); sys.stdin.read()"
    )
    pipe = {"stdout": subprocess.PIPE, "text": True}
    with subprocess.Popen([sys.executable, "-c", code], stdin=subprocess.PIPE, **pipe) as mute:  # type: ignore[call-overload]
        port = mute.stdout.readline().strip()
        command = [str(Path(sys.executable).with_name("hallmark")), "live", f"http://127.0.0.1:{port}"]
        as_by_hand = {"preexec_fn": lambda: signal.signal(signal.SIGINT, signal.SIG_DFL), "text": True}
        with subprocess.Popen(command, cwd=tmp_path, stderr=subprocess.PIPE, **as_by_hand) as asking:  # type: ignore[call-overload]
            assert mute.stdout.readline() == "asked\n"
            asking.send_signal(signal.SIGINT)
            _, said = asking.communicate(timeout=60)
        mute.stdin.close()
    assert asking.returncode == 130 and said.endswith("stopped by hand\n") and "Traceback" not in said
