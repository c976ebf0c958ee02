import hashlib
import json
import os
import zipfile

import numpy as np
import pytest

from bundle.digests import canonical_json
from pipeline.data.manifest import load_manifest, split_sha256
from pipeline.data.split import DataError, load_split
from pipeline.params import DataSettings, Params
from pipeline.prepare import main, prepare_data


def pictures(count=30, shape=(8, 8, 1), seed=0):
    rng = np.random.default_rng(seed)
    return rng.integers(0, 256, (count, *shape), dtype=np.uint8), np.arange(count) % 10


def digits(tmp_path, **others):
    return DataSettings(name="digits", path=str(tmp_path / "datasets"), extra="generated/more.npz", **others)


def put(tmp_path, images, labels, save=np.savez):
    file = tmp_path / "datasets" / "generated" / "more.npz"
    file.parent.mkdir(parents=True, exist_ok=True)
    save(file, images=images, labels=labels)
    return file


def prepared(tmp_path, **others):
    return prepare_data(digits(tmp_path, **others), tmp_path / "out")


def refusal(tmp_path, **others):
    with pytest.raises(DataError) as caught:
        prepared(tmp_path, **others)
    assert not (tmp_path / "out").exists()
    message = str(caught.value)
    assert "\n" not in message
    return message


@pytest.mark.parametrize("save", [np.savez, np.savez_compressed])
def test_extra_images_follow_the_own_ones(tmp_path, save):
    images, labels = pictures()
    put(tmp_path, images, labels, save)
    prepared(tmp_path)
    plain = prepare_data(DataSettings(name="digits"), tmp_path / "plain")
    train, own = load_split(tmp_path / "out/train.npz"), load_split(tmp_path / "plain/train.npz")
    np.testing.assert_array_equal(train.images, np.concatenate([own.images, images]))
    assert train.labels.tolist() == own.labels.tolist() + labels.tolist()
    assert len(own) == plain["splits"]["train"]["count"] == 1294
    for name in ("validation.npz", "test.npz"):
        assert (tmp_path / "out" / name).read_bytes() == (tmp_path / "plain" / name).read_bytes()


def test_the_manifest_declares_them(tmp_path):
    images, labels = pictures()
    file = put(tmp_path, images, np.minimum(labels, 8))
    manifest = prepared(tmp_path, extra_share=0.3)
    assert load_manifest(tmp_path / "out/manifest.json") == manifest
    assert manifest["extra"] == {
        "file_sha256": hashlib.sha256(file.read_bytes()).hexdigest(),
        "images": 30,
        "per_class": [3] * 8 + [6, 0],
        "share": 0.3,
    }
    train = manifest["splits"]["train"]
    assert (train["count"], train["own"]) == (1324, 1294)
    assert train["sha256"] == split_sha256(load_split(tmp_path / "out/train.npz"))
    assert train["origin"].endswith("; then 30 images of data.extra")
    assert sum(train["per_class"]) == 1324
    assert "own" not in manifest["splits"]["test"]
    assert (manifest["settings"]["extra"], manifest["settings"]["extra_share"]) == ("generated/more.npz", 0.3)
    assert str(tmp_path) not in json.dumps(manifest)


def test_without_them_nothing_in_the_files_says_so(tmp_path):
    """Manifests of published results were made before there was data.extra."""
    manifest = prepare_data(DataSettings(name="digits", extra_share=0.3), tmp_path)
    assert "extra" not in manifest and "own" not in manifest["splits"]["train"]
    assert sorted(manifest["settings"]) == [
        *("channels", "image_size", "name", "seed", "test_images", "test_share", "train_images", "validation_share"),
    ]
    # The file of the release before data.extra, to the byte, but for the leaks, of which it counted one kind.
    counted = {"test_images_also_in_train": manifest["leakage"]["test_images_also_in_train"]}
    digest = hashlib.sha256(canonical_json({**manifest, "leakage": counted})).hexdigest()
    assert digest == "3151fecddc52f8e6adf38ba3e7531a642237dd0e89d1ac3d61fbcc452d184c0d"


def test_the_stage_says_how_many_there_are(tmp_path, monkeypatch, capsys):
    put(tmp_path, *pictures())
    monkeypatch.chdir(tmp_path)
    data = DataSettings(name="digits", extra="generated/more.npz", extra_share=0.25)
    main(Params(data=data, method={"name": "any"}))
    assert capsys.readouterr().out.splitlines()[0].startswith("digits: 1324 train, 144 validation")
    main(Params(data=data, method={"name": "any"}))
    assert capsys.readouterr().out.splitlines()[3:] == ["30 of the training images are extra: 25% of every batch"]


@pytest.mark.parametrize("kind", [np.uint8, np.int32, ">i8", np.uint64])
def test_labels_may_be_any_whole_numbers(tmp_path, kind):
    images, labels = pictures()
    put(tmp_path, images, labels.astype(kind))
    prepared(tmp_path)
    assert load_split(tmp_path / "out/train.npz").labels[-30:].tolist() == labels.tolist()


def test_the_order_in_memory_does_not_matter(tmp_path):
    images, labels = pictures()
    put(tmp_path, images, labels)
    first = prepared(tmp_path)["splits"]["train"]["sha256"]
    put(tmp_path, np.asfortranarray(images), labels)
    assert prepared(tmp_path)["splits"]["train"]["sha256"] == first
    assert load_split(tmp_path / "out/train.npz").images.flags.c_contiguous


@pytest.mark.parametrize("extra", ["../more.npz", "/more.npz", "generated/../../more.npz", ".."])
def test_a_path_outside_of_data_path_is_refused(tmp_path, extra):
    """DVC watches data.path: it would not see the file change. The file is there, so that only its place is wrong."""
    (tmp_path / "datasets" / "generated").mkdir(parents=True)
    np.savez(tmp_path / "more.npz", images=pictures()[0], labels=pictures()[1])
    extra = str(tmp_path / "more.npz") if extra.startswith("/") else extra
    with pytest.raises(DataError, match=r"data\.extra: must be the path of a file below data\.path, .*DVC"):
        prepare_data(DataSettings(name="digits", path=str(tmp_path / "datasets"), extra=extra), tmp_path / "out")


def test_a_missing_file_is_refused(tmp_path):
    assert "more.npz: there is no such file; data.extra must name" in refusal(tmp_path)
    (tmp_path / "datasets/generated/more.npz").mkdir(parents=True)
    assert "more.npz: there is no such file" in refusal(tmp_path)


@pytest.mark.parametrize("damage", ["empty", "text", "npy", "cut", "bit", "compressed bit", "encrypted", "no array"])
def test_what_is_no_npz_or_is_damaged_is_refused(tmp_path, damage):
    file = put(tmp_path, *pictures())
    content = bytearray(file.read_bytes())
    match damage:
        case "empty":
            file.write_bytes(b"")
        case "text":
            file.write_text("images, labels")
        case "npy":
            np.save(file.with_suffix(".npy"), pictures()[0])
            file.with_suffix(".npy").replace(file)
        case "cut":
            file.write_bytes(content[:-40])
        case "bit":
            content[400] ^= 1
            file.write_bytes(content)
        case "compressed bit":
            content = bytearray(put(tmp_path, *pictures(), np.savez_compressed).read_bytes())
            content[100:140] = b"\xff" * 40
            file.write_bytes(content)
        case "encrypted":
            central = content.index(b"PK\x01\x02")
            content[6] |= 1
            content[central + 8] |= 1
            file.write_bytes(content)
        case _:
            with zipfile.ZipFile(file, "w") as archive:
                archive.writestr("images.npy", b"text")
                archive.writestr("labels.npy", b"text")
    assert "more.npz: cannot be read (" in refusal(tmp_path)


@pytest.mark.parametrize("which", ["images", "labels"])
def test_pickled_objects_are_not_loaded(tmp_path, which):
    """A pickle runs code of whoever made the file."""

    class Trap:
        def __reduce__(self):
            return os.mkdir, (str(tmp_path / "ran"),)

    arrays = dict(zip(("images", "labels"), pictures(), strict=True))
    arrays[which] = np.array([Trap()] * 30, dtype=object)
    put(tmp_path, arrays["images"], arrays["labels"])
    assert "more.npz: cannot be read (not a readable npz archive (it holds pickled objects" in refusal(tmp_path)
    assert not (tmp_path / "ran").exists()


@pytest.mark.parametrize("keys", [("image", "label"), ("images",), ()])
def test_other_names_of_arrays_are_refused_with_what_is_there(tmp_path, keys):
    file = put(tmp_path, *pictures())
    np.savez(file, **dict.fromkeys(keys, pictures()[0]))
    message = refusal(tmp_path)
    assert "must hold the arrays images and labels, as numpy.savez" in message
    assert message.endswith(f"holds {', '.join(keys) or 'nothing'}")


def test_files_of_another_kind_with_these_names_are_no_arrays(tmp_path):
    file = put(tmp_path, *pictures())
    with zipfile.ZipFile(file, "w") as archive:
        archive.writestr("images", b"text")
        archive.writestr("labels", b"text")
    assert "cannot be read (must hold every array once, and nothing but arrays)" in refusal(tmp_path)


def test_shapes_are_known_before_an_array_is_unpacked(tmp_path):
    """A header of a few bytes that asks for a petabyte, or for other images; what follows it is never read."""
    file = put(tmp_path, *pictures())
    for shape, said in (((10**13, 8, 8, 1), "more than this machine's memory"), ((10**13, 9, 8, 1), "like the other")):
        with zipfile.ZipFile(file, "w") as archive:
            for name, kind, size in (("images", "|u1", shape), ("labels", "<i8", shape[:1])):
                with archive.open(f"{name}.npy", "w") as member:
                    header = {"descr": kind, "fortran_order": False, "shape": size}
                    np.lib.format.write_array_header_1_0(member, header)
        assert said in refusal(tmp_path)


@pytest.mark.parametrize(
    ("shape", "dtype", "got"),
    [
        ((5, 8, 8, 3), np.uint8, r"uint8 (5, 8, 8, 3)"),
        ((5, 1, 8, 8), np.uint8, r"uint8 (5, 1, 8, 8)"),
        ((5, 16, 16, 1), np.uint8, r"uint8 (5, 16, 16, 1)"),
        ((5, 8, 8), np.uint8, r"uint8 (5, 8, 8)"),
        ((), np.uint8, r"uint8 ()"),
        ((0, 8, 8, 1), np.uint8, r"uint8 (0, 8, 8, 1)"),
        ((5, 8, 8, 1), np.float32, r"float32 (5, 8, 8, 1)"),
    ],
)
def test_images_of_another_shape_or_type_are_refused(tmp_path, shape, dtype, got):
    put(tmp_path, np.zeros(shape, dtype), np.zeros(5, np.int64))
    message = refusal(tmp_path)
    assert f"images must be uint8 (N, 8, 8, 1) with N ≥ 1, like the other training images, got {got}" in message


@pytest.mark.parametrize(
    ("labels", "said"),
    [
        (np.zeros(4, np.int64), "labels must be whole numbers (30,), one per image, got int64 (4,)"),
        (np.zeros((30, 10), np.int64), "got int64 (30, 10)"),
        (np.zeros(30, np.float32), "got float32 (30,)"),
        (np.zeros(30, bool), "got bool (30,)"),
        (np.array(["cat"] * 30), "got <U3 (30,)"),
        (np.full(30, 10), "labels must be 0 to 9, the data set's classes, got 10 to 10"),
        (np.arange(30) % 5 - 1, "got -1 to 3"),
        (np.full(30, 2**64 - 1, np.uint64), "got 18446744073709551615 to 18446744073709551615"),
    ],
)
def test_labels_that_are_no_classes_of_the_images_are_refused(tmp_path, labels, said):
    put(tmp_path, pictures()[0], labels)
    assert said in refusal(tmp_path)


def test_held_out_images_among_them_are_found_and_counted(tmp_path):
    prepare_data(DataSettings(name="digits"), tmp_path / "plain")
    validation, test = (load_split(tmp_path / f"plain/{name}.npz") for name in ("validation", "test"))
    images, labels = pictures()
    images[:3], images[20] = test.images[[0, 5, 5]], validation.images[7]
    put(tmp_path, images, labels)
    said = "3 of its images are in the test split and 1 of its images are in the validation split, byte for byte"
    assert said in refusal(tmp_path)
    images[:3] ^= 1
    put(tmp_path, images, labels)
    assert "more.npz: 1 of its images are in the validation split, byte" in refusal(tmp_path)


def test_test_images_beyond_the_limit_are_held_out_too(tmp_path):
    """The same model may be tested on all of them later."""
    prepare_data(DataSettings(name="digits"), tmp_path / "whole")
    prepare_data(DataSettings(name="digits", test_images=50), tmp_path / "limited")
    whole, limited = (load_split(tmp_path / f"{name}/test.npz") for name in ("whole", "limited"))
    kept = {image.tobytes() for image in limited.images}
    images, labels = pictures()
    images[4] = next(image for image in whole.images if image.tobytes() not in kept)
    put(tmp_path, images, labels)
    assert "1 of its images are in the test split" in refusal(tmp_path, test_images=50)


def test_copies_of_training_images_are_allowed(tmp_path):
    prepare_data(DataSettings(name="digits"), tmp_path / "plain")
    train = load_split(tmp_path / "plain/train.npz")
    put(tmp_path, train.images[:20], train.labels[:20])
    assert prepared(tmp_path)["extra"]["images"] == 20
