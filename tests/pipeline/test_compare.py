"""`make compare` at a small size: real processes, training and attacks; one table, nothing done twice."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest

from pipeline import compare
from pipeline.experiments.result import load_results
from pipeline.methods import method_names

ROOT = Path(__file__).resolve().parents[2]
SMALL = ["data.train_images=120", "data.test_images=40", "network.width=8", "train.epochs=1", "device=cpu"]


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder of its own, from which the processes find this code."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("PYTHONPATH", str(ROOT))
    monkeypatch.delenv("PYTHONDONTWRITEBYTECODE", raising=False)
    monkeypatch.setattr("pipeline.experiments.pace.Interruption.listen", lambda self: None)
    return tmp_path


def run(code: int = 0, **options: Any) -> None:
    given = {
        "methods": "standard fgsm_pgk",
        "seeds": "0",
        "tier": "quick",
        "data": "digits",
        "data_path": "datasets",
        "setting": SMALL,
        "images": 20,
        "name": None,
        "workers": 2,
    }
    with pytest.raises(SystemExit) as ended:
        compare.main(**{**given, **options})
    assert ended.value.code == code


def test_methods_and_seeds_end_in_one_table(folder: Path, capfd: pytest.CaptureFixture[str]):
    run(seeds="0 1")
    said = capfd.readouterr().out
    assert "fgsm_pgk (seed 1) minus no defence, all attacks:" in said and "4 of 4 done" in said
    results = load_results(folder / "results" / "compare-digits")
    assert [f"{item.name}-{item.seed}" for item in results] == ["fgsm_pgk-0", "fgsm_pgk-1", "standard-0", "standard-1"]
    assert {item.settings["threads"] for item in results} == {1}
    assert all(
        item.command.startswith('python -m pipeline.compare --data digits --methods "standard fgsm_pgk" --tier quick')
        for item in results
    )
    page = (folder / "results" / "compare-digits.md").read_text()
    assert "| No defence |" in page and "| FGSM-PGK |" in page and "± " in page and "(compare-digits.svg)" in page
    assert (folder / "results" / "compare-digits.svg").read_text().startswith("<svg")
    assert len((folder / "checkpoints/test-reads.jsonl").read_text().splitlines()) == 4

    before = {path: path.stat().st_mtime_ns for path in folder.glob("results/compare-digits/*.json")}
    run(seeds="0 1")
    assert "all 4 runs were done before" in capfd.readouterr().out
    assert before == {path: path.stat().st_mtime_ns for path in before}


def test_a_run_that_fails_is_told_and_the_others_go_on(folder: Path, capfd: pytest.CaptureFixture[str]):
    """A learning rate at which FGSM-PGK's loss is no number, and standard training's neither: both are said, exit 1."""
    run(code=1, setting=[*SMALL, "train.lr=1e30"], methods="standard", name="broken")
    said = capfd.readouterr()
    assert "compare: standard-0: no finite number" in said.err
    assert not (folder / "results" / "compare-broken.md").exists()


@pytest.mark.parametrize(
    ("options", "sentence"),
    [
        ({"methods": "standart"}, "method.name: must be one of"),
        ({"seeds": "a"}, "--seeds: must be whole numbers"),
        ({"setting": ["train.epochs"]}, "--set: must be KEY=VALUE"),
        ({"setting": ["train.epochs=0"]}, "train.epochs: must be ≥ 1, got 0"),
        ({"data": "cifar10", "setting": []}, "holds no cifar-10-batches-py"),
    ],
)
def test_a_wrong_option_is_one_sentence(options: dict[str, Any], sentence: str, capsys: pytest.CaptureFixture[str]):
    run(code=1, **options)
    said = capsys.readouterr().err
    assert said.startswith("compare: ") and sentence in said and "Traceback" not in said


def test_stopped_by_hand_it_leaves_no_process_and_goes_on(folder: Path):
    """Ctrl-C while a run is in training: exit 130, a sentence, the process group empty."""
    options = [part for item in [*(set(SMALL) - {"train.epochs=1"}), "train.epochs=400"] for part in ("--set", item)]
    command = [sys.executable, "-m", "pipeline.compare", "--methods", "standard", "--seeds", "0", *options]
    process = subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, start_new_session=True
    )
    log = folder / "out/compare/digits/worker-0.log"
    deadline = time.monotonic() + 60
    while time.monotonic() < deadline and not (log.exists() and "epoch 2/" in log.read_text()):
        time.sleep(0.02)
    process.send_signal(signal.SIGINT)
    _, said = process.communicate(timeout=60)
    assert process.returncode == 130 and "the same command goes on where it was" in said and "Traceback" not in said
    with pytest.raises(ProcessLookupError):
        os.killpg(process.pid, 0)
    assert list((folder / "checkpoints").glob("*/checkpoint.pt")), "the epochs before are kept"


def test_a_plans_experiments_are_compared_with_one_of_them(folder: Path, capfd: pytest.CaptureFixture[str]):
    settings = "".join(f"    {item.replace('=', ': ')}\n" for item in SMALL)
    entry = (
        "- name: {0}\n  settings:\n    data.name: digits\n    method.name: standard\n    attack.tier: quick\n"
        + settings
    )
    plan = folder / "plan.yaml"
    plan.write_text(
        "".join(
            f"{entry.format(name)}    train.lr: {lr}\n  images: 20\n  shard: 20\n  whole: false\n"
            for name, lr in (("slow", 0.01), ("quick", 0.1))
        )
    )
    run(plan=plan, name="rates", against="quick")
    assert "quick minus slow, seed 0: " in capfd.readouterr().out
    page = (folder / "results" / "compare-rates.md").read_text()
    assert "* quick minus slow, seed 0: " in page and "| slow: No defence |" in page
    assert f"`python -m pipeline.compare --plan {plan} --name rates --against quick`" in page
    run(code=1, plan=plan, name="rates", against="slw")
    assert "--against: must be one of slow, quick, got 'slw'" in capfd.readouterr().err
    run(code=1, plan=plan)
    assert "--plan: give the comparison a --name as well" in capfd.readouterr().err


def test_methods_for_certificates_are_compared_only_where_they_are_named():
    chosen = compare._all_methods().split()
    proved = {"gaussian_noise", "ibp", "mtl_ibp", "sabr", "smooth_adv"}
    assert set(chosen) == set(method_names()) - proved
