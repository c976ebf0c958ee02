"""A model from elsewhere goes through every stage but training; what cannot be measured is refused in one sentence."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from sklearn.datasets import load_digits
from torchvision import models

from bundle.bundle import Bundle, open_bundle
from bundle.digests import sha256_file
from bundle.errors import HallmarkError
from bundle.images.decoding import describe_rule
from bundle.layout import BOM, CARD
from pipeline import attack, certify, evaluate, export
from pipeline.data.split import Split
from pipeline.evaluate import folder_name, settings
from pipeline.external.adopt import Model, build, chance_warning, check_rebuilding

#: The user's own code, in the folder that the command runs in. Logistic regression by hand: one step per class mean.
CODE = '''
import numpy as np
import torch
from sklearn.datasets import load_digits
from torch import nn

def linear(bias=True):
    return nn.Sequential(nn.Flatten(), nn.Linear(64, 10, bias=bias))

def nearest_mean():
    """Weights inside: the class whose mean image is nearest."""
    images, labels = load_digits(return_X_y=True)
    means = torch.tensor(np.stack([images[labels == k].mean(0) for k in range(10)]) / 16, dtype=torch.float32)
    network = linear()
    with torch.no_grad():
        network[1].weight.copy_(2 * means)
        network[1].bias.copy_(-(means**2).sum(1))
    return network

def sure():
    return nn.Sequential(linear(), nn.Softmax(1))

class Decided(nn.Module):
    def __init__(self):
        super().__init__()
        self.inner = linear()

    def forward(self, images):
        return nn.functional.one_hot(self.inner(images).argmax(1), 10).float()

def decided():
    return Decided()

def other_order():
    """The same with the classes in another order: each answer is the next class."""
    network = nearest_mean()
    with torch.no_grad():
        for parameter in network.parameters():
            parameter.copy_(parameter.roll(1, 0))
    return network

class Hidden(nn.Module):
    def __init__(self):
        super().__init__()
        self.inner, self.offset = linear(), torch.randn(10)

    def forward(self, images):
        return self.inner(images) + self.offset
'''
OPTIONS: dict[str, Any] = {
    "model": "own_code:nearest_mean",
    "data": "digits",
    "name": "own",
    "tier": "quick",
    "setting": ["attack.images=20", "certify.estimation=10", "certify.selection=1", "data.train_images=300"],
}


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """A folder with the user's code and nothing of this repository, and the command run in it once."""
    place = tmp_path_factory.mktemp("a user's folder")
    (place / "own_code.py").write_text(CODE)
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(place)
        patch.syspath_prepend(str(place))
        # The code may be edited while the tests run; a stage would then rightly run again.
        patch.setattr("pipeline.run.environment.source_digest", lambda: "0" * 64)
        evaluate.main(**OPTIONS)
        yield place


@pytest.fixture
def bundle(folder: Path) -> Bundle:
    return open_bundle(folder / "evaluations/own/out/bundle")


def test_the_bundle_verifies_and_says_where_the_model_comes_from(bundle: Bundle):
    predicate = bundle.predicate
    assert predicate["network"] == {
        "factory": "own_code:nearest_mean",
        "arguments": {},
        "classes": 10,
        "channels": 1,
        "mean": [0.0],
        "std": [1.0],
    }
    assert predicate["method"]["name"] == "external" and predicate["model"]["parameters"] == 650
    assert predicate["selection"]["split"] == "unknown" and "epoch" not in predicate["selection"]
    assert not {"train", "method", "network", "threat", "seed"} & set(predicate["parameters"]), "nothing was trained"
    assert any("trained or chosen on" in item for item in predicate["notTested"])
    assert len(bundle.outcomes) == 20 and predicate["smoothing"][0]["estimation"] == 10
    clean = next(claim for claim in predicate["claims"] if claim["metric"] == "clean_accuracy")
    assert clean["value"] > 0.7, "the factory's own weights answer"


def sanity(bundle: Bundle) -> dict[str, dict[str, Any]]:
    return {item["check"]: item for item in bundle.predicate["sanity"]}


def test_a_model_whose_classes_are_in_another_order_is_not_attested_as_reliable(folder: Path, bundle: Bundle):
    """The order is named; the network in the right order passes, and its harness and leaks are attested."""
    evaluate.main(**{**OPTIONS, "model": "own_code:other_order", "name": "rolled", "certify": False})
    rolled = open_bundle(folder / "evaluations/rolled/out/bundle")
    assert not rolled.predicate["reliable"] and sanity(rolled)["above_chance"]["outcome"] == "fail"
    assert sanity(rolled)["class_order"]["outcome"] == "fail"
    assert "images of 3 are answered 4" in sanity(rolled)["class_order"]["meaning"]
    assert sanity(bundle)["above_chance"]["outcome"] == "pass" and sanity(bundle)["class_order"]["statistic"] <= 0
    assert {"copies", "near_copies", "two_labels"} <= sanity(bundle).keys()
    assert bundle.predicate["data"]["leakage"]["test_images_also_in_train"] == 0
    assert all(len(attack["harness"]["digest"]["sha256"]) == 64 for attack in bundle.predicate["attacks"])


def test_the_same_command_again_does_no_long_work(folder: Path, monkeypatch: pytest.MonkeyPatch):
    """Export, attack and certify are not called; other settings of one stage call that stage and no earlier one."""
    before = sha256_file(folder / "evaluations/own/out/bundle/attestation.json")

    def called(*_: object) -> None:
        raise HallmarkError("called")

    for stage in (export, attack, certify):
        monkeypatch.setattr(stage, "main", called)
    evaluate.main(**OPTIONS)
    assert sha256_file(folder / "evaluations/own/out/bundle/attestation.json") == before
    with pytest.raises(SystemExit):
        evaluate.main(**{**OPTIONS, "setting": [*OPTIONS["setting"], "attack.seed=1"]})
    monkeypatch.undo()
    evaluate.main(**OPTIONS)
    assert sha256_file(folder / "evaluations/own/out/bundle/attestation.json") == before


def test_without_radii_the_bundle_says_that_nothing_was_proved(folder: Path):
    evaluate.main(**{**OPTIONS, "certify": False})
    found = open_bundle(folder / "evaluations/own/out/bundle").predicate
    evaluate.main(**OPTIONS)
    assert found["smoothing"] == [] and found["bounds"] == [] and "certify" not in found["parameters"]
    assert "certified radii: nothing was proved" in found["notTested"]


def test_a_folder_of_images_says_how_they_were_resized(folder: Path):
    source = load_digits()
    for number, (pixels, label) in enumerate(zip(source.images[:300], source.target[:300], strict=True)):
        file = folder / "pictures" / str(label) / f"{number}.png"
        file.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(np.rint(pixels * 255 / 16).astype(np.uint8)).resize((12, 16)).save(file)
    (folder / "pictures" / "3" / "labels.csv").write_text("file,label")
    size = {"data": "folder", "path": "pictures", "image_size": 8, "channels": 1}
    few = ["attack.images=10", "attack.eps_255=[32]"]
    evaluate.main(**{**OPTIONS, **size, "name": "pictures", "setting": few, "certify": False})
    attested = open_bundle(folder / "evaluations/pictures/out/bundle").predicate
    assert attested["data"]["resize"] == {"shorterSide": 8, "filter": "bicubic", "crop": "centre"}
    assert attested["data"]["decoding"] == describe_rule()
    assert attested["data"]["notRead"] == [{"reason": "suffix .csv", "files": 1}]
    assert attested["data"]["shape"] == [8, 8, 1] and "pictures" not in json.dumps(attested)


def test_the_card_and_the_bom_say_that_it_was_trained_elsewhere(bundle: Bundle):
    card = (bundle.path / CARD).read_text(encoding="utf-8")
    assert card.partition("\n# ")[2].startswith("External model on digits\n") and "Trained elsewhere." in card
    assert "Trained with" not in card and b"onnx. Trained elsewhere." in (bundle.path / BOM).read_bytes()


def test_weights_of_a_file_are_those_that_are_measured(
    folder: Path, bundle: Bundle, capsys: pytest.CaptureFixture[str]
):
    """A checkpoint of DataParallel with other things in it: the file's tensors, and what was taken off is said."""
    given = build(Model("own_code:nearest_mean", {}), 10, 1).network.state_dict()
    torch.save({"state_dict": {f"module.{key}": value for key, value in given.items()}, "epoch": 3}, folder / "w.pt")
    found = build(Model("own_code:linear", {}, weights=folder / "w.pt"), 10, 1)
    assert all(torch.equal(value, given[name]) for name, value in found.network.state_dict().items())
    said = capsys.readouterr().out
    assert "'state_dict'" in said and "epoch" in said and "'module.' was taken off" in said


def test_test_images_alone_are_measured(folder: Path):
    """Nothing is trained, so that nothing need be there to train on."""
    source = load_digits()
    for number, (pixels, label) in enumerate(zip(source.images[:200], source.target[:200], strict=True)):
        file = folder / "tested/test" / str(label) / f"{number}.png"
        file.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(np.rint(pixels * 255 / 16).astype(np.uint8)).save(file)
    given = {"data": "folder", "path": "tested", "image_size": 8, "channels": 1, "name": "tested", "certify": False}
    evaluate.main(**{**OPTIONS, **given, "setting": ["attack.images=10", "attack.eps_255=[32]"]})
    found = open_bundle(folder / "evaluations/tested/out/bundle")
    assert found.predicate["data"]["splits"]["train"]["count"] == 0 and len(found.outcomes) == 10


def test_a_head_of_more_outputs_is_told_how_to_choose(folder: Path):
    given = build(Model("own_code:linear", {}), 10, 1).network.state_dict()
    wide = {name: value.repeat(100, *[1] * (value.ndim - 1)) for name, value in given.items()}
    torch.save(wide, folder / "wide.pt")
    with pytest.raises(HallmarkError, match=r"to take 10 of its 1000 outputs as the classes.*--outputs \(OUTPUTS=\)"):
        build(Model("own_code:linear", {}, weights=folder / "wide.pt"), 10, 1)
    torch.manual_seed(0)
    torch.save(models.get_model("squeezenet1_1", weights=None).state_dict(), folder / "squeeze.pt")
    found = build(Model("torchvision:squeezenet1_1", {}, weights="squeeze.pt", outputs=[281, 207]), 2, 3)
    with torch.no_grad():
        images = torch.rand(2, 3, 32, 32)
        assert torch.equal(found(images), found.network(images)[:, [281, 207]])


def test_what_is_not_among_the_weights_must_not_decide_an_answer(folder: Path):
    validation = Split(np.zeros((4, 8, 8, 1), dtype=np.uint8), np.zeros(4, dtype=np.int64))
    with pytest.raises(HallmarkError, match="register it as a parameter or buffer"):
        check_rebuilding(build(Model("own_code:Hidden", {}), 10, 1), validation)
    assert check_rebuilding(build(Model("own_code:linear", {}), 10, 1), validation)


def test_a_refusal_is_one_sentence_and_exit_1(folder: Path, capsys: pytest.CaptureFixture[str]):
    for model, sentence in (
        ("own_code:lost", "the module own_code has no lost"),
        ("no_such_module:network", "no module no_such_module"),
        ("torchvision:resnet18", "--weights"),
        ("own_code:sure", "returned probabilities"),
        ("own_code:decided", "they end in argmax at own_code.py, line"),
    ):
        with pytest.raises(SystemExit) as caught:
            evaluate.main(**{**OPTIONS, "model": model, "name": "refused"})
        said = capsys.readouterr().err
        assert caught.value.code == 1 and sentence in said and said.count("\n") == 1
    assert not (folder / "evaluations/refused/out/model.onnx").exists()


def test_chance_is_the_commonest_class():
    labels = np.repeat(np.arange(4), [40, 20, 20, 20]).astype(np.int64)
    split = Split(np.zeros((100, 2, 2, 1), dtype=np.uint8), labels)
    assert "40.0%" in str(chance_warning(45, split)) and "--mean" in str(chance_warning(3, split))
    assert chance_warning(60, split) is None


def test_settings_are_those_of_params_yaml_but_for_training():
    found = settings({"data": {"name": "digits"}}, ["attack.images=7", "attack.eps_l2=[0.5]", "threads=3"])
    assert found.attack.images == 7 and found.attack.eps_l2 == [0.5] and found.threads == 3
    for key in ("train.epochs=3", "method.name=mat", "network.width=8", "seed=1"):
        with pytest.raises(HallmarkError, match="nothing is trained here"):
            settings({"data": {"name": "digits"}}, [key])
    with pytest.raises(HallmarkError, match="KEY=VALUE"):
        settings({"data": {"name": "digits"}}, ["attack.images"])


def test_the_folder_is_named_after_model_and_data():
    assert folder_name(None, "torchvision:resnet18", "cifar10") == "torchvision-resnet18-cifar10"
    assert folder_name("mine", "a:b", "digits") == "mine"
    for name in ("../out", "", ".hidden", "a/b"):
        with pytest.raises(HallmarkError, match="--name"):
            folder_name(name, "a:b", "digits")


def test_the_record_of_adoption_is_reproducible(folder: Path):
    record = json.loads((folder / "evaluations/own/out/train/training.json").read_text())
    assert str(folder) not in json.dumps(record) and record["settings"] == {"threads": 1}
