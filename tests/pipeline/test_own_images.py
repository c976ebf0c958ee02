"""A folder of images to params.yaml, what is said before and while it trains, and names for pages."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from typer.testing import CliRunner

from bundle.errors import HallmarkError
from bundle.formats.yaml12 import load
from bundle.pages.wording import data_title
from pipeline import own_images
from pipeline.own_images import changed, common_form, main, small
from pipeline.params import DataSettings
from pipeline.prepare import prepare_data
from pipeline.resolve import load_params
from pipeline.run.notice import FirstSteps, expected

PARAMS = (Path(__file__).parents[2] / "params.yaml").read_text(encoding="utf-8")


@pytest.fixture
def pictures(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Sixty grey pictures of 20 x 24 pixels in two classes, and params.yaml as it comes; run there, on a CPU."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("pipeline.run.devices.torch.cuda.is_available", lambda: False)
    (tmp_path / "params.yaml").write_text(PARAMS, encoding="utf-8")
    draw = np.random.default_rng(0)
    for name, count in (("cat", 25), ("dog", 35)):
        (tmp_path / "pictures" / name).mkdir(parents=True)
        for number in range(count):
            pixels = draw.integers(0, 256, (24, 20), dtype=np.uint8)
            Image.fromarray(pixels).save(tmp_path / "pictures" / name / f"{number}.png")
    return tmp_path / "pictures"


def test_nothing_has_to_be_edited(pictures: Path, capsys: pytest.CaptureFixture[str]) -> None:
    main("pictures", Path("params.yaml"))
    params = load_params()
    assert (params.data.name, params.data.path, params.data.image_size, params.data.channels) == (
        "folder",
        "pictures",
        16,
        1,
    )
    assert (params.network.name, params.network.width, params.method["name"]) == ("preact_resnet8", 16, "pgd_at")
    assert (params.train.schedule, params.train.epochs, params.attack.images) == ("digits", 40, 12)
    assert "data.image_size 16" in capsys.readouterr().out
    manifest = prepare_data(params.data, Path("out/data"))
    assert manifest["image_shape"] == [16, 16, 1] and manifest["classes"] == ["cat", "dog"]


def test_what_was_changed_by_hand_afterwards_stays(pictures: Path, capsys: pytest.CaptureFixture[str]) -> None:
    main("pictures", Path("params.yaml"))
    by_hand = Path("params.yaml").read_text().replace("epochs: 40", "epochs: 7")
    Path("params.yaml").write_text(by_hand)
    main("pictures", Path("params.yaml"))
    assert Path("params.yaml").read_text() == by_hand and "stays as it is" in capsys.readouterr().out


def test_digits_again_are_the_settings_as_they_came(pictures: Path) -> None:
    main("pictures", Path("params.yaml"))
    main("digits", Path("params.yaml"))
    assert Path("params.yaml").read_text() != PARAMS
    Path("came.yaml").write_text(PARAMS)
    assert load_params() == load_params("came.yaml")


def test_a_gpu_leaves_the_rest_to_the_paper(pictures: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("pipeline.run.devices.torch.cuda.is_available", lambda: True)
    main("pictures", Path("params.yaml"))
    params = load_params()
    assert (params.network.name, params.train.schedule, params.method["name"]) == (
        "preact_resnet18",
        "paper",
        "d2r_cag",
    )


@pytest.mark.parametrize(
    ("images", "side", "epochs"), [(300, 8, 40), (1300, 32, 12), (1300, 8, 40), (20_000, 32, 4), (3000, 64, 4)]
)
def test_more_and_larger_images_get_fewer_epochs(images: int, side: int, epochs: int) -> None:
    assert small(images, side)["train", "epochs"] == epochs


def test_the_side_is_that_of_half_of_the_images_and_damaged_ones_do_not_count(tmp_path: Path) -> None:
    for number, size in enumerate([(100, 40), (33, 64), (9, 9)]):
        Image.new("RGB" if number else "L", size).save(tmp_path / f"{number}.png")
    (tmp_path / "3.png").write_bytes(b"no picture")
    paths = sorted(tmp_path.glob("*.png"))
    assert common_form(paths) == (32, 3) and common_form(paths[:1]) == (32, 1)
    assert common_form(paths[2:]) == (8, 3)
    with pytest.raises(HallmarkError, match="no image that can be read"):
        common_form(paths[3:])


def test_comments_stay_and_other_forms_are_not_guessed_at() -> None:
    text = changed(PARAMS, {("train", "epochs"): 5, ("data", "image_size"): 16, ("data", "name"): "folder"})
    assert load(text)["train"]["epochs"] == 5 and load(text)["data"]["image_size"] == 16
    assert PARAMS.splitlines()[0] in text
    assert "name: folder        # digits | cifar10" in text
    with pytest.raises(HallmarkError, match=r"write there data\.name: folder"):
        changed("data: {name: digits}\nmethod: {name: pgd_at}\n", {("data", "name"): "folder"})
    with pytest.raises(HallmarkError, match=r"threat\.eps: norm linf takes eps_255"):
        changed(PARAMS.replace("eps_255: null", "eps: 3"), {("data", "name"): "folder"})


@pytest.mark.parametrize(("asked", "said"), [("nowhere", "is not a folder"), ("empty", "empty")])
def test_what_is_no_folder_of_images_changes_nothing(pictures: Path, asked: str, said: str) -> None:
    Path("empty").mkdir()
    app = own_images.typer.Typer()
    app.command()(main)
    done = CliRunner().invoke(app, [asked])
    assert isinstance(done.exception, HallmarkError) and said in str(done.exception)
    assert Path("params.yaml").read_text(encoding="utf-8") == PARAMS


def test_names_for_pages_go_into_the_manifest_and_null_changes_no_byte(pictures: Path) -> None:
    settings = DataSettings(name="folder", path="pictures", image_size=16, channels=1)
    plain = prepare_data(settings, Path("plain"))
    assert not {"title", "source", "licence"} & plain["settings"].keys() and "title" not in plain
    words = {"title": "Pets", "source": "our garden", "licence": "CC0"}
    named = prepare_data(settings.model_copy(update=words), Path("named"))
    assert {key: named[key] for key in words} == words == {key: named["settings"][key] for key in words}
    assert {**json.loads(Path("plain/manifest.json").read_text()), **words, "settings": named["settings"]} == named
    assert (data_title(named), data_title(plain)) == ("Pets", "folder")


def test_how_long_it_takes_is_said_once_after_the_first_steps(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    clock = iter([10.0, 16.0])
    monkeypatch.setattr("pipeline.run.notice.time.monotonic", lambda: next(clock))
    double: Callable[[int], int] = lambda batch: 2 * batch  # noqa: E731
    steps = FirstSteps(double, lambda: 100, skipped=1, counted=3)
    assert [steps(batch) for batch in range(8)] == [0, 2, 4, 6, 8, 10, 12, 14]
    assert capsys.readouterr().out == "about 3 min to train: 100 steps of 2 s\n"


@pytest.mark.parametrize(
    ("seconds", "steps", "said"),
    [(0.1, 300, "about 30 s"), (1.0, 1200, "about 20 min to train: 1200 steps of 1 s"), (2.0, 9000, "about 5.0 h")],
)
def test_a_long_training_is_told_with_what_would_be_shorter(seconds: float, steps: int, said: str) -> None:
    assert expected(seconds, steps).startswith(said)
    assert ("train.epochs" in expected(seconds, steps)) is (seconds * steps > 1200)
