import hashlib
import os
import pickle
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from sklearn.datasets import load_digits
from torchvision.datasets import CIFAR10, CIFAR100

from pipeline.data.sources import SOURCES, read_source
from pipeline.data.split import DataError
from pipeline.params import DataSettings


def test_every_name_of_the_settings_has_a_source():
    names = DataSettings.model_json_schema()["properties"]["name"]["enum"]
    assert sorted(SOURCES) == sorted(names)


def test_digits_are_exact_to_invert():
    images = read_source(DataSettings(name="digits"))
    pixels = np.concatenate([images.train.images, images.test.images])
    original = load_digits().images
    back = np.rint(pixels[..., 0] * (16 / 255))
    assert pixels.shape == (1797, 8, 8, 1) and pixels.max() == 255
    assert sorted(map(bytes, back.astype(np.uint8))) == sorted(map(bytes, original.astype(np.uint8)))


def test_digits_have_a_stratified_test_split_set_by_the_seed():
    first, second, third = (read_source(DataSettings(name="digits", seed=seed)) for seed in (0, 0, 1))
    assert len(first.test) == 359 and len(first.train) == 1438
    counts = np.bincount(np.concatenate([first.train.labels, first.test.labels]))
    assert abs(np.bincount(first.test.labels) - counts * 359 / 1797).max() < 1
    np.testing.assert_array_equal(first.test.images, second.test.images)
    assert not np.array_equal(first.test.images, third.test.images)
    assert first.classes == list("0123456789")


def write_pickle(path, content):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(pickle.dumps(content))
    return hashlib.md5(path.read_bytes()).hexdigest()


@pytest.fixture
def small_cifar100(tmp_path, monkeypatch):
    """CIFAR-100's layout with 6 training and 4 test images, and the checksums of these files."""
    rng = np.random.default_rng(0)
    folder = tmp_path / "cifar-100-python"
    pixels = {name: rng.integers(0, 256, (count, 3072), dtype=np.uint8) for name, count in (("train", 6), ("test", 4))}
    for name, values in pixels.items():
        labels = [n % 3 for n in range(len(values))]
        digest = write_pickle(
            folder / name, {"data": values, "fine_labels": labels, "coarse_labels": [0] * len(values)}
        )
        monkeypatch.setattr(CIFAR100, f"{name}_list", [[name, digest]])
    digest = write_pickle(
        folder / "meta", {"fine_label_names": ["apple", "bear", "cloud"], "coarse_label_names": ["x"]}
    )
    monkeypatch.setattr(CIFAR100, "meta", {"filename": "meta", "key": "fine_label_names", "md5": digest})
    return tmp_path, pixels


@pytest.mark.parametrize("inside", ["", "cifar-100-python"])
def test_cifar100_is_read_from_its_folder_with_fine_labels(small_cifar100, inside):
    root, pixels = small_cifar100
    images = read_source(DataSettings(name="cifar100", path=str(root / inside)))
    assert images.train.labels.tolist() == [0, 1, 2, 0, 1, 2]
    assert images.classes == ["apple", "bear", "cloud"]
    assert images.test.images.shape == (4, 32, 32, 3) and images.test.images.flags.c_contiguous
    np.testing.assert_array_equal(images.test.images[1, :, :, 2].ravel(), pixels["test"][1, 2048:])


@pytest.mark.parametrize("name", ["train", "test", "meta"])
def test_a_changed_cifar_file_is_refused_before_it_is_unpickled(small_cifar100, name):
    root, _ = small_cifar100
    (root / "cifar-100-python" / name).write_bytes(pickle.dumps(Trap(str(root / "sprung"))))
    with pytest.raises(
        DataError, match=r"cifar-100-python: files are missing or differ from the published ones \(MD5\)"
    ):
        read_source(DataSettings(name="cifar100", path=str(root)))
    assert not (root / "sprung").exists()


class Trap:
    """Makes a folder when it is unpickled."""

    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return os.mkdir, (self.path,)


@pytest.mark.parametrize("path", ["datasets", "elsewhere"])
def test_an_absent_cifar10_without_network_says_what_to_place_where(tmp_path, monkeypatch, path):
    def offline(self):
        raise OSError("<urlopen error [Errno -2] Name or service not known>")

    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(CIFAR10, "download", offline)
    with pytest.raises(DataError) as caught:
        read_source(DataSettings(name="cifar10", path=path))
    message = str(caught.value)
    assert message.startswith(f"{path}/cifar-10-batches-py: is not there and cannot be downloaded")
    assert f"so that {path} holds the folder cifar-10-batches-py" in message
    assert "cifar-10-python.tar.gz" in message and "\n" not in message


def test_cifar_is_downloaded_where_it_is_absent(small_cifar100, monkeypatch, tmp_path):
    root, _ = small_cifar100
    (root / "cifar-100-python").rename(root / "remote")
    monkeypatch.setattr(CIFAR100, "download", lambda self: (root / "remote").rename(Path(self.root) / self.base_folder))
    assert len(read_source(DataSettings(name="cifar100", path=str(root))).train) == 6


WNIDS = ("n02", "n01", "n03")


@pytest.fixture
def small_tiny_imagenet(tmp_path):
    root = tmp_path / "tiny-imagenet-200"
    for label, wnid in enumerate(WNIDS):
        (root / "train" / wnid / "images").mkdir(parents=True)
        for n in range(2):
            Image.new("RGB", (64, 64), (40 * label + n * 10,) * 3).save(root / f"train/{wnid}/images/{wnid}_{n}.JPEG")
    (root / "val" / "images").mkdir(parents=True)
    lines = []
    for n, wnid in enumerate(("n03", "n01", "n02", "n01")):
        Image.new("L" if n == 0 else "RGB", (64, 64), 200 + n if n == 0 else (200 + n,) * 3).save(
            root / f"val/images/val_{n}.JPEG"
        )
        lines.append(f"val_{n}.JPEG\t{wnid}\t0\t0\t62\t62\n")
    (root / "val" / "val_annotations.txt").write_text("".join(lines))
    (root / "wnids.txt").write_text("\n".join(WNIDS) + "\n")
    (root / "words.txt").write_text("n01\tgoldfish, Carassius auratus\nn02\tcrane\nn03\tcrane\nn04\tother\n")
    return tmp_path


@pytest.mark.parametrize("inside", ["", "tiny-imagenet-200"])
def test_tiny_imagenet_is_read_in_its_official_order(small_tiny_imagenet, inside):
    images = read_source(DataSettings(name="tiny_imagenet", path=str(small_tiny_imagenet / inside)))
    assert images.train.images.shape == (6, 64, 64, 3)
    assert images.train.images[:, 0, 0, 0].tolist() == [0, 10, 40, 50, 80, 90]
    assert images.train.labels.tolist() == [0, 0, 1, 1, 2, 2]
    assert images.test.images[:, 5, 5, 1].tolist() == [200, 201, 202, 203]
    assert images.test.labels.tolist() == [2, 1, 0, 1]
    assert images.classes == ["crane (n02)", "goldfish, Carassius auratus", "crane (n03)"]
    assert "official validation split" in images.test_origin


def test_tiny_imagenet_without_words_has_wnids_as_names(small_tiny_imagenet):
    (small_tiny_imagenet / "tiny-imagenet-200" / "words.txt").unlink()
    assert read_source(DataSettings(name="tiny_imagenet", path=str(small_tiny_imagenet))).classes == list(WNIDS)


def test_an_absent_tiny_imagenet_says_what_to_place_where(tmp_path):
    with pytest.raises(DataError, match=r"holds no Tiny ImageNet; unpack tiny-imagenet-200\.zip there"):
        read_source(DataSettings(name="tiny_imagenet", path=str(tmp_path)))


def test_a_tiny_imagenet_with_gaps_is_refused(small_tiny_imagenet):
    root = small_tiny_imagenet / "tiny-imagenet-200"
    chosen = DataSettings(name="tiny_imagenet", path=str(small_tiny_imagenet))
    (root / "val" / "images" / "val_2.JPEG").unlink()
    with pytest.raises(DataError, match=r"1 image file: val/images/val_2\.JPEG \(there is no such file\)"):
        read_source(chosen)
    (root / "wnids.txt").write_text("n02\nn03\n")
    with pytest.raises(DataError, match=r"val_annotations\.txt: line 2 has no class of wnids\.txt"):
        read_source(chosen)
    (root / "wnids.txt").write_text("n02\nn09\n")
    with pytest.raises(DataError, match="train/n09/images has no JPEG file"):
        read_source(chosen)


@pytest.mark.skipif("HALLMARK_CIFAR10" not in os.environ, reason="HALLMARK_CIFAR10 names no folder with CIFAR-10")
def test_the_real_cifar10_is_read():
    images = read_source(DataSettings(name="cifar10", path=os.environ["HALLMARK_CIFAR10"]))
    assert images.train.images.shape == (50_000, 32, 32, 3) and images.test.images.shape == (10_000, 32, 32, 3)
    assert np.bincount(images.train.labels).tolist() == [5_000] * 10
    assert np.bincount(images.test.labels).tolist() == [1_000] * 10
    assert images.classes[:3] == ["airplane", "automobile", "bird"]
    assert images.train.labels[:5].tolist() == [6, 9, 9, 4, 1]
    assert images.train.images[0, 0, 0].tolist() == [59, 62, 63]
