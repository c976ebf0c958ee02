"""Image files to arrays: one rule for every source that keeps its images as files."""

from __future__ import annotations

from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from rich.console import Console
from rich.progress import track

from bundle.errors import escaped
from bundle.images.container import ImageFileError
from bundle.images.decoding import decode, read_container, resize_and_crop
from bundle.process import available_cpus
from pipeline.data.split import DataError

LISTED = 10
#: How a file begins that stands for one of Git LFS, and what is said of it.
LFS_START, LFS = b"version https://git-lfs", "a pointer of Git LFS: git lfs pull"
SHOW_PROGRESS_FROM = 2_000


def read_images(root: Path, names: Sequence[str], size: int, channels: int) -> NDArray[np.uint8]:
    """Decodes files in parallel into uint8 (N, size, size, channels); `names` are relative to `root`.

    Raises DataError that names the files that cannot be read (ten of them, then a count) and why.
    """
    images = np.empty((len(names), size, size, channels), dtype=np.uint8)
    unreadable: list[str] = []

    def read(index: int) -> str | None:
        content = b""
        try:
            content = (root / names[index]).read_bytes()
            images[index] = file_to_array(content, size, channels)
        except ImageFileError as error:
            return f"{names[index]} ({LFS if content.startswith(LFS_START) else error.reason})"
        except OSError as error:
            return f"{names[index]} ({_reason(error)})"
        return None

    with ThreadPoolExecutor(max_workers=min(8, available_cpus())) as pool:
        problems = track(
            pool.map(read, range(len(names))),
            description="Reading images",
            total=len(names),
            console=Console(stderr=True),
            disable=len(names) <= SHOW_PROGRESS_FROM,
        )
        unreadable.extend(problem for problem in problems if problem)
    if unreadable:
        raise DataError(f"{root}: cannot read {listed(unreadable, 'image file')}; repair or remove what is named here")
    return images


def file_to_array(content: bytes, size: int, channels: int) -> NDArray[np.uint8]:
    """One image file as uint8 (size, size, channels): decoded as the service does, then brought to this size.

    The short side is resized to `size` (bicubic, antialiased), then the centre cropped: what torchvision's Resize and
    CenterCrop give. Raises ImageFileError.
    """
    image = decode(read_container(content), channels)
    square = resize_and_crop(image, shorter_side=size, size=(size, size))
    return np.asarray(square).reshape(size, size, channels)


def resize_rule(size: int) -> dict[str, Any]:
    """What file_to_array does to an image of another size, for the manifest and the attestation's `data.resize`."""
    return {"shorterSide": size, "filter": "bicubic", "crop": "centre"}


def describe_decoding(size: int, channels: int) -> str:
    """The sentence about file_to_array that goes into the manifest."""
    colour = "greyscale" if channels == 1 else "RGB"
    return (
        f"first picture decoded with Pillow, turned as EXIF says, transparency over white, {colour} of 8 bits, "
        f"short side resized to {size} px (bicubic, antialiased), centre crop"
    )


def listed(problems: Sequence[str], noun: str) -> str:
    """How many there are, and the first ten of them."""
    more = f" and {len(problems) - LISTED} more" if len(problems) > LISTED else ""
    return f"{len(problems)} {noun}{'s'[: len(problems) > 1]}: {', '.join(map(escaped, problems[:LISTED]))}{more}"


def _reason(error: OSError) -> str:
    return "there is no such file" if isinstance(error, FileNotFoundError) else error.strerror or type(error).__name__
