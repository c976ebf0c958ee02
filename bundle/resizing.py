"""The one rule by which a picture of another size becomes what a model takes: for preparation, and for the service."""

from __future__ import annotations

from PIL import Image


def resized_size(size: tuple[int, int], shorter_side: int) -> tuple[int, int]:
    """Width and height after the short side became `shorter_side`; the long one is rounded down, as torchvision does.

    Each side of `size` is at least 1.
    """
    width, height = size
    short = min(width, height)
    return shorter_side * width // short, shorter_side * height // short


def resize_and_crop(image: Image.Image, *, shorter_side: int, size: tuple[int, int]) -> Image.Image:
    """The centre of a picture whose short side was resized (bicubic, antialiased).

    Parameters: `image` has the mode L or RGB, `shorter_side` ≥ 1 is in pixels, `size` is (width, height) of the result,
    neither more than `shorter_side`. The same as torchvision's Resize and CenterCrop; a picture that has the size already
    keeps its pixels.
    """
    image = image.resize(resized_size(image.size, shorter_side), Image.Resampling.BICUBIC)
    width, height = size
    left, top = round((image.width - width) / 2), round((image.height - height) / 2)
    return image.crop((left, top, left + width, top + height))
