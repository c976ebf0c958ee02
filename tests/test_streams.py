"""Output in encodings that lack characters: every command writes plain ones, and none ends in a traceback."""

from __future__ import annotations

import ast
import io
import json
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import typer

from audit.cli import app, main
from audit.releasing import sign_bundle
from bundle.layout import ATTESTATION
from bundle.process import plain_streams, spelled
from bundle.signatures import generate_key
from tests.audit.tampering import rewrite
from tests.audit.versions.test_versions import git
from tests.bundles import digits, make_bundle
from tests.serving.conftest import running_service

ROOT = Path(__file__).resolve().parent.parent
ENCODINGS = ("ascii", "cp1252")
CLASSES = [f"犬 {name}" for name in ("naïve", "≥ ∞", "é−ü", "ß", "Ω", "½", "\N{GRINNING FACE}", "√", "‖", "one")]
#: Every command with what it is asked here, and the exit code; {} is the service's address.
ASKED: dict[str, list[tuple[str, int]]] = {
    "versions": [("versions", 0), ("versions --bundles ∞ --releases 犬", 0)],
    "show": [("show out/bundle", 0), ("show ∞", 1)],
    "diff": [("diff out/bundle second", 0), ("diff out/bundle ∞", 1), ("diff --recipes out/bundle", 2)],
    "gate": [("gate out/bundle --policy loose.yaml", 0), ("gate out/bundle --policy tight.yaml", 1)],
    "history": [("history --svg history.svg", 0)],
    "release": [("release out/bundle --policy tight.yaml --tag ∞", 1), ("release out/bundle --policy 犬 --tag ∞", 1)],
    "withhold": [("withhold second --out withheld-犬-{n} --private owned-∞-{n} --secret secret-é", 0)],
    "challenge": [("challenge withheld --rows 3 --out challenge-∞-{n}.json", 0), ("challenge second", 1)],
    "prove": [("prove challenge.json --private owned --out proof-∞.json", 0), ("prove 犬 --private owned", 1)],
    "document": [("document out/bundle --card ∞.md", 0), ("document out/bundle", 1)],
    "live": [("live {url} --rows 2 --as png", 0), ("live http://∞.invalid", 1)],
    "fetch": [("fetch {url} fetched-∞-{n}", 0), ("fetch http://∞.invalid 犬", 1), ("fetch {url}", 2)],
    "rerun": [("rerun 犬", 1), ("rerun second --sample 0", 2)],
    "log": [("log 犬 --mlflow http://∞.invalid", 1), ("log out/bundle --mlflow ∞", 1), ("log", 2)],
    "keygen": [("keygen ∞-{n}", 0), ("keygen keys", 1)],
    "sign": [("sign second --key keys/key.pem", 0), ("sign 犬 --key ∞", 1)],
    "verify": [("verify out/bundle", 0), ("verify 犬", 1), ("verify --nonsense-∞", 2)],
    "merge": [("merge out/bundle second -o merged-∞-{n}", 1), ("merge out/bundle part -o merged-犬-{n}", 0)],
}


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A repository whose models have classes in several scripts, and everything that a command may be asked about."""
    root = tmp_path_factory.mktemp("streams") / "Ordner ∞ 犬"
    named = make_bundle(root / "out" / "bundle", eps=(32,))
    part = make_bundle(root / "part", eps=(16,))
    second = make_bundle(root / "second", eps=(32,), noise=0.3, seed=1)
    for made in (named, part, second):
        rewrite(made, predicate=lambda item: item["data"].update(classes=CLASSES))
        rewrite(made)  # the claims name the classes
    generate_key(root / "keys")
    shutil.copytree(second, root / "releases" / "signed-∞")
    sign_bundle(root / "releases" / "signed-∞", root / "keys" / "key.pem")
    (root / "loose.yaml").write_text("tier: standard\n", encoding="utf-8")
    (root / "tight.yaml").write_text("tier: standard\nclean: {min: 0.99}\n", encoding="utf-8")
    images, labels = digits()
    (root / "data").mkdir()
    np.savez(root / "data" / "test.npz", images=images, labels=labels)
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(root)
        git("init", "-b", "main")
        git("add", f"out/bundle/{ATTESTATION}")
        git("commit", "-m", "∞")
        for command in ("withhold part --out withheld --private owned --secret secret", "challenge withheld --rows 3"):
            assert hallmark(patch, "utf-8", *command.split())[0] == 0
    return root


@pytest.fixture(scope="module")
def url(folder: Path) -> Iterator[str]:
    """A service whose own output has no more characters than the command's."""
    (folder.parent / "served").mkdir()
    shutil.copytree(folder / "out" / "bundle", folder.parent / "served" / "bundle")
    log = folder.parent / "log.txt"
    with running_service(folder.parent / "served", log, PYTHONIOENCODING="cp1252") as client:
        yield str(client.base_url)
    assert "Traceback" not in log.read_text(encoding="cp1252")


@pytest.fixture
def here(folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A copy of the folder, in which the test runs."""
    root = shutil.copytree(folder, tmp_path / folder.name)
    monkeypatch.chdir(root)
    monkeypatch.setenv("BENTOML_HOME", str(tmp_path / "bentoml"))
    return root


def hallmark(patch: pytest.MonkeyPatch, encoding: str, *arguments: str) -> tuple[int, str, str]:
    """Exit code, stdout and stderr of the command where both have an encoding, which they must keep to."""
    streams = [io.TextIOWrapper(io.BytesIO(), encoding=encoding, errors="strict") for _ in "oe"]
    with patch.context() as inner:
        inner.setattr(sys, "argv", ["hallmark", *arguments])
        inner.setattr(sys, "stdout", streams[0])
        inner.setattr(sys, "stderr", streams[1])
        with pytest.raises(SystemExit) as ended:
            main()
    code = ended.value.code
    written: list[str] = []
    for stream in streams:
        stream.flush()
        written.append(stream.buffer.getvalue().decode(encoding))  # type: ignore[attr-defined]
    return (code if isinstance(code, int) else 0), written[0], written[1]


def test_every_command_is_asked_here() -> None:
    assert set(ASKED) == set(typer.main.get_command(app).commands)  # type: ignore[attr-defined]


@pytest.mark.parametrize("encoding", ENCODINGS)
@pytest.mark.parametrize("command", ASKED)
def test_every_command_writes_what_the_encoding_has(
    here: Path, monkeypatch: pytest.MonkeyPatch, request: pytest.FixtureRequest, command: str, encoding: str
) -> None:
    url = request.getfixturevalue("url") if command in ("live", "fetch") else ""
    assert hallmark(monkeypatch, encoding, command, "--help")[0] == 0
    for number, (line, code) in enumerate(ASKED[command]):
        arguments = line.format(url=url, n=number).split(" ")
        found, out, err = hallmark(monkeypatch, encoding, *arguments)
        assert found == code, out + err
        assert (out if code == 0 else err).strip() and "Traceback" not in err
        if code != 2:
            again = [part.replace("-{n}", "") for part in line.format(url=url, n=f"{number}-json").split(" ")]
            text = hallmark(monkeypatch, encoding, *again, "--json")[1]
            assert code or isinstance(json.loads(text), dict)


def test_what_is_written_is_plain_and_json_is_the_same(here: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert "D²R-CAG" in hallmark(monkeypatch, "utf-8", "show", "out/bundle", "--all")[1]
    shown = hallmark(monkeypatch, "ascii", "show", "out/bundle", "--all")[1]
    assert "D2R-CAG" in shown and "\\u72ac" in shown
    assert "D²R-CAG" in hallmark(monkeypatch, "cp1252", "show", "out/bundle", "--all")[1]
    in_json = {encoding: hallmark(monkeypatch, encoding, "show", "out/bundle", "--json")[1] for encoding in ENCODINGS}
    assert in_json["ascii"] == in_json["cp1252"] == hallmark(monkeypatch, "utf-8", "show", "out/bundle", "--json")[1]
    assert json.loads(in_json["ascii"])["statement"]["predicate"]["data"]["classes"] == CLASSES


@pytest.mark.parametrize("encoding", ENCODINGS)
def test_redirected_into_a_file_as_a_process(here: Path, encoding: str) -> None:
    command = [str(Path(sys.executable).with_name("hallmark")), "show", "out/bundle", "--all"]
    environment = {**os.environ, "PYTHONIOENCODING": encoding}
    with (here / "file").open("wb") as file:
        done = subprocess.run(command, env=environment, stdout=file, stderr=subprocess.PIPE, check=False)
    assert (done.returncode, done.stderr) == (0, b"")
    assert "\\u72ac" in (here / "file").read_bytes().decode(encoding)


def guards() -> dict[str, str]:
    """What every module of ours does first that can be run by `python -m`."""
    found: dict[str, str] = {}
    for room in ("audit", "bundle", "serving", "pipeline", "benchmarks"):
        for path in sorted((ROOT / room).rglob("*.py")):
            for node in ast.parse(path.read_text(encoding="utf-8")).body:
                if isinstance(node, ast.If) and "__name__" in ast.unparse(node.test):
                    name = ".".join(path.relative_to(ROOT).with_suffix("").parts).removesuffix(".__main__")
                    found[name] = ast.unparse(node.body[0])
    return found


def test_whatever_can_be_run_parses_its_arguments_and_makes_its_output_plain_first() -> None:
    found = guards()
    assert len(found) > 15
    stages = {name for name, first in found.items() if first.startswith("stage(")}
    assert stages == {f"pipeline.{name}" for name in ("prepare", "train", "export", "attack", "certify", "attest")}
    assert {name for name, first in found.items() if not first.startswith("run_command(")} == stages


@pytest.mark.parametrize(
    ("command", "code", "said"),
    [
        ("pipeline.prepare", 1, r"prepare: method\.name: must be one of .* got '?d2r-inf-\\u72ac"),
        ("pipeline.methods", 0, "D2R"),
        ("pipeline.networks", 0, "preact_resnet18"),
        ("pipeline.stage", 0, ""),
        ("pipeline.evaluate --help", 0, "--weights"),
        ("pipeline.evaluate --model ∞ --name 犬", 1, r"evaluate: .*\\u72ac"),
        ("pipeline.reattack ∞", 1, "reattack: inf"),
        ("pipeline.rerun ∞", 1, "rerun: inf"),
        ("pipeline.compare --methods ∞", 1, "compare: .*inf"),
        ("pipeline.experiments --plan ∞", 1, "results: inf"),
        ("pipeline.experiments.tables --readme ∞", 1, "tables: inf"),
        ("serving --bundle ∞", 1, "^inf: there is no such bundle"),
        ("serving.bento ∞", 1, "^inf: there is no such bundle"),
        ("benchmarks.serving --help", 0, "Usage"),
        ("benchmarks.fuzz --help", 0, "Usage"),
    ],
)
def test_every_other_command_writes_ascii(tmp_path: Path, command: str, code: int, said: str) -> None:
    (tmp_path / "params.yaml").write_text("{data: {name: digits}, method: {name: d2r-∞-犬}}", encoding="utf-8")
    environment = {**os.environ, "PYTHONIOENCODING": "ascii", "PYTHONPATH": str(ROOT), "BENTOML_HOME": str(tmp_path)}
    done = subprocess.run(
        [sys.executable, "-m", *command.split(" ")], cwd=tmp_path, env=environment, capture_output=True, check=False
    )
    text = (done.stdout + done.stderr).decode("ascii")
    assert done.returncode == code, text
    assert re.search(said, text) and "Traceback" not in text


@pytest.mark.parametrize(
    ("char", "plain"),
    [
        *[("∞", "inf"), ("−", "-"), ("≥", ">="), ("≠", "!="), ("→", "->"), ("█", "#"), ("‖", "||"), ("×", "x")],
        *[("²", "2"), ("₁", "1"), ("é", "e"), ("ẑ", "z"), ("ε", "epsilon"), ("Σ", "Sigma"), ("ﬁ", "fi"), ("Ａ", "A")],
        *[("½", "\\xbd"), ("≮", "\\u226e"), ("犬", "\\u72ac"), ("\udcff", "\\udcff"), ("\x85", "\\x85")],
    ],
)
def test_one_character_is_spelled(char: str, plain: str) -> None:
    assert spelled(char) == plain


def test_streams_that_are_no_files_are_left_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "stdout", io.StringIO())
    monkeypatch.setattr(sys, "stderr", None)
    plain_streams()


def test_a_name_that_is_no_text_is_written_in_utf_8_too(monkeypatch: pytest.MonkeyPatch) -> None:
    """As the system hands over the bytes of a file's name that are not UTF-8."""
    assert "\\xff" in hallmark(monkeypatch, "utf-8", "verify", "a\udcffb")[2].replace("\\udcff", "\\xff")
