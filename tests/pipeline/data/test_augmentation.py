import runpy
import sys

import pytest
import torch

from pipeline.data import augmentation
from pipeline.data.augmentation import augment
from pipeline.data.split import DataError
from pipeline.data.trivial_augment import trivial_augment


def batch(count=64, channels=3, side=32, dtype=torch.uint8):
    generator = torch.Generator().manual_seed(1)
    return torch.randint(1, 256, (count, channels, side, side), generator=generator).to(dtype)


def seeded(seed=0):
    return torch.Generator().manual_seed(seed)


def slow(images, border, generator, *, flips):
    """The same draws, image by image and pixel by pixel."""
    count, _, height, width = images.shape
    tops, lefts = torch.randint(2 * border + 1, (2, count), generator=generator)
    flipped = torch.randint(2, (count,), generator=generator) if flips else torch.zeros(count)
    out = torch.zeros_like(images)
    for n in range(count):
        for y in range(height):
            for x in range(width):
                source_y = y + int(tops[n]) - border
                source_x = (width - 1 - x if flipped[n] else x) + int(lefts[n]) - border
                if 0 <= source_y < height and 0 <= source_x < width:
                    out[n, :, y, x] = images[n, :, source_y, source_x]
    return out


@pytest.mark.parametrize("dtype", [torch.uint8, torch.float32, torch.bfloat16])
@pytest.mark.parametrize(
    ("kind", "side", "border", "flips"),
    [
        ("shift", 8, 1, False),
        ("crop", 8, 1, False),
        ("crop", 32, 4, False),
        ("crop_flip", 8, 1, True),
        ("crop_flip", 32, 4, True),
        ("crop_flip", 4, 0, True),
    ],
)
def test_equals_the_slow_loop(kind, side, border, flips, dtype):
    images = batch(6, 3, side, dtype)
    fast = augment(images, kind, seeded(2))
    assert fast.dtype == dtype and fast.shape == images.shape
    assert torch.equal(fast, slow(images, border, seeded(2), flips=flips))


def test_none_returns_the_images_and_draws_nothing():
    images, generator = batch(4), seeded()
    before = generator.get_state()
    assert augment(images, "none", generator) is images
    assert torch.equal(generator.get_state(), before)


@pytest.mark.parametrize("kind", ["shift", "crop_flip"])
def test_draws_come_from_the_generator_only(kind):
    images = batch()
    torch.manual_seed(1)
    first = augment(images, kind, seeded(5))
    torch.manual_seed(2)
    assert torch.equal(first, augment(images, kind, seeded(5)))
    assert not torch.equal(first, augment(images, kind, seeded(6)))


def test_the_images_are_left_as_they_were():
    images = batch()
    copy = images.clone()
    augment(images, "crop_flip", seeded())
    assert torch.equal(images, copy)


def test_every_place_and_both_directions_occur_equally_often():
    """An image of running numbers tells where its crop was taken; 81 places, 2 directions."""
    count = 16_200
    numbers = torch.arange(1, 32 * 32 + 1, dtype=torch.float32).reshape(1, 1, 32, 32).expand(count, -1, -1, -1)
    centre = augment(numbers, "crop_flip", seeded())[:, 0, 16, 15:17].long() - 1
    flipped = centre[:, 0] > centre[:, 1]
    assert abs(flipped.float().mean() - 0.5) < 0.02
    places = torch.bincount(centre.min(1).values, minlength=1024)
    assert (places > 0).sum() == 81
    assert abs(places[places > 0] - count / 81).max() < 6 * (count / 81) ** 0.5


def test_directions_do_not_depend_on_places():
    numbers = torch.arange(1, 65, dtype=torch.float32).reshape(1, 1, 8, 8).expand(9_000, -1, -1, -1)
    centre = augment(numbers, "crop_flip", seeded())[:, 0, 4, 3:5]
    flipped, place = centre[:, 0] > centre[:, 1], centre.min(1).values
    shares = [flipped[place == value].float().mean() for value in place.unique()]
    assert len(shares) == 9 and all(abs(share - 0.5) < 0.08 for share in shares)


@pytest.mark.parametrize(("channels", "side"), [(1, 8), (3, 8), (1, 32), (3, 32)])
def test_trivial_is_an_operation_after_crop_and_flip(channels, side):
    """One image in fourteen is left as crop_flip made it, and a few more whose operation was weak."""
    images = batch(280, channels, side)
    generator = seeded(3)
    cropped = augment(images, "crop_flip", generator)
    expected = trivial_augment(cropped, generator)
    trivial = augment(images, "trivial", seeded(3))
    assert trivial.dtype == torch.uint8 and trivial.shape == images.shape
    assert torch.equal(trivial, expected)
    left = (trivial == cropped).flatten(1).all(1).float().mean()
    assert 1 / 14 - 0.05 < left < 0.5


def test_trivial_takes_whole_numbers_only():
    with pytest.raises(DataError, match=r"train\.augment: trivial takes uint8 images, got torch\.float32"):
        augment(batch(2, dtype=torch.float32), "trivial", seeded())


def test_torchvision_is_imported_for_trivial_alone(monkeypatch):
    """It takes seconds, which every other training would wait for."""
    for name in [*(name for name in sys.modules if name.split(".")[0] == "torchvision"), "torchvision"]:
        monkeypatch.setitem(sys.modules, name, None)
    monkeypatch.delitem(sys.modules, "pipeline.data.trivial_augment")
    fresh = runpy.run_path(augmentation.__file__)["augment"]
    assert torch.equal(fresh(batch(), "crop_flip", seeded(1)), augment(batch(), "crop_flip", seeded(1)))
    with pytest.raises(ImportError):
        fresh(batch(), "trivial", seeded())


def test_another_kind_is_refused_with_the_known_ones():
    with pytest.raises(
        DataError, match=r"train\.augment: must be one of none, shift, crop, crop_flip, trivial, got 'cutout'"
    ):
        augment(batch(2), "cutout", seeded())


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
@pytest.mark.parametrize("kind", ["shift", "crop_flip"])
def test_a_cuda_device_gives_the_same_images(kind):
    images = batch()
    on_device = augment(images.cuda(), kind, seeded(3))
    assert on_device.is_cuda
    assert torch.equal(on_device.cpu(), augment(images, kind, seeded(3)))
