"""One image file to the uint8 array that the model takes, or a sentence that says why not."""

from __future__ import annotations

import io
import warnings
from collections.abc import Generator
from contextlib import contextmanager

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageOps

from serving.problems import Problem

#: By the first bytes of a file; what a client calls it does not count.
SIGNATURES = {b"\x89PNG\r\n\x1a\n": "PNG", b"\xff\xd8\xff": "JPEG"}
PIXELS_LIMIT = 1 << 24
#: EXIF's tag and the orientations that swap height and width.
_ORIENTATION, _SIDEWAYS = 0x0112, (5, 6, 7, 8)
_PNG_DEPTH = 24

# Sizes are checked here, before anything is decoded.
warnings.filterwarnings("ignore", category=Image.DecompressionBombWarning)


def read_image(content: bytes, shape: tuple[int, int, int]) -> NDArray[np.uint8]:
    """Decodes a PNG or JPEG file.

    Parameters: `content` is the whole file, `shape` the model's (H, W, C).
    Returns uint8 (H, W, C). EXIF's orientation is applied, colour profiles are not. Grey is repeated for a colour
    model; colour is taken for a grey model where its channels are equal; alpha is taken off where it is opaque.
    Raises Problem for everything else: another format, another size, 16-bit, CMYK, animated, transparent, damaged.
    """
    kind = next((name for signature, name in SIGNATURES.items() if content.startswith(signature)), None)
    if kind is None:
        raise Problem("wrong-type", "image: is neither a PNG nor a JPEG file.")
    if shape[2] not in (1, 3):
        raise Problem("wrong-shape", f"image: this model takes {shape[2]} channels; send an array to /predict_batch.")
    with _readable():
        image = Image.open(io.BytesIO(content), formats=[kind])
    _check_header(image, content, shape)
    with _readable():
        if kind == "PNG":
            image.verify()  # the checksum of every chunk; the image must be opened again after it
            image = Image.open(io.BytesIO(content), formats=[kind])
        image.load()
        sideways = image.getexif().get(_ORIENTATION) in _SIDEWAYS
    _check_size((image.height, image.width) if sideways else (image.width, image.height), shape)
    with _readable():
        return _channels(np.asarray(_opaque(ImageOps.exif_transpose(image))), shape[2])


@contextmanager
def _readable() -> Generator[None]:
    """Pillow's decoders raise errors of many kinds for damaged files; none of them is the service's failure."""
    try:
        yield
    except Problem:
        raise
    except Image.DecompressionBombError:
        raise Problem("too-large", f"image: has more than {PIXELS_LIMIT} pixels.") from None
    except Exception:  # Pillow raises a dozen types for damaged files
        raise Problem("broken-file", "image: is damaged or cut off; send the whole file.") from None


def _check_header(image: Image.Image, content: bytes, shape: tuple[int, int, int]) -> None:
    if image.width * image.height > PIXELS_LIMIT:
        raise Problem("too-large", f"image: has {image.width} × {image.height} pixels; at most {PIXELS_LIMIT} are.")
    if image.size not in ((shape[1], shape[0]), (shape[0], shape[1])):
        _check_size((image.width, image.height), shape)
    if getattr(image, "n_frames", 1) > 1:
        raise Problem("wrong-pixels", "image: is animated or holds several pictures; send one still picture.")
    if image.format == "PNG" and content[_PNG_DEPTH] == 16:
        raise Problem("wrong-pixels", "image: has 16 bits a channel; send 8.")
    if image.mode not in ("1", "L", "LA", "P", "RGB", "RGBA"):
        raise Problem("wrong-pixels", f"image: has the colour mode {image.mode}; send greyscale or RGB.")


def _check_size(size: tuple[int, int], shape: tuple[int, int, int]) -> None:
    if size != (shape[1], shape[0]):
        message = f"image: is {size[0]} wide and {size[1]} high; this model takes {shape[1]} wide and {shape[0]} high."
        raise Problem("wrong-shape", message)


def _opaque(image: Image.Image) -> Image.Image:
    """The image as L or RGB, which loses nothing."""
    if image.has_transparency_data:
        image = image.convert("RGBA")
        if image.getchannel("A").getextrema() != (255, 255):
            raise Problem("wrong-pixels", "image: is partly transparent; send it on its background.")
        return image.convert("RGB")
    return image.convert("L" if image.mode in ("1", "L") else "RGB")


def _channels(pixels: NDArray[np.uint8], channels: int) -> NDArray[np.uint8]:
    """(H, W) or (H, W, 3) to (H, W, channels)."""
    if pixels.ndim == 2:
        return np.repeat(pixels[..., None], channels, axis=2)
    if channels == 3:
        return pixels
    if (pixels != pixels[..., :1]).any():
        raise Problem("wrong-pixels", "image: is in colour; this model takes greyscale.")
    return np.ascontiguousarray(pixels[..., :1])
