"""One image file to the uint8 array that the model takes, or a sentence that says why not."""

from __future__ import annotations

import io
import warnings
from collections.abc import Generator, Mapping
from contextlib import contextmanager
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageChops, ImageOps

from bundle.resizing import resize_and_crop, resized_size
from serving.chunks import uncompressed_chunks
from serving.containers import Container, broken, read_container
from serving.problems import Problem

#: Of a file that is to be resized, before and after; without a rule, only the model's own size is decoded.
PIXELS_LIMIT = 1 << 24
_MODES = ("1", "L", "LA", "P", "RGB", "RGBA")

# Any client can set them off, and would fill the log: sizes are checked here, and broken EXIF data are no fault of ours.
warnings.filterwarnings("ignore", module=r"PIL\.")


class Picture(NamedTuple):
    """What the model gets: uint8 (H, W, C), and whether the file had another size."""

    pixels: NDArray[np.uint8]
    resized: bool


def read_image(content: bytes, shape: tuple[int, int, int], resize: Mapping[str, Any] | None = None) -> Picture:
    """Decodes a PNG, JPEG, WebP or BMP file.

    Parameters: `content` is the whole file, `shape` the model's (H, W, C), `resize` the attestation's `data.resize`, which
    says how images of another size are made to fit (see bundle.resizing); without it they are refused.
    EXIF's orientation is applied, colour profiles are not. Grey is repeated for a colour model; colour is taken for a grey
    model where its channels are equal; alpha is taken off where it is opaque.
    Raises Problem for everything else: another format, another size, 16-bit, CMYK, animated, transparent, damaged.
    """
    container = read_container(content)
    if shape[2] not in (1, 3):
        raise Problem("wrong-shape", f"image: this model takes {shape[2]} channels; send an array to /predict_batch.")
    _check_container(container, shape, resize)
    with _readable():
        file = io.BytesIO(uncompressed_chunks(content) if container.kind == "PNG" else content)
        image = Image.open(file, formats=[container.kind])
        _check_opened(image, container)
        image = _matched(_opaque(ImageOps.exif_transpose(image)), shape[2])
    resized = image.size != (shape[1], shape[0])
    if resized:
        image = _fitted(image, shape, resize)
    return Picture(np.asarray(image).reshape(shape), resized)


@contextmanager
def _readable() -> Generator[None]:
    """Pillow's decoders raise errors of many kinds for damaged files; none of them is the service's failure."""
    try:
        yield
    except Problem:
        raise
    except Exception:  # Pillow raises a dozen types for damaged files
        raise broken() from None


def _check_container(container: Container, shape: tuple[int, int, int], resize: Mapping[str, Any] | None) -> None:
    """Bounds what decoding may cost. Which side is the width is known only when the orientation is."""
    size = (container.width, container.height)
    if resize is None:
        if size not in ((shape[1], shape[0]), (shape[0], shape[1])):
            raise _wrong_size(size, shape)
        return
    width, height = resized_size(size, resize["shorterSide"])
    for pixels, when in ((size[0] * size[1], ""), (width * height, " after resizing")):
        if pixels > PIXELS_LIMIT:
            message = f"image: is {size[0]} wide and {size[1]} high; that is more than {PIXELS_LIMIT} pixels{when}."
            raise Problem("too-large", message)


def _check_opened(image: Image.Image, container: Container) -> None:
    if image.size != (container.width, container.height):  # two headers that contradict each other
        raise broken()
    if getattr(image, "n_frames", 1) > 1:
        raise Problem("wrong-pixels", "image: is animated or holds several pictures; send one still picture.")
    if image.mode not in _MODES:
        raise Problem("wrong-pixels", f"image: has the colour mode {image.mode}; send greyscale or RGB.")


def _wrong_size(size: tuple[int, int], shape: tuple[int, int, int]) -> Problem:
    message = f"image: is {size[0]} wide and {size[1]} high; this model takes {shape[1]} wide and {shape[0]} high."
    return Problem("wrong-shape", message)


def _opaque(image: Image.Image) -> Image.Image:
    """The image as L or RGB, which loses nothing."""
    if image.has_transparency_data:
        image = image.convert("RGBA")
        if image.getchannel("A").getextrema() != (255, 255):
            raise Problem("wrong-pixels", "image: is partly transparent; send it on its background.")
        return image.convert("RGB")
    return image.convert("L" if image.mode in ("1", "L") else "RGB")


def _matched(image: Image.Image, channels: int) -> Image.Image:
    """L or RGB in the mode that the model takes: L for one channel, RGB for three."""
    if channels == 3:
        return image.convert("RGB")
    first, *others = image.split()
    if any(ImageChops.difference(first, other).getbbox() for other in others):
        raise Problem("wrong-pixels", "image: is in colour; this model takes greyscale.")
    return first


def _fitted(image: Image.Image, shape: tuple[int, int, int], resize: Mapping[str, Any] | None) -> Image.Image:
    if resize is None:
        raise _wrong_size(image.size, shape)
    return resize_and_crop(image, shorter_side=resize["shorterSide"], size=(shape[1], shape[0]))
