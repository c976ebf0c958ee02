"""What the splits share is counted: copies, look-alikes, repeats, one picture under two labels."""

import io
import time

import numpy as np
import pytest
from PIL import Image

from pipeline.data.manifest import DISTANCE, count_leakage, near, perceptual_hashes
from pipeline.data.split import Split


def pictures(count, side=64, channels=3, seed=0):
    """Smooth random pictures, each of its own kind."""
    coarse = np.random.default_rng(seed).integers(0, 256, (count, 10, 10, channels), dtype=np.uint8)
    images = [Image.fromarray(image.squeeze()).resize((side, side), Image.Resampling.BICUBIC) for image in coarse]
    return np.stack([np.asarray(image).reshape(side, side, channels) for image in images])


def saved_again(image, quality=95):
    file = io.BytesIO()
    Image.fromarray(image.squeeze()).save(file, "JPEG", quality=quality)
    return np.asarray(Image.open(file)).reshape(image.shape)


def split(images, labels=None):
    return Split(images, np.zeros(len(images), np.int64) if labels is None else np.array(labels, dtype=np.int64))


def test_a_copy_saved_again_is_seen_and_other_pictures_are_not():
    """Of 40 test images three are train's as JPEG, two are train's to the byte, one is validation's as JPEG."""
    train, validation, test = (pictures(count, seed=seed) for seed, count in enumerate((200, 30, 40)))
    test[:3] = [saved_again(image) for image in train[10:13]]
    test[3:5] = train[20:22]
    test[5] = saved_again(validation[7])
    validation[:1] = train[:1]
    found = count_leakage({"train": split(train), "validation": split(validation), "test": split(test)})
    assert found == {
        "test_images_also_in_train": 2,
        "test_images_near_train": 4,
        "validation_images_also_in_train": 1,
        "validation_images_near_train": 0,
        "repeated": {"train": 0, "validation": 0, "test": 0},
        "two_labels": {"train": 0, "validation": 0, "test": 0},
    }


def test_repeats_and_pictures_under_two_labels_are_counted_by_split():
    a, b, c = pictures(3)
    found = count_leakage(
        {
            "train": split(np.stack([a, a, a, b]), [0, 0, 0, 1]),
            "validation": split(np.stack([b, c]), [1, 0]),
            "test": split(np.stack([b, a, a]), [1, 1, 1]),
        }
    )
    assert found["repeated"] == {"train": 2, "validation": 0, "test": 1}
    assert found["two_labels"] == {"train": 3, "validation": 0, "test": 2}, "a is 0 in train and 1 in test"


def test_what_is_not_there_is_not_spoken_of():
    """A test split alone has no leak to count; images of less than 8 pixels a side have no perceptual hash."""
    nothing = split(np.zeros((0, 64, 64, 3), np.uint8))
    alone = count_leakage({"train": nothing, "test": split(pictures(4))})
    assert alone == {"repeated": {"test": 0}, "two_labels": {"test": 0}}
    small = split(np.arange(64, dtype=np.uint8).reshape(4, 4, 4, 1))
    assert count_leakage({"train": small, "test": small}) == {
        "test_images_also_in_train": 4,
        "repeated": {"train": 0, "test": 0},
        "two_labels": {"train": 0, "test": 0},
    }


def test_pictures_of_one_colour_are_near_nothing():
    """Their transform is nothing but rounding, which may differ between processors."""
    flat = np.arange(0, 250, 10, dtype=np.uint8)[:, None, None, None] * np.ones((1, 16, 24, 1), np.uint8)
    hashes = perceptual_hashes(flat)
    assert np.ma.getmaskarray(hashes).all() and not near(hashes, hashes.compressed()).any()
    found = count_leakage({"train": split(flat[::2]), "test": split(flat[1::2])})
    assert found["test_images_near_train"] == 0


@pytest.mark.parametrize("channels", [1, 3])
def test_the_hash_is_the_published_one(channels):
    """Against the definition, image by image: transform of the grey picture, 8 x 8 lowest frequencies, their median."""
    from scipy.fft import dctn

    images = pictures(20, side=40, channels=channels)
    for image, found in zip(images, perceptual_hashes(images), strict=True):
        grey = image[..., 0].astype(float) if channels == 1 else image @ np.array([0.299, 0.587, 0.114])
        low = dctn(grey, norm="ortho")[:8, :8].ravel()
        expected = "".join("01"[int(bit)] for bit in low > np.median(low))
        assert f"{int(found):064b}" == expected


def test_near_is_what_all_pairs_say_at_every_distance():
    """Bits turned at random places, 0 to 5 of them, against the comparison of every pair."""
    generator = np.random.default_rng(3)
    others = generator.integers(0, 2**63, 400, dtype=np.uint64)
    turned = [generator.choice(64, count % 6, replace=False) for count in range(300)]
    flips = np.array([sum(1 << int(bit) for bit in bits) for bits in turned], dtype=np.uint64)
    hashes = others[:300] ^ flips
    expected = (np.bitwise_count(hashes[:, None] ^ others) <= DISTANCE).any(axis=1)
    assert near(np.ma.masked_array(hashes), others).tolist() == expected.tolist()
    assert expected.sum() == 150, "the numbers 0, 1 and 2 of turned bits"


def test_many_pictures_take_seconds():
    """As many as CIFAR-10 has; comparing all pairs of 60,000 would take minutes."""
    generator = np.random.default_rng(0)
    images = np.kron(generator.integers(0, 256, (6000, 8, 8, 1), dtype=np.uint8), np.ones((1, 4, 4, 1), np.uint8))
    shades = np.concatenate([np.roll(images, shift, axis=1) for shift in range(10)])
    started = time.process_time()
    hashes = perceptual_hashes(shades)
    found = near(hashes[:10_000], hashes[10_000:].compressed())
    assert len(found) == 10_000 and time.process_time() - started < 60
