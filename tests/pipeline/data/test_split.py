import os
import zipfile

import numpy as np
import pytest

from pipeline.data.split import DataError, Split, load_split, save_split, stratified


@pytest.fixture
def split():
    rng = np.random.default_rng(0)
    return Split(rng.integers(0, 256, (12, 5, 4, 3), dtype=np.uint8), np.arange(12) % 3)


def test_a_split_survives_the_disk(tmp_path, split):
    save_split(tmp_path / "new" / "train.npz", split)
    loaded = load_split(tmp_path / "new" / "train.npz")
    np.testing.assert_array_equal(loaded.images, split.images)
    np.testing.assert_array_equal(loaded.labels, split.labels)
    assert loaded.images.dtype == np.uint8 and loaded.labels.dtype == np.int64


def test_equal_splits_give_equal_files(tmp_path, split, monkeypatch):
    save_split(tmp_path / "a.npz", split)
    monkeypatch.setattr("time.time", lambda: 2e9)
    save_split(tmp_path / "b.npz", split)
    assert (tmp_path / "a.npz").read_bytes() == (tmp_path / "b.npz").read_bytes()
    assert all(item.compress_type == zipfile.ZIP_STORED for item in zipfile.ZipFile(tmp_path / "a.npz").infolist())


def test_a_failed_write_leaves_the_old_file_and_nothing_else(tmp_path, split, monkeypatch):
    save_split(tmp_path / "train.npz", split)
    before = (tmp_path / "train.npz").read_bytes()

    def full(file, **arrays):
        raise OSError("no space left")

    monkeypatch.setattr(np, "savez", full)
    with pytest.raises(OSError, match="no space"):
        save_split(tmp_path / "train.npz", split)
    assert os.listdir(tmp_path) == ["train.npz"]
    assert (tmp_path / "train.npz").read_bytes() == before


def test_a_missing_file_names_the_stage_that_makes_it(tmp_path):
    with pytest.raises(DataError, match=r"train\.npz: there is no such file; the stage prepare makes it"):
        load_split(tmp_path / "train.npz")


@pytest.mark.parametrize("damage", ["cut", "bit", "text", "empty", "other arrays", "wrong type", "pickle"])
def test_a_damaged_file_is_refused(tmp_path, split, damage):
    path = tmp_path / "train.npz"
    save_split(path, split)
    content = bytearray(path.read_bytes())
    if damage == "cut":
        path.write_bytes(content[:-30])
    elif damage == "bit":
        content[400] ^= 1
        path.write_bytes(content)
    elif damage == "text":
        path.write_text("hello")
    elif damage == "empty":
        path.write_bytes(b"")
    elif damage == "other arrays":
        np.savez(path, x=split.images)
    elif damage == "wrong type":
        np.savez(path, images=split.images.astype(np.float32), labels=split.labels)
    else:
        np.savez(path, images=np.array([{}], dtype=object), labels=split.labels)
    with pytest.raises(DataError, match=r"train\.npz: is not a split .*prepare"):
        load_split(path)


@pytest.mark.parametrize(
    ("images", "labels", "message"),
    [
        (np.zeros((2, 4, 4), np.uint8), np.zeros(2, np.int64), "images"),
        (np.zeros((2, 4, 4, 2), np.uint8), np.zeros(2, np.int64), "images"),
        (np.zeros((2, 4, 4, 3), np.float32), np.zeros(2, np.int64), "images"),
        (np.zeros((2, 4, 4, 3), np.uint8), np.zeros(3, np.int64), "labels"),
        (np.zeros((2, 4, 4, 3), np.uint8), np.zeros(2, np.int32), "labels"),
        (np.zeros((2, 4, 4, 3), np.uint8), np.array([0, -1]), "labels"),
    ],
)
def test_a_split_refuses_other_shapes_and_types(images, labels, message):
    with pytest.raises(DataError, match=message):
        Split(images, labels)


def test_take_and_leave_share_out_the_images(split):
    taken, left = split.take(np.array([1, 5])), split.leave(np.array([1, 5]))
    np.testing.assert_array_equal(taken.images, split.images[[1, 5]])
    np.testing.assert_array_equal(left.labels, np.delete(split.labels, [1, 5]))
    assert len(taken) + len(left) == len(split)


def counts_of(labels, indices, classes):
    return np.bincount(labels[indices], minlength=classes).tolist()


def test_every_class_keeps_its_share():
    labels = np.repeat([0, 1, 2], [60, 30, 10])
    assert counts_of(labels, stratified(labels, 10, 0), 3) == [6, 3, 1]
    assert counts_of(labels, stratified(labels, 0.2, 0), 3) == [12, 6, 2]


def test_largest_remainders_get_the_rest():
    """Quotas 3.85, 1.75 and 1.4 of 7: whole parts 3, 1, 1, and the two largest remainders get one more."""
    labels = np.repeat([0, 1, 2], [55, 25, 20])
    assert counts_of(labels, stratified(labels, 7, 0), 3) == [4, 2, 1]


def test_a_rare_class_gets_one_where_the_count_allows_it():
    labels = np.repeat([0, 1, 2], [96, 3, 1])
    assert counts_of(labels, stratified(labels, 5, 0), 3) == [3, 1, 1]
    assert counts_of(labels, stratified(labels, 2, 0), 3) == [2, 0, 0]


def test_a_draw_is_sorted_without_repeats_and_set_by_the_seed():
    labels = np.random.default_rng(3).integers(0, 7, 500)
    drawn = stratified(labels, 100, 5)
    assert drawn.dtype == np.int64 and len(drawn) == 100
    assert (np.diff(drawn) > 0).all()
    np.testing.assert_array_equal(drawn, stratified(labels, 100, 5))
    assert drawn.tolist() != stratified(labels, 100, 6).tolist()


def test_the_draw_never_changes():
    """Published results depend on these indices: another result here is a break, not a refactoring."""
    assert stratified(np.arange(40) % 4, 8, 0).tolist() == [2, 3, 11, 13, 18, 20, 21, 32]


def test_places_within_a_class_are_drawn_evenly():
    labels = np.zeros(10, np.int64)
    times = np.bincount(np.concatenate([stratified(labels, 3, seed) for seed in range(2000)]), minlength=10)
    assert abs(times - 600).max() < 100  # five standard deviations


def test_class_numbers_need_not_be_dense():
    labels = np.array([7] * 10 + [3] * 10)
    assert counts_of(labels, stratified(labels, 6, 0), 8)[3::4] == [3, 3]


def test_more_than_there_are_means_all():
    assert stratified(np.zeros(5, np.int64), 9, 0).tolist() == [0, 1, 2, 3, 4]


@pytest.mark.parametrize(("labels", "amount"), [([], 3), ([0, 1], 0), ([0, 1], 0.0), ([0, 1], 1.0), ([0, 1], -0.5)])
def test_amounts_that_mean_nothing_are_refused(labels, amount):
    with pytest.raises(DataError):
        stratified(np.array(labels, np.int64), amount, 0)
