"""Image files to arrays: one rule for every source that keeps its images as files."""

from __future__ import annotations

import os
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageOps
from rich.console import Console
from rich.progress import track

from bundle.resizing import resize_and_crop
from pipeline.data.split import DataError

SUFFIXES = {".png", ".jpg", ".jpeg", ".ppm", ".webp", ".bmp"}
FORMATS = ("PNG", "JPEG", "PPM", "WEBP", "BMP")
LISTED = 10
SHOW_PROGRESS_FROM = 2_000


def read_images(root: Path, names: Sequence[str], size: int, channels: int) -> NDArray[np.uint8]:
    """Decodes files in parallel into uint8 (N, size, size, channels); `names` are relative to `root`.

    Raises DataError that names the files that cannot be read (ten of them, then a count) and why.
    """
    images = np.empty((len(names), size, size, channels), dtype=np.uint8)
    unreadable: list[str] = []

    def read(index: int) -> str | None:
        try:
            with Image.open(root / names[index], formats=FORMATS) as image:
                images[index] = image_to_array(image, size, channels)
        except Exception as error:  # Pillow raises a dozen types for damaged files
            return f"{names[index]} ({_reason(error)})"
        return None

    with ThreadPoolExecutor(max_workers=min(8, os.cpu_count() or 1)) as pool:
        problems = track(
            pool.map(read, range(len(names))),
            description="Reading images",
            total=len(names),
            console=Console(stderr=True),
            disable=len(names) <= SHOW_PROGRESS_FROM,
        )
        unreadable.extend(problem for problem in problems if problem)
    if unreadable:
        raise DataError(f"{root}: cannot read {_listed(unreadable)}; repair or remove what is named here")
    return images


def image_to_array(image: Image.Image, size: int, channels: int) -> NDArray[np.uint8]:
    """One picture as uint8 (size, size, channels).

    Turned as its EXIF data says, transparent parts over white, greyscale (ITU-R 601-2) or RGB, the short side resized
    to `size` (bicubic, antialiased), then the centre cropped: what torchvision's Resize and CenterCrop give.
    """
    image = _flattened(ImageOps.exif_transpose(image)).convert("L" if channels == 1 else "RGB")
    square = resize_and_crop(image, shorter_side=size, size=(size, size))
    return np.asarray(square).reshape(size, size, channels)


def resize_rule(size: int) -> dict[str, Any]:
    """What image_to_array does to an image of another size, for the manifest and the attestation's `data.resize`."""
    return {"shorterSide": size, "filter": "bicubic", "crop": "centre"}


def describe_decoding(size: int, channels: int) -> str:
    """The sentence about image_to_array that goes into the manifest."""
    colour = "greyscale" if channels == 1 else "RGB"
    return (
        f"decoded with Pillow, turned as EXIF says, transparency over white, {colour}, short side resized to {size} px "
        "(bicubic, antialiased), centre crop"
    )


def _flattened(image: Image.Image) -> Image.Image:
    """The picture with 8 bits a channel and no transparency."""
    if image.mode == "I" or image.mode.startswith("I;16"):
        # Pillow's own conversion cuts 16 bits off at 255 and makes nearly everything white.
        return Image.fromarray(np.rint(np.asarray(image, dtype=np.float32) / 257).astype(np.uint8))
    if not image.has_transparency_data:
        return image
    image = image.convert("RGBA")
    return Image.alpha_composite(Image.new("RGBA", image.size, "white"), image)


def _reason(error: Exception) -> str:
    if isinstance(error, FileNotFoundError):
        return "there is no such file"
    if isinstance(error, Image.UnidentifiedImageError):
        return "not an image"
    return " ".join(str(error).split()) or type(error).__name__


def _listed(problems: list[str]) -> str:
    more = f" and {len(problems) - LISTED} more" if len(problems) > LISTED else ""
    return f"{len(problems)} image file{'s'[: len(problems) > 1]}: {', '.join(problems[:LISTED])}{more}"
