"""From an image file to pixels: one rule for what a model is trained and measured on, and for what it is asked.

Headers are read first, in one pass that PARTS_LIMIT bounds; the decoder sees only what decides the pixels. A picture of
another size becomes what a model takes by resize_and_crop().
"""

from __future__ import annotations

import io
import struct
import warnings
from collections.abc import Generator, Mapping
from contextlib import contextmanager
from typing import Any

import numpy as np
import PIL
from PIL import Image

from bundle.images.chunked import read_gif, read_jpeg, read_png, read_webp
from bundle.images.container import FORMATS, Container, ImageFileError, broken, unsupported
from bundle.images.rasters import read_bmp, read_netpbm, read_tiff

_READERS = {
    b"\x89PNG\r\n\x1a\n": read_png,
    b"\xff\xd8\xff": read_jpeg,
    b"RIFF": read_webp,
    b"BM": read_bmp,
    b"GIF87a": read_gif,
    b"GIF89a": read_gif,
    b"II*\0": read_tiff,
    b"MM\0*": read_tiff,
    **dict.fromkeys((b"P1", b"P2", b"P3", b"P4", b"P5", b"P6"), read_netpbm),
}


def read_container(content: bytes) -> Container:
    """What a whole image file holds, by its bytes; what it is called does not count.

    Raises ImageFileError where it is of no known format, cut off, without pixels, or of a kind that is not decoded.
    """
    if not content:
        raise ImageFileError("broken-file", "is empty", "send the whole file.")
    reader = next((read for start, read in _READERS.items() if content.startswith(start)), None)
    if reader is None or (reader is read_webp and content[8:12] != b"WEBP"):
        raise ImageFileError("wrong-type", "is not an image of a known format", f"send a {FORMATS} file.")
    try:
        container = reader(content)
    except (struct.error, IndexError, ValueError):
        raise broken() from None
    if container.width < 1 or container.height < 1:
        raise ImageFileError("broken-file", "has no pixels by its header", "send a picture.")
    return container


#: Counts up whenever the same file would give other pixels; an attestation says which rule its images were decoded by.
RULE = 1
#: Far beyond what is shown or trained on, and as much as Pillow takes.
PIXELS_LIMIT = 178_956_970
_EIGHT_BITS = ("1", "L", "LA", "P", "PA", "RGB", "RGBA", "RGBX", "RGBa", "CMYK")
_SIXTEEN_BITS = ("I;16", "I;16L", "I;16B")
#: What EXIF's orientations 2 to 8 ask for.
_TURNS = (
    Image.Transpose.FLIP_LEFT_RIGHT,
    Image.Transpose.ROTATE_180,
    Image.Transpose.FLIP_TOP_BOTTOM,
    Image.Transpose.TRANSPOSE,
    Image.Transpose.ROTATE_270,
    Image.Transpose.TRANSVERSE,
    Image.Transpose.ROTATE_90,
)

# Any client can set them off, and would fill the log: sizes are checked here, and a file's odd header is no fault of ours.
warnings.filterwarnings("ignore", module=r"PIL\.")


def decode(container: Container, channels: int) -> Image.Image:
    """The first picture of a file, upright: mode L for 1 channel, RGB for 3.

    Transparent parts are over white; 16 bits become 8 (grey by rounding, colour by its upper byte); CMYK and palettes
    become RGB, and that grey by ITU-R 601-2 where one channel is asked for; colour profiles are not applied.
    Raises ImageFileError where the file is damaged, its headers contradict each other, it has more than PIXELS_LIMIT
    pixels, or they are of another kind than these.
    """
    if container.width * container.height > PIXELS_LIMIT:
        raise ImageFileError("too-large", f"has more than {PIXELS_LIMIT} pixels", "send a smaller one.")
    with _damage_named():
        image = Image.open(io.BytesIO(container.content), formats=[container.kind])
        if image.size != (container.width, container.height):  # two headers that contradict each other
            raise broken()
        if container.orientation > 1:
            image = image.transpose(_TURNS[container.orientation - 2])
        return _flattened(image, container.kind).convert("L" if channels == 1 else "RGB")


def describe_rule() -> Mapping[str, Any]:
    """What the manifest and the attestation's `data.decoding` say of decode()."""
    return {"rule": RULE, "library": f"Pillow {PIL.__version__}"}


def _flattened(image: Image.Image, kind: str) -> Image.Image:
    """The picture with 8 bits a channel and no transparency."""
    if image.mode in _SIXTEEN_BITS or (image.mode == "I" and kind == "PPM"):
        # Pillow's own conversion cuts 16 bits off at 255 and makes nearly everything white.
        return Image.fromarray(np.rint(np.asarray(image, dtype=np.float32) / 257).astype(np.uint8))
    if image.mode not in _EIGHT_BITS:
        raise unsupported(f"has the colour mode {image.mode}", "send greyscale or RGB with 8 bits a channel.")
    if not image.has_transparency_data:
        return image
    image = image.convert("RGBA")
    return Image.alpha_composite(Image.new("RGBA", image.size, "white"), image)


@contextmanager
def _damage_named() -> Generator[None]:
    """Pillow's decoders raise errors of many kinds for damaged files."""
    try:
        yield
    except ImageFileError:
        raise
    except Exception:  # a dozen types without a common class
        raise broken() from None


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
