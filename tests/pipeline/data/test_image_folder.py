import numpy as np
import pytest
from PIL import Image

from pipeline.data.image_folder import read_image_folder
from pipeline.data.preparation import prepare_data
from pipeline.data.split import DataError
from pipeline.params import DataSettings


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
    assert images.licence == "unknown" and "not read" not in images.source


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


def test_folders_beside_train_and_test_are_named_in_the_manifest(tmp_path):
    for name in ("train", "test", "val"):
        put_tree(tmp_path / name, count=1)
    images = read_image_folder(settings(tmp_path))
    assert len(images.train) == 2
    assert images.source.endswith("not read: val")


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
    with pytest.raises(DataError, match="has train and no test"):
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
