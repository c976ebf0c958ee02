"""The stage train as it is run, in a folder of its own."""

from __future__ import annotations

import csv
import json
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from bundle.errors import HallmarkError
from pipeline import train
from pipeline.data.preparation import prepare_data
from pipeline.params import DataSettings
from pipeline.serialisation import load_network
from pipeline.training.loop import Training
from tests.pipeline.training.conftest import small_params

OUTPUTS = {"weights.safetensors", "network.json", "training.json", "metrics.json", "history.csv"}


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Prepared digits without their test split: training cannot have read it."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("DVC_STAGE", raising=False)
    prepare_data(DataSettings(name="digits", train_images=90, test_images=20), Path("out/data"))
    Path("out/data/test.npz").unlink()
    return tmp_path


def run(out: str, method: str = "d2r_cag", seed: int = 0) -> Path:
    train.main(small_params(method, seed, epochs=2), out=Path(out))
    return Path(out)


def test_training_needs_no_test_split_and_leaves_its_files(folder: Path):
    out = run("out/train")
    assert {path.name for path in out.iterdir()} == OUTPUTS
    rows = list(csv.DictReader((out / "history.csv").open()))
    metrics, recorded = json.loads((out / "metrics.json").read_text()), json.loads((out / "training.json").read_text())
    assert [row["epoch"] for row in rows] == ["1", "2"]
    best = max(
        rows, key=lambda row: (float(row["validation_pgd_10"]), float(row["validation_clean"]), -int(row["epoch"]))
    )
    assert metrics["epoch"] == int(best["epoch"])
    assert metrics["validation_pgd_10"] == pytest.approx(float(best["validation_pgd_10"]), rel=1e-4)
    assert recorded["settings"]["method"]["lambda"] == 1.0 and recorded["method"]["name"] == "d2r_cag"
    assert str(folder) not in (out / "training.json").read_text()
    assert not list(Path("checkpoints").iterdir()), "checkpoints of a finished run are removed"


def test_what_is_served_is_the_target_alone():
    out = run("out/train")
    network = load_network(out)
    assert set(load_file(out / "weights.safetensors")) == set(network.state_dict())
    assert json.loads((out / "network.json").read_text())["width"] == 8


def test_training_twice_gives_the_same_bytes():
    for name in OUTPUTS:
        one, two = (run(out) if not Path(out, name).exists() else Path(out) for out in ("one", "two"))
        assert (one / name).read_bytes() == (two / name).read_bytes(), name
    assert (run("other", seed=1) / "weights.safetensors").read_bytes() != Path("one/weights.safetensors").read_bytes()


def test_stopping_and_starting_again_gives_the_same_bytes(monkeypatch: pytest.MonkeyPatch):
    """And another seed neither goes on from this run's checkpoint nor removes it."""
    original = Training._step

    def stop(self: Training, index: torch.Tensor, step: int, rate: float) -> dict[str, torch.Tensor]:
        if self.epoch == 1:
            raise KeyboardInterrupt
        return original(self, index, step, rate)

    monkeypatch.setattr(Training, "_step", stop)
    with pytest.raises(HallmarkError, match="stopped in epoch 2 of 2"):
        run("parts", "regmix")
    monkeypatch.setattr(Training, "_step", original)
    (kept,) = Path("checkpoints").iterdir()
    run("other", "regmix", seed=1)
    assert [kept] == list(Path("checkpoints").iterdir())
    run("parts", "regmix")
    assert not list(Path("checkpoints").iterdir())
    run("whole", "regmix")
    for name in OUTPUTS:
        assert Path("parts", name).read_bytes() == Path("whole", name).read_bytes(), name


def test_each_seed_has_a_checkpoint_folder_of_its_own(monkeypatch: pytest.MonkeyPatch):
    def stop(self: Training, progress: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(Training, "_epoch", stop)
    for seed in (0, 1):
        with pytest.raises(HallmarkError, match="stopped in epoch 1 of 2"):
            run("out/train", "standard", seed)
    assert len(list(Path("checkpoints").iterdir())) == 2
    assert not Path("out/train/weights.safetensors").exists()


def test_without_prepared_data_one_sentence_says_what_to_do():
    Path("out/data/manifest.json").unlink()
    with pytest.raises(HallmarkError, match=r"manifest\.json: is missing or no manifest; the stage prepare makes it"):
        run("out/train")
    Path("out/data/train.npz").unlink()
    with pytest.raises(HallmarkError, match=r"train\.npz: there is no such file; the stage prepare makes it"):
        run("out/train")
