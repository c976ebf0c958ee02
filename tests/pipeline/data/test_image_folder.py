import os

import numpy as np
import pytest
from PIL import Image

from bundle.images.decoding import describe_rule
from pipeline import prepare
from pipeline.data.manifest import load_manifest
from pipeline.data.sources import read_image_folder
from pipeline.data.split import DataError
from pipeline.params import DataSettings
from pipeline.prepare import prepare_data
from pipeline.resolve import complete
from pipeline.run.records import Folders


def settings(path, **others):
    return DataSettings(name="folder", path=str(path), **{"image_size": 4, "channels": 1, **others})


def put(path, value=0):
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.new("L", (4, 4), value).save(path)


def put_tree(root, classes=("cat", "dog"), count=10, start=0):
    for label, name in enumerate(classes):
        for n in range(count):
            put(root / name / f"{n}.png", start + 100 * label + n)


def values(split):
    return split.images[:, 0, 0, 0].tolist()


def test_train_and_test_folders_are_the_splits(tmp_path):
    put_tree(tmp_path / "train", count=3)
    put_tree(tmp_path / "test", count=2, start=50)
    images = read_image_folder(settings(tmp_path))
    assert images.classes == ["cat", "dog"]
    assert values(images.train) == [0, 1, 2, 100, 101, 102]
    assert images.train.labels.tolist() == [0, 0, 0, 1, 1, 1]
    assert values(images.test) == [50, 51, 150, 151]
    assert images.test.labels.tolist() == [0, 0, 1, 1]
    assert images.licence == "unknown" and images.not_read == {}


def test_one_tree_is_split_by_its_share(tmp_path):
    put_tree(tmp_path, count=10)
    images = read_image_folder(settings(tmp_path, test_share=0.3, seed=4))
    assert np.bincount(images.test.labels).tolist() == [3, 3]
    assert sorted(values(images.train) + values(images.test)) == [*range(10), *range(100, 110)]
    assert images.test_origin == "held out of all images: share 0.3, stratified, seed 4"


def test_images_and_colours_are_those_asked_for(tmp_path):
    put_tree(tmp_path)
    assert read_image_folder(settings(tmp_path, image_size=6, channels=3)).train.images.shape[1:] == (6, 6, 3)


def test_folders_below_a_class_count_for_it_and_other_files_do_not(tmp_path):
    put_tree(tmp_path / "train", count=1)
    put_tree(tmp_path / "test", count=1)
    put(tmp_path / "train" / "cat" / "more" / "deep" / "a.PNG", 7)
    put(tmp_path / "train" / "cat" / ".ipynb_checkpoints" / "b.png", 8)
    put(tmp_path / "train" / ".hidden" / "b.png", 8)
    (tmp_path / "train" / "cat" / "._c.png").write_bytes(b"resource fork")
    (tmp_path / "train" / "cat" / "labels.csv").write_text("x")
    (tmp_path / "train" / "readme.txt").write_text("x")
    assert values(read_image_folder(settings(tmp_path)).train) == [0, 7, 100]


@pytest.mark.parametrize("names", [("Train", "Test"), ("TRAIN", "test"), ("Training", "Testing")])
def test_train_and_test_are_splits_however_they_are_written(tmp_path, names):
    for start, name in zip((0, 50), names, strict=True):
        put_tree(tmp_path / name, count=2, start=start)
    images = read_image_folder(settings(tmp_path))
    assert images.classes == ["cat", "dog"]
    assert (values(images.train), values(images.test)) == ([0, 1, 100, 101], [50, 51, 150, 151])
    assert (images.train_origin, images.test_origin) == (f"the folder {names[0]}", f"the folder {names[1]}")


@pytest.mark.parametrize("name", ["val", "Valid", "validation"])
def test_a_folder_for_validation_is_the_validation_split(tmp_path, name):
    for start, split in ((0, "train"), (30, name), (50, "test")):
        put_tree(tmp_path / split, count=3, start=start)
    images = read_image_folder(settings(tmp_path))
    assert values(images.validation) == [30, 31, 32, 130, 131, 132]
    manifest = prepare_data(settings(tmp_path), tmp_path / ".out")
    assert {key: split["count"] for key, split in manifest["splits"].items()} == {
        "train": 6,
        "validation": 6,
        "test": 6,
    }
    assert manifest["splits"]["validation"]["origin"] == f"the folder {name}"
    assert manifest["splits"]["train"]["origin"] == "the folder train"


def test_val_is_the_test_split_only_when_told(tmp_path):
    for start, split in ((0, "train"), (50, "Val")):
        put_tree(tmp_path / split, count=2, start=start)
    with pytest.raises(DataError, match=r"has train, Val and no test; .* set data\.test_folder: Val to measure on Val"):
        read_image_folder(settings(tmp_path))
    images = read_image_folder(settings(tmp_path, test_folder="Val"))
    assert values(images.test) == [50, 51, 150, 151] and images.validation is None
    with pytest.raises(DataError, match=r"data\.test_folder: .* got 'val'; there are Val, train"):
        read_image_folder(settings(tmp_path, test_folder="val"))


def test_a_test_folder_of_another_name_goes_before_test(tmp_path):
    for start, split in ((0, "train"), (30, "test"), (50, "held_out")):
        put_tree(tmp_path / split, count=1, start=start)
    images = read_image_folder(settings(tmp_path, test_folder="held_out"))
    assert values(images.test) == [50, 150]
    assert images.not_read == {"outside the folders that are read": 2}


@pytest.mark.parametrize("around", ["animals", "download/animals"])
def test_folders_around_the_images_are_looked_through(tmp_path, around):
    for start, split in ((0, "train"), (50, "test")):
        put_tree(tmp_path / "a" / around / split, count=2, start=start)
    put_tree(tmp_path / "b" / around, count=5)
    put(tmp_path / "b" / "__MACOSX" / "cat" / "1.png")
    assert values(read_image_folder(settings(tmp_path / "a")).test) == [50, 51, 150, 151]
    images = read_image_folder(settings(tmp_path / "b"))
    assert images.classes == ["cat", "dog"] and len(images.train) + len(images.test) == 10
    assert images.not_read == {"thumbnails and other files of the system": 1}


@pytest.mark.parametrize(
    ("folders", "sentence"),
    [
        (("first/cat", "first/dog", "second/cat", "second/dog"), "first, second hold the same folders, cat, dog,"),
        (("cat/train", "cat/test", "dog/train", "dog/test"), "cat, dog hold the same folders, test, train,"),
        (("cat/Train", "dog/Train"), "cat, dog hold the same folders, Train,"),
        (
            ("train/a/cat", "train/a/dog", "train/b/cat", "train/b/dog", "test/a/cat"),
            "a, b hold the same folders, cat, dog,",
        ),
    ],
)
def test_classes_that_hold_the_same_folders_are_none(tmp_path, folders, sentence):
    for folder in folders:
        put(tmp_path / folder / "1.png")
    with pytest.raises(DataError, match=sentence):
        read_image_folder(settings(tmp_path))


def test_one_folder_of_the_same_name_in_every_class_counts_for_it(tmp_path):
    """As Tiny ImageNet has them: train/n01443537/images/…"""
    for start, split in ((0, "train"), (50, "test")):
        for label, name in enumerate(("n01", "n02")):
            put(tmp_path / split / name / "images" / "1.png", start + 100 * label)
    assert values(read_image_folder(settings(tmp_path)).train) == [0, 100]


def test_two_folders_of_one_split_are_refused(tmp_path):
    for name in ("train", "test", "val", "valid"):
        put_tree(tmp_path / name, count=1)
    with pytest.raises(DataError, match="has val and valid, which are the same split"):
        read_image_folder(settings(tmp_path))


def test_every_file_that_is_not_read_is_counted_by_its_reason(tmp_path, capsys):
    for name in ("train", "test"):
        put_tree(tmp_path / name, count=10)
    put_tree(tmp_path / "more", count=1)
    for file in ("cat/@eaDir/1.jpg/SYNOPHOTO_THUMB_M.jpg", "@eaDir/2.jpg", "__MACOSX/cat/1.png"):
        put(tmp_path / "train" / file)
    put(tmp_path / "train" / "beside the classes.png")
    for file in (
        "train/cat/a.heic",
        "train/cat/b.HEIC",
        "labels.csv",
        "train/dog/Thumbs.db",
        "train/dog/._1.png",
        "notes",
    ):
        (tmp_path / file).write_bytes(b"x")
    os.mkfifo(tmp_path / "train" / "dog" / "pipe.png")
    expected = {
        "hidden": 1,
        "neither file nor folder": 1,
        "no suffix of a file type": 1,
        "outside the folders that are read": 3,
        "suffix .csv": 1,
        "suffix .db": 1,
        "suffix .heic": 2,
        "thumbnails and other files of the system": 3,
    }
    assert read_image_folder(settings(tmp_path)).not_read == expected
    data = {"name": "folder", "path": str(tmp_path), "image_size": 4, "channels": 1}
    prepare.main(complete({"data": data, "method": {"name": "standard"}}), Folders(tmp_path / ".out"))
    manifest = load_manifest(tmp_path / ".out" / "data" / "manifest.json")
    assert manifest["notRead"] == [{"reason": reason, "files": files} for reason, files in expected.items()]
    assert manifest["decoding"] == describe_rule()
    assert "files that are not read: 1 (hidden), 1 (neither file nor folder), " in capsys.readouterr().out


def test_extra_training_images_are_read_elsewhere(tmp_path):
    put_tree(tmp_path)
    (tmp_path / "generated.npz").write_bytes(b"")
    assert read_image_folder(settings(tmp_path, extra="generated.npz")).not_read == {}


def test_links_are_followed_to_files_and_to_folders_at_every_level(tmp_path, capsys):
    put_tree(tmp_path / "store", ("a", "b"), count=2)
    put(tmp_path / "blob.png", 7)
    (tmp_path / "blob.png").rename(tmp_path / "store" / "blob")
    for link, target in (("all/cat", "a"), ("all/dog/inner", "b"), ("all/dog/x.png", "blob")):
        (tmp_path / link).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / link).symlink_to(tmp_path / "store" / target)
    images = read_image_folder(settings(tmp_path / "all", test_share=0.5))
    assert sorted(values(images.train) + values(images.test)) == [0, 1, 7, 100, 101]
    assert "2 folders: cat, dog/inner: links, behind which DVC sees no change" in capsys.readouterr().out


@pytest.mark.parametrize("link", ["cat/1.png", "emu", "cat/more"])
def test_a_link_that_leads_nowhere_is_named(tmp_path, link):
    """A file or a whole class of DVC or git-annex that was not pulled."""
    put_tree(tmp_path)
    (tmp_path / link).unlink(missing_ok=True)
    (tmp_path / link).symlink_to("../.cache/gone")
    with pytest.raises(DataError, match=rf"cannot follow 1 link: {link}; pull the data \(dvc pull, git annex get\)"):
        read_image_folder(settings(tmp_path))
    (tmp_path / link).unlink()
    (tmp_path / "cat" / ".hidden").symlink_to("../.cache/gone")
    assert read_image_folder(settings(tmp_path)).not_read == {"hidden": 1}


def test_a_folder_that_holds_itself_is_refused(tmp_path):
    put_tree(tmp_path)
    (tmp_path / "cat" / "again").symlink_to("..")
    with pytest.raises(DataError, match="cat/again: is a link to a folder that holds it"):
        read_image_folder(settings(tmp_path))
    (tmp_path / "cat" / "again").rename(tmp_path / "cat" / ".again")
    assert read_image_folder(settings(tmp_path)).not_read == {"hidden": 1}


@pytest.mark.parametrize(("name", "counted"), [("cat", False), ("lost+found", True), ("@eaDir", True)])
def test_a_folder_that_may_not_be_read_is_never_an_empty_one(tmp_path, monkeypatch, name, counted):
    put_tree(tmp_path)
    (tmp_path / name).mkdir(exist_ok=True)
    listing = type(tmp_path).iterdir

    def iterdir(path):
        if path.name == name:
            raise PermissionError(13, "Permission denied")
        return listing(path)

    monkeypatch.setattr(type(tmp_path), "iterdir", iterdir)
    if counted:
        assert read_image_folder(settings(tmp_path)).not_read == {"thumbnails and other files of the system": 1}
    else:
        with pytest.raises(DataError, match=r"cat: cannot be read \(Permission denied\)"):
            read_image_folder(settings(tmp_path))


def test_the_sentences_name_no_path(tmp_path):
    put_tree(tmp_path)
    images = read_image_folder(settings(tmp_path))
    said = f"{images.source} {images.preprocessing} {images.train_origin} {images.test_origin}"
    assert str(tmp_path) not in said and tmp_path.name not in said


def test_different_classes_are_refused(tmp_path):
    put_tree(tmp_path / "train", ("cat", "dog", "emu"), 1)
    put_tree(tmp_path / "test", ("cat", "dog", "fox"), 1)
    with pytest.raises(DataError, match="the same classes; only one has emu, fox"):
        read_image_folder(settings(tmp_path))


def test_half_a_split_is_not_taken_for_a_class(tmp_path):
    """Otherwise train and val would become the two classes."""
    put_tree(tmp_path / "train")
    put_tree(tmp_path / "val")
    with pytest.raises(DataError, match=r"has .*train.* and no test; give both train and test"):
        read_image_folder(settings(tmp_path))


def test_test_images_alone_are_enough_where_nothing_is_trained(tmp_path):
    put_tree(tmp_path / "pictures" / "test")
    whole = read_image_folder(settings(tmp_path / "pictures")).test
    manifest = prepare_data(settings(tmp_path / "pictures"), tmp_path / "out", training=False)
    counts = {name: split["count"] for name, split in manifest["splits"].items()}
    assert counts["train"] == 0 and counts["validation"] > 0 and counts["validation"] + counts["test"] == len(whole)
    assert manifest["splits"]["validation"]["origin"].startswith("held out of the test images: share 0.1")
    with pytest.raises(DataError, match=r"none to train on.*make evaluate"):
        prepare_data(settings(tmp_path / "pictures"), tmp_path / "again")


def test_an_empty_class_is_refused(tmp_path):
    put_tree(tmp_path)
    (tmp_path / "emu").mkdir()
    with pytest.raises(DataError, match="file for class emu"):
        read_image_folder(settings(tmp_path))


def test_one_class_is_refused(tmp_path):
    put_tree(tmp_path, ("cat",))
    with pytest.raises(DataError, match="two or more classes, got cat"):
        read_image_folder(settings(tmp_path))


def test_a_folder_that_is_not_there_is_refused(tmp_path):
    with pytest.raises(DataError, match="gone: is not a folder"):
        read_image_folder(settings(tmp_path / "gone"))


def test_settings_that_nobody_filled_in_are_refused():
    with pytest.raises(DataError, match="needs image_size and channels"):
        read_image_folder(DataSettings(name="folder"))
