"""docs/audit.md: its commands and its lines of Python do what the page says, in the order in which they stand."""

from __future__ import annotations

import json
import os
import shlex
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from dvc.utils.hydra import apply_overrides
from typer.testing import CliRunner, Result

from audit.cli import app
from audit.private.withholding import make_private
from bundle.bundle import open_bundle
from bundle.gate.policy import METRICS
from bundle.gate.reading import read_policy
from bundle.numbers.claims import find_claim
from bundle.table.outcomes import image_digests
from pipeline.resolve import load_params
from tests.audit.conftest import Masters
from tests.audit.test_releasing import WHO
from tests.audit.versions.test_versions import git
from tests.bundles import digits, make_bundle
from tests.test_line import fresh_copy

DOCS = Path(__file__).parents[2] / "docs"
PAGE = DOCS / "audit.md"
EXAMPLE = "A worked example: three releases"
RECIPES = "Comparing recipes"
#: With which words a line is a command.
WORDS = ("hallmark", "dvc", "git", "mkdir", "cp", "echo")
LIVE = "A running service"  # see test_live.py
RERUN = "Repeating the measurement"  # see tests/pipeline/test_rerun.py


def sections() -> dict[str, str]:
    """The page's parts by their headings."""
    parts = PAGE.read_text(encoding="utf-8").split("\n## ")
    return {part.partition("\n")[0]: part.partition("\n")[2] for part in parts}


def indented(text: str) -> list[str]:
    return [line[4:] for line in text.splitlines() if line.startswith("    ")]


def commands(text: str) -> list[tuple[list[str], int]]:
    """The commands of a part, and the exit code that the page gives: 0, or that of a comment `# exit 1`."""
    lines = [line for line in indented(text) if line.split()[0] in WORDS]
    return [(shlex.split(line, comments=True), 1 if "# exit 1" in line else 0) for line in lines]


def hallmark(words: list[str]) -> Result:
    return CliRunner().invoke(app, words[1:])


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    (tmp_path / "work").mkdir()
    monkeypatch.chdir(tmp_path / "work")
    monkeypatch.setenv("GIT_CEILING_DIRECTORIES", str(tmp_path))
    git("init", "-b", "main")
    Path("dvc.yaml").write_text("stages: {}\n")
    return tmp_path / "work"


def test_every_command_outside_the_example_runs(masters: Masters, folder: Path, tmp_path: Path) -> None:
    shutil.copytree(masters.unsigned, "out/bundle")
    shutil.copyfile(masters.trusted / "key.pub", "key.pub")
    Path("out/data").mkdir()
    images, labels = digits()
    np.savez("out/data/test.npz", images=images, labels=labels)
    Path("out/data/manifest.json").write_text(json.dumps({"test_images_sha256": image_digests(images)}))
    make_private(masters.unsigned, tmp_path / "private", tmp_path / "owned", bytes(range(32)))
    places = {"BUNDLE": masters.signed, "PRIVATE": tmp_path / "private", "OWNED": tmp_path / "owned"}
    words = {name: str(path) for name, path in places.items()}
    words["releases/VERSION"] = f"releases/{open_bundle(masters.unsigned).version}"
    parts = {name: text for name, text in sections().items() if name not in (EXAMPLE, RECIPES, LIVE, RERUN)}
    found = [item for text in parts.values() for item in commands(text)]
    assert {command[1] for command, _ in found} == {"verify", "challenge", "prove", "keygen", "sign", "versions"}
    for command, code in found:
        result = hallmark([words.get(word, word) for word in command])
        assert result.exit_code == code, (command, result.stderr)


@pytest.fixture
def repository(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A repository with these sources, as committed, and this interpreter's environment in place of the one of `make`."""
    folder = fresh_copy(tmp_path / "clone", {})
    for name in [name for name in os.environ if name.startswith(("PYTHON", "DVC"))]:
        monkeypatch.delenv(name)
    own = {"GIT_CONFIG_GLOBAL": os.devnull, "GIT_CONFIG_SYSTEM": os.devnull, "OMP_WAIT_POLICY": "PASSIVE"}
    path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    for name, value in {**WHO, **own, "PATH": path}.items():
        monkeypatch.setenv(name, value)
    monkeypatch.chdir(folder)
    return folder


#: What stands for the three trainings: a defence, none, and few images. Verdicts of trained models differ by processor.
STAND_INS: tuple[dict[str, Any], ...] = (
    {"attacks": ("pgd-10",)},  # random corners, which a linear model withstands
    {"noise": 0.3},
    {"noise": 0.01, "attacks": ("pgd-10",), "rows": 20},
)


def stand_in(words: list[str], number: int) -> None:
    """In place of `dvc exp run -S …`: params.yaml as DVC writes it, which must resolve, and a bundle that is made at once.

    tests/test_line.py runs the command itself.
    """
    assert words[:3] == ["dvc", "exp", "run"] and set(words[3::2]) == {"-S"}
    apply_overrides("params.yaml", words[4::2])
    shutil.rmtree("out/bundle", ignore_errors=True)
    make_bundle(Path("out/bundle"), method=load_params().method["name"], **STAND_INS[number])
    Path("dvc.lock").write_text(f"# run {number}\n")


def test_the_worked_example_goes_as_the_page_says(repository: Path, bentoml_store: Path) -> None:
    """Three models are released by the commands as they stand, but for the trainings."""
    said: dict[str, Result] = {}
    trained = 0
    for command, code in commands(sections()[EXAMPLE]):
        if command[0] == "hallmark":
            result = hallmark(command)
            assert result.exit_code == code, (command, result.stdout, result.stderr)
            said[" ".join(command[1:3])] = result
        elif command[0] == "dvc":
            stand_in(command, trained)
            trained += 1
        elif ">" in command:
            Path(command[-1]).write_text(f"{command[1]}\n")
        elif ">>" in command:
            with Path(command[-1]).open("a") as file:
                file.write(f"{command[1]}\n")
        else:
            done = subprocess.run(command, check=False, capture_output=True, text=True)
            assert done.returncode == code, (command, done.stdout, done.stderr)
    assert trained == len(STAND_INS)
    listed = said["versions --trust"].stdout
    assert all(f"tag v{number}" in listed for number in (1, 2, 3))
    assert all(f"hallmark-digits-{name}:" in listed for name in ("pgd_at", "standard", "trades"))
    assert listed.count("signed by") == 3
    assert said["diff v1"].stdout.startswith("B is worse than A: −")
    assert "method.name: pgd_at → standard" in said["diff v1"].stdout
    assert "13 rules" in said["gate v1"].stdout
    assert failed(said["gate v2"]) == ["robust_accuracy", "not_worse"]
    assert failed(said["gate v3"]) == ["not_worse", "sample"]
    drawn = said["history --svg"].stdout
    assert [drawn.index(f"  v{number} ") for number in (1, 2, 3)] == sorted(drawn.index(f"  v{n} ") for n in (1, 2, 3))
    assert Path("history.svg").stat().st_size > 5000 and Path("history.html").stat().st_size > 5000


def failed(result: Result) -> list[str]:
    """The rules that the table of a gate says failed."""
    return [line.split()[1] for line in result.stdout.splitlines() if line.startswith("FAIL")]


def test_the_recipes_command_of_the_page_is_one(tmp_path: Path) -> None:
    (command, code), *others = commands(sections()[RECIPES])
    assert not others
    made = {
        f"{side}{seed}": str(make_bundle(tmp_path / f"{side}{seed}", seed=seed, noise=noise, rows=30, tier="quick"))
        for side, noise in (("A", 1.0), ("B", 0.05))
        for seed in (1, 2, 3)
    }
    result = hallmark([made.get(word, word) for word in command])
    assert (result.exit_code, result.stdout[:32]) == (code, "Recipe B is better than recipe A")


def test_the_policy_and_its_tables_name_every_field_and_metric(tmp_path: Path) -> None:
    """docs/policy.yaml has every field, the signers as a comment, and the page's tables every field and metric."""
    text = (DOCS / "policy.yaml").read_text(encoding="utf-8")
    (tmp_path / "policy.yaml").write_text(text.replace("# signed_by:", "signed_by:"), encoding="utf-8")
    policy = read_policy(tmp_path / "policy.yaml")
    asked = {name for name, value in vars(policy).items() if value or value == 0}
    assert asked == set(vars(policy)) - {"key_ids"}  # which stands for the same as a key's file
    table = sections()["What a policy may ask for"]
    for name in (*METRICS, "tier", "flags", "reliable", "not_worse", "signed_by", "test_reads", "selection", "sample"):
        assert f"`{name}" in table, name


def test_the_policy_as_it_stands_judges_digits_by_their_numbers(masters: Masters) -> None:
    """No key is missing that nobody made yet, and no rule fails for want of a number."""
    result = hallmark(["hallmark", "gate", str(masters.unsigned), "--policy", str(DOCS / "policy.yaml"), "--json"])
    answer = json.loads(result.stdout)
    rules = {rule["name"]: rule["measured"] for rule in answer["rules"]}
    assert (result.exit_code == 0) is answer["passed"] and "signed_by" not in rules
    assert rules["robust_accuracy served linf-32 all"][:2] == "0." and "no such number" not in " ".join(rules.values())


def test_the_pages_python_gives_the_claim(masters: Masters, capsys: pytest.CaptureFixture[str]) -> None:
    lines = indented(sections()["Check it in ten minutes"])
    exec(
        "\n".join(line for line in lines if not line.startswith("hallmark ")).replace("BUNDLE", str(masters.unsigned)),
        {},
    )
    predicate = open_bundle(masters.unsigned).predicate
    claim = find_claim(predicate, "robust_accuracy", setting="served", threat="linf-32", attack="margin")
    assert claim is not None
    low, high = claim["interval"]
    printed = capsys.readouterr().out
    assert printed.startswith(f"{claim['value']} ")
    assert f"low={low:.6f}"[:10] in printed.replace("np.float64(", "")
    assert f"high={high:.6f}"[:11] in printed.replace("np.float64(", "")
