"""The resize rule; that it is torchvision's is tested with preparation, which uses it."""

from __future__ import annotations

import numpy as np
import pytest
from PIL import Image

from bundle.images.decoding import resize_and_crop, resized_size

NOISE = np.random.default_rng(0).integers(0, 256, (32, 48), np.uint8)


@pytest.mark.parametrize(
    ("size", "expected"),
    [((8, 8), (8, 8)), ((31, 17), (14, 8)), ((17, 31), (8, 14)), ((3, 5), (8, 13)), ((1, 90), (8, 720))],
)
def test_the_long_side_is_rounded_down(size: tuple[int, int], expected: tuple[int, int]) -> None:
    assert resized_size(size, 8) == expected


@pytest.mark.parametrize("mode", ["L", "RGB"])
def test_a_picture_of_the_right_size_keeps_its_pixels(mode: str) -> None:
    image = Image.fromarray(NOISE[:8, :8]).convert(mode)
    assert np.array_equal(np.asarray(resize_and_crop(image, shorter_side=8, size=(8, 8))), np.asarray(image))


def test_the_centre_may_be_smaller_than_the_short_side() -> None:
    image = Image.fromarray(NOISE)
    square = np.asarray(resize_and_crop(image, shorter_side=32, size=(32, 32)))
    np.testing.assert_array_equal(square, NOISE[:, 8:40])
    small = np.asarray(resize_and_crop(image, shorter_side=32, size=(20, 12)))
    np.testing.assert_array_equal(small, NOISE[10:22, 14:34])
