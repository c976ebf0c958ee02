"""The stage train as it is run, in a folder of its own."""

from __future__ import annotations

import csv
import hashlib
import json
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from bundle.errors import HallmarkError
from bundle.table.threats import Threat
from pipeline import train
from pipeline.networks.serialisation import load_network
from pipeline.params import DataSettings
from pipeline.prepare import prepare_data
from pipeline.resolve import complete
from pipeline.training import overfitting
from pipeline.training.build import build_training
from pipeline.training.loop import Training
from pipeline.training.progress import Deadline
from tests.pipeline.training.conftest import small_params

OUTPUTS = {
    "weights.safetensors",
    "companions.safetensors",
    "network.json",
    "training.json",
    "metrics.json",
    "history.csv",
}


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Prepared digits without their test split: training cannot have read it."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("DVC_STAGE", raising=False)
    prepare_data(DataSettings(name="digits", train_images=90, test_images=20), Path("out/data"))
    Path("out/data/test.npz").unlink()
    return tmp_path


def run(out: str, method: str = "d2r_cag", seed: int = 0) -> Path:
    trained = train.main(small_params(method, seed, epochs=2), out=Path(out))
    assert trained.finished and trained.epochs_done == 2 and trained.seconds > 0
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
    original = Training.step

    def stop(self: Training, index: torch.Tensor, step: int, rate: float) -> dict[str, torch.Tensor]:
        if self.epoch == 1:
            raise KeyboardInterrupt
        return original(self, index, step, rate)

    monkeypatch.setattr(Training, "step", stop)
    with pytest.raises(HallmarkError, match="stopped in epoch 2 of 2"):
        run("parts", "regmix")
    monkeypatch.setattr(Training, "step", original)
    (kept,) = Path("checkpoints").iterdir()
    run("other", "regmix", seed=1)
    assert [kept] == list(Path("checkpoints").iterdir())
    run("parts", "regmix")
    assert not list(Path("checkpoints").iterdir())
    run("whole", "regmix")
    for name in OUTPUTS:
        assert Path("parts", name).read_bytes() == Path("whole", name).read_bytes(), name


def test_a_deadline_leaves_a_checkpoint_and_no_weights_and_the_next_call_goes_on(monkeypatch: pytest.MonkeyPatch):
    """To the same bytes as without one; the seconds are those of both calls."""
    monkeypatch.setattr(Deadline, "admits_another", lambda self: self.at is None or self.longest == 0)
    parts = train.main(small_params("pgd_at", epochs=2), out=Path("parts"), deadline=0.0)
    assert not parts.finished and parts.epochs_done == 1 and parts.seconds > 0
    assert not Path("parts/weights.safetensors").exists() and len(list(Path("checkpoints").iterdir())) == 1
    rest = train.main(small_params("pgd_at", epochs=2), out=Path("parts"))
    assert rest.finished and rest.epochs_done == 2 and rest.seconds > parts.seconds
    run("whole", "pgd_at")
    for name in OUTPUTS:
        assert Path("parts", name).read_bytes() == Path("whole", name).read_bytes(), name


def test_a_run_that_is_stopped_by_the_alarm_is_finished_and_says_so(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(overfitting, "overfits", lambda row, history, images: row["epoch"] == 2)
    stopped = train.main(small_params("pgd_at", epochs=3, catastrophic_overfitting="stop"), out=Path("out/train"))
    assert stopped.finished and stopped.epochs_done == 2 and not list(Path("checkpoints").iterdir())
    recorded = json.loads(Path("out/train/training.json").read_text())
    assert recorded["overfitting"] == {"action": "stop", "epochs": [2], "stopped_after": 2}
    rows = list(csv.DictReader(Path("out/train/history.csv").read_text().splitlines()))
    assert [row["overfitting"] for row in rows] == ["0", "1"]


def test_additional_rows_are_drawn_as_the_manifest_says(monkeypatch: pytest.MonkeyPatch):
    manifest = json.loads(Path("out/data/manifest.json").read_text())
    images = manifest["splits"]["train"]["count"]
    manifest["splits"]["train"]["own"], manifest["settings"]["extra_share"] = images - 20, 0.5
    Path("out/data/manifest.json").write_text(json.dumps(manifest))
    seen = []
    original = Training.step
    monkeypatch.setattr(Training, "step", lambda self, rows, *rest: (seen.append(rows), original(self, rows, *rest))[1])
    run("out/train", "standard")
    assert seen and all(int((rows >= images - 20).sum()) == 10 for rows in seen)


def test_the_threat_of_training_is_that_of_the_settings():
    settings = {"threat": {"norm": "l2", "eps": 0.7}, "train": {"epochs": 1, "batch_size": 20}}
    params = complete({"device": "cpu", "data": {"name": "digits"}, "method": {"name": "standard"}, **settings})
    training = build_training(params, Path("out/data"))
    assert training.method.threats == (Threat("l2", 0.7),)


def test_weights_that_training_goes_on_from_are_recorded_by_digest(folder: Path):
    """The path is this machine's; another file under the same name is another training."""
    given = run("first", "standard") / "weights.safetensors"
    settings = {"name": "gaussian_noise", "init_weights": str(folder / given)}
    params = small_params("standard", epochs=2).model_copy(update={"method": settings | {"sigma": 0.25}})
    train.main(params, out=Path("out/train"))
    content = Path("out/train/training.json").read_text()
    assert str(folder) not in content and "first/" not in content
    recorded = json.loads(content)["settings"]["method"]
    assert recorded["init_weights"] == f"sha256:{hashlib.sha256(given.read_bytes()).hexdigest()}"


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
    with pytest.raises(HallmarkError, match=r"manifest\.json: there is no such file; the stage prepare makes it"):
        run("out/train")
    prepare_data(DataSettings(name="digits", train_images=90, test_images=20), Path("out/data"))
    Path("out/data/train.npz").unlink()
    with pytest.raises(HallmarkError, match=r"train\.npz: there is no such file; the stage prepare makes it"):
        run("out/train")
