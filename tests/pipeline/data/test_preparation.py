import hashlib
import json
import os

import numpy as np
import pytest
from PIL import Image

from bundle.errors import HallmarkError
from pipeline.data.manifest import build_manifest, load_manifest, save_manifest, split_sha256
from pipeline.data.split import DataError, ImageSet, Split, load_split
from pipeline.params import DataSettings
from pipeline.prepare import prepare_data

NAMES = ("train", "validation", "test")


def test_digits_are_prepared_to_files_and_a_manifest(tmp_path):
    manifest = prepare_data(DataSettings(name="digits"), tmp_path)
    assert sorted(os.listdir(tmp_path)) == ["manifest.json", "test.npz", "train.npz", "validation.npz"]
    assert load_manifest(tmp_path / "manifest.json") == manifest
    assert manifest["name"] == "digits" and manifest["image_shape"] == [8, 8, 1]
    assert [manifest["splits"][name]["count"] for name in NAMES] == [1294, 144, 359]
    for name in NAMES:
        split, said = load_split(tmp_path / f"{name}.npz"), manifest["splits"][name]
        assert said["count"] == len(split) == sum(said["per_class"])
        assert said["per_class"] == np.bincount(split.labels).tolist()
        assert said["sha256"] == hashlib.sha256(split.images.tobytes() + split.labels.tobytes()).hexdigest()
    test = load_split(tmp_path / "test.npz")
    assert manifest["test_images_sha256"] == [hashlib.sha256(image.tobytes()).hexdigest() for image in test.images]


def test_equal_settings_give_equal_files_anywhere(tmp_path):
    for name in ("a", "b"):
        prepare_data(DataSettings(name="digits"), tmp_path / name)
    for file in os.listdir(tmp_path / "a"):
        assert (tmp_path / "a" / file).read_bytes() == (tmp_path / "b" / file).read_bytes()


def test_the_splits_of_digits_never_change(tmp_path):
    """Published results depend on these images: another digest here is a break, not a refactoring."""
    manifest = prepare_data(DataSettings(name="digits"), tmp_path)
    assert {name: manifest["splits"][name]["sha256"][:16] for name in NAMES} == {
        "train": "a9064483d729b058",
        "validation": "6e6f35d30bb542c1",
        "test": "9d0243694ac607ca",
    }


def test_limits_come_before_the_validation_split(tmp_path):
    manifest = prepare_data(
        DataSettings(name="digits", train_images=200, test_images=50, validation_share=0.25, seed=3), tmp_path
    )
    assert [manifest["splits"][name]["count"] for name in NAMES] == [150, 50, 50]
    origins = {name: manifest["splits"][name]["origin"] for name in NAMES}
    assert "; 200 of 1438 kept, stratified, seed 3" in origins["train"]
    assert origins["validation"] == "held out of the training images: share 0.25, stratified, seed 3"
    assert (
        origins["test"] == "held out of all images: share 0.2, stratified, seed 3; 50 of 359 kept, stratified, seed 3"
    )


def test_the_splits_share_no_row(tmp_path):
    """Every pixel value of the tree is used once, so that a row in two splits would show."""
    put_tree(tmp_path / "images")
    prepare_data(folder(tmp_path / "images"), tmp_path / "out")
    splits = [load_split(tmp_path / "out" / f"{name}.npz") for name in NAMES]
    values = np.concatenate([split.images[:, 0, 0, 0] for split in splits])
    assert sorted(values.tolist()) == [*range(20), *range(100, 120)]


def test_nothing_in_the_files_depends_on_where_the_images_lie(tmp_path):
    for place in ("here", "some/where/else"):
        put_tree(tmp_path / place)
        prepare_data(folder(tmp_path / place), tmp_path / place / ".out")
    for file in ("manifest.json", *(f"{name}.npz" for name in NAMES)):
        assert (tmp_path / "here/.out" / file).read_bytes() == (tmp_path / "some/where/else/.out" / file).read_bytes()


def test_the_rule_of_resizing_is_stated_where_images_of_any_size_are_taken(tmp_path):
    put_tree(tmp_path / "images")
    assert prepare_data(folder(tmp_path / "images"), tmp_path / "out")["resize"] == {
        "shorterSide": 4,
        "filter": "bicubic",
        "crop": "centre",
    }
    assert "resize" not in prepare_data(DataSettings(name="digits"), tmp_path / "digits")


def test_copies_of_training_images_in_the_test_split_are_counted():
    """Of four test images, two are in train (one of them under another label) and one in validation."""
    pixels = np.arange(6, dtype=np.uint8)[:, None, None, None] * np.ones((1, 4, 4, 1), np.uint8)
    split = {
        "train": Split(pixels[[0, 1, 1]], np.array([0, 1, 1])),
        "validation": Split(pixels[[2]], np.array([0])),
        "test": Split(pixels[[0, 1, 2, 5]], np.array([0, 0, 1, 1])),
    }
    image_set = ImageSet(split["train"], split["test"], ["a", "b"], "source", "unknown", None)
    manifest = build_manifest("folder", image_set, split, dict.fromkeys(NAMES, "origin"))
    assert manifest["leakage"] == {
        "test_images_also_in_train": 3,
        "validation_images_also_in_train": 0,
        "repeated": {"train": 1, "validation": 0, "test": 0},
        "two_labels": {"train": 2, "validation": 1, "test": 2},
    }
    assert manifest["splits"]["train"] == {
        "count": 3,
        "per_class": [1, 2],
        "sha256": split_sha256(split["train"]),
        "origin": "origin",
    }
    assert manifest["preprocessing"] is None


def test_a_digest_covers_labels_and_images():
    images = np.zeros((2, 4, 4, 1), np.uint8)
    first = split_sha256(Split(images, np.array([0, 1])))
    assert first != split_sha256(Split(images, np.array([1, 0])))
    assert first != split_sha256(Split(images + np.uint8(1), np.array([0, 1])))
    assert first == hashlib.sha256(bytes(32) + bytes(8) + b"\x01" + bytes(7)).hexdigest()


def test_a_manifest_is_sorted_indented_and_ends_with_a_newline(tmp_path):
    save_manifest(tmp_path / "manifest.json", {"b": 1, "a": "é"})
    assert (tmp_path / "manifest.json").read_text(encoding="utf-8") == '{\n  "a": "é",\n  "b": 1\n}\n'


@pytest.mark.parametrize("content", [None, "{", "[]"])
def test_a_missing_or_broken_manifest_names_the_stage(tmp_path, content):
    if content is not None:
        (tmp_path / "manifest.json").write_text(content)
    with pytest.raises(HallmarkError, match=r"manifest\.json: .*stage prepare"):
        load_manifest(tmp_path / "manifest.json")


@pytest.mark.parametrize(("field", "there"), [("train_images", 1438), ("test_images", 359)])
def test_a_limit_above_what_there_is_is_refused(tmp_path, field, there):
    with pytest.raises(DataError, match=f"data.{field}: must be at most {there}, as many as there are, got 5000"):
        prepare_data(DataSettings(name="digits", **{field: 5000}), tmp_path)
    assert not os.listdir(tmp_path)


def test_a_class_without_training_images_is_refused(tmp_path):
    put_tree(tmp_path / "images")
    put_image(tmp_path / "images" / "emu" / "only.png", 255)
    with pytest.raises(DataError, match="no training image is left of class emu;"):
        prepare_data(folder(tmp_path / "images"), tmp_path / "out")


@pytest.mark.skipif("HALLMARK_CIFAR10" not in os.environ, reason="HALLMARK_CIFAR10 names no folder with CIFAR-10")
def test_the_real_cifar10_is_prepared(tmp_path):
    manifest = prepare_data(DataSettings(name="cifar10", path=os.environ["HALLMARK_CIFAR10"]), tmp_path)
    assert [manifest["splits"][name]["per_class"] for name in NAMES] == [[4500] * 10, [500] * 10, [1000] * 10]
    assert len(manifest["test_images_sha256"]) == 10_000
    assert os.environ["HALLMARK_CIFAR10"] not in json.dumps(manifest)


def folder(path):
    return DataSettings(name="folder", path=str(path), image_size=4, channels=1)


def put_tree(root):
    for start, name in ((0, "cat"), (100, "dog")):
        for n in range(20):
            put_image(root / name / f"{n:02}.png", start + n)


def put_image(path, value):
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.new("L", (4, 4), value).save(path)
