"""`make compare` at a small size: real training and attacks, one table, nothing done twice."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from pipeline import compare
from pipeline.params import Params, complete


@pytest.fixture
def small(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder of its own, and settings that train in seconds."""

    def settings(method: str, seed: int, tier: str, data: str) -> Params:
        return complete(
            {
                "seed": seed,
                "data": {"name": data, "train_images": 120, "test_images": 40},
                "method": {"name": method},
                "network": {"width": 8},
                "train": {"epochs": 1},
                "attack": {"tier": tier, "images": 10},
            }
        )

    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(compare, "_settings", settings)
    return tmp_path


def test_methods_and_seeds_end_in_one_table(small: Path, capsys: pytest.CaptureFixture[str]) -> None:
    compare.main(methods="standard fgsm_pgk", seeds="0 1", tier="quick", data="digits")
    said = capsys.readouterr().out
    assert "No defence" in said and "FGSM-PGK" in said and "not run" in said
    assert "mean ± standard deviation over seeds" in said
    assert "fgsm_pgk (seed 1) minus no defence, margin:" in said
    records = sorted(small.glob("out/compare/*/run.json"))
    assert [record.parent.name for record in records] == ["fgsm_pgk-0", "fgsm_pgk-1", "standard-0", "standard-1"]
    assert len((small / "checkpoints/test-reads.jsonl").read_text().splitlines()) == 4


def test_a_run_that_is_done_is_not_done_again(small: Path, capsys: pytest.CaptureFixture[str]) -> None:
    compare.main(methods="standard", seeds="0", tier="quick", data="digits")
    record = small / "out/compare/standard-0/run.json"
    before = record.stat().st_mtime_ns
    compare.main(methods="standard", seeds="0", tier="quick", data="digits")
    assert "standard-0: done before" in capsys.readouterr().out
    assert record.stat().st_mtime_ns == before
    record.write_text(json.dumps({**json.loads(record.read_text()), "identity": "other settings"}))
    compare.main(methods="standard", seeds="0", tier="quick", data="digits")
    assert json.loads(record.read_text())["identity"] != "other settings"


def test_a_wrong_name_is_one_sentence(small: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as stopped:
        compare.main(methods="standart", seeds="0", tier="quick", data="digits")
    assert stopped.value.code == 1
    assert capsys.readouterr().err.startswith("compare: method.name: must be one of")
