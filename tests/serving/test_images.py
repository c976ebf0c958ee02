"""Which image files are taken, with which pixels, and which are refused, with which sentence."""

from __future__ import annotations

import io
import random
import tracemalloc
import zlib

import numpy as np
import pytest
from PIL import Image

from bundle.images.chunked import SCANS_LIMIT
from bundle.images.container import FORMATS, PARTS_LIMIT
from pipeline.data.image_files import file_to_array
from serving.exchange import Problem
from serving.input.images import pixels_limit, read_image
from tests.serving.pictures import bmp32, changed, digit, encoded, exif_of, png, png_chunk, raw_png, with_chunk

pytestmark = pytest.mark.filterwarnings("ignore::UserWarning:PIL")
DIGIT = digit()
GREY = Image.fromarray(DIGIT)
RGB = GREY.convert("RGB")
PNG = png(DIGIT)
FLIPPED = Image.Transpose.FLIP_LEFT_RIGHT
SHAPE, COLOUR = (8, 8, 1), (8, 8, 3)
PALETTE = GREY.point(lambda level: level // 64).convert("P")  # three levels
BROKEN = "image: is damaged or cut off; send the whole file."
PARTS = "image: is made of more than 16384 parts; save it again."
COMPRESSED = "image: is a BMP file with compression; send it without, or as PNG."
NO_IMAGE = f"image: is not an image of a known format; send a {FORMATS} file."
BOMB = bytes(50_000_000)


def _alpha(level: int) -> Image.Image:
    image = RGB.convert("RGBA")
    image.putpixel((0, 0), (0, 0, 0, level))
    return image


def _rows16() -> bytes:
    """Rows of 16 bits a channel, whose upper bytes are the digit's."""
    return b"".join(b"\0" + np.repeat(row.astype(">u2") * 256 + 77, 3).astype(">u2").tobytes() for row in DIGIT)


def _jpeg_size(width: int, height: int, bits: int = 8) -> bytes:
    file = encoded(GREY, "JPEG")
    return changed(file, file.index(b"\xff\xc0") + 4, ">BHH", bits, height, width)


def _vp8x(width: int, height: int) -> bytes:
    """A WebP file with an extended header of another size than its picture."""
    file = encoded(RGB, "WEBP", lossless=True, exif=exif_of(1))
    return file[:24] + (width - 1).to_bytes(3, "little") + (height - 1).to_bytes(3, "little") + file[30:]


def _rle(width: int, height: int) -> bytes:
    """A BMP file whose header says that it is run-length encoded."""
    return changed(encoded(GREY, "BMP"), 18, "<iiHHI", width, height, 1, 8, 1)


def _scans(count: int) -> bytes:
    file = encoded(GREY, "JPEG", progressive=True)
    return file[:-2] + b"\xff\xda\0\x02" * count + file[-2:]


REFUSED: dict[str, tuple[bytes, int, str]] = {
    "empty": (b"", 422, "image: is empty; send the whole file."),
    "text": (b"hello", 415, NO_IMAGE),
    "another RIFF": (b"RIFF\x24\0\0\0WAVEfmt ", 415, NO_IMAGE),
    "too wide": (
        png(np.zeros((8, 9), np.uint8)),
        422,
        "image: is 9 wide and 8 high; this model takes 8 wide and 8 high.",
    ),
    "PNG, huge by header": (
        raw_png(2**31 - 1, 2**31 - 1, 8, 0, b"\0"),
        422,
        "image: is 2147483647 wide and 2147483647 high; this model takes 8 wide and 8 high.",
    ),
    "JPEG, huge by header": (
        _jpeg_size(65535, 65535),
        422,
        "image: is 65535 wide and 65535 high; this model takes 8 wide and 8 high.",
    ),
    "WebP, huge by header": (
        _vp8x(1 << 24, 1 << 24),
        422,
        "image: is 16777216 wide and 16777216 high; this model takes 8 wide and 8 high.",
    ),
    "BMP, huge by header": (
        changed(encoded(GREY, "BMP"), 18, "<ii", 2**31 - 1, -(2**31)),
        422,
        "image: is 2147483647 wide and 2147483648 high; this model takes 8 wide and 8 high.",
    ),
    "PNG without pixels": (
        raw_png(0, 8, 8, 0, b""),
        422,
        "image: has no pixels by its header; send a picture.",
    ),
    "JPEG without pixels": (_jpeg_size(8, 0), 422, "image: has no pixels by its header; send a picture."),
    "BMP without pixels": (
        changed(encoded(GREY, "BMP"), 18, "<ii", 0, 0),
        422,
        "image: has no pixels by its header; send a picture.",
    ),
    "WebP, another size than its picture": (_vp8x(8, 8)[:-1], 422, BROKEN),
    "PNG with two headers": (with_chunk(PNG, b"IHDR", raw_png(9, 9, 8, 0, b"")[16:29]), 422, BROKEN),
    "PNG of one chunk without end": (PNG[:8] + png_chunk(b"IDAT", b""), 422, BROKEN),
    "PNG of too many chunks": (PNG[:33] + png_chunk(b"tEXt", b"") * PARTS_LIMIT + PNG[33:], 413, PARTS),
    "PNG with a wrong checksum": (changed(PNG, len(PNG) - 20, "B", PNG[-20] ^ 0x40), 422, BROKEN),
    "JPEG of too many segments": (b"\xff\xd8" + b"\xff\x01" * PARTS_LIMIT, 413, PARTS),
    "JPEG of too many scans": (
        _scans(SCANS_LIMIT),
        413,
        "image: has more than 100 scans; save it again.",
    ),
    "12 bits, JPEG": (_jpeg_size(8, 8, bits=12), 422, "image: has 12 bits a channel; send 8."),
    "BMP, run-length encoded": (_rle(8, 8), 422, COMPRESSED),
}

TAKEN: dict[str, bytes] = {
    "PNG": PNG,
    "PNG, RGB with equal channels": png(np.asarray(RGB)),
    "PNG, opaque alpha": encoded(_alpha(255)),
    "PNG, grey with opaque alpha": encoded(GREY.convert("LA")),
    "PNG, palette": encoded(GREY.convert("P")),
    "PNG, text": with_chunk(PNG, b"tEXt", b"Comment\0hello"),
    "PNG, text that unpacks to 50 MB": with_chunk(PNG, b"zTXt", b"Comment\0\0" + zlib.compress(BOMB)),
    "PNG, international text that does": with_chunk(PNG, b"iTXt", b"Comment\0\1\0\0\0" + zlib.compress(BOMB)),
    "PNG, colour profile that does": with_chunk(PNG, b"iCCP", b"Profile\0\0" + zlib.compress(BOMB)),
    "PNG, pixels that unpack to 50 MB": raw_png(8, 8, 8, 0, b"".join(b"\0" + row.tobytes() for row in DIGIT) + BOMB),
    "PNG, bytes after its end": PNG + b"trailing",
    "WebP, lossless": encoded(RGB, "WEBP", lossless=True),
    "WebP, opaque alpha": encoded(_alpha(255), "WEBP", lossless=True, exact=True),
    "WebP, bytes after its end": encoded(RGB, "WEBP", lossless=True) + b"trailing",
    "BMP, grey": encoded(GREY, "BMP"),
    "BMP, colour": encoded(RGB, "BMP"),
    "BMP, opaque alpha": bmp32(np.asarray(_alpha(255)), masks=True),
    "GIF": encoded(GREY, "GIF"),
    "GIF, bytes after its end": encoded(GREY, "GIF") + b"trailing",
    "GIF, animated": encoded(GREY, "GIF", save_all=True, append_images=[GREY.rotate(90)]),
    "PNG, animated": encoded(GREY, save_all=True, append_images=[GREY.rotate(90)]),
    "WebP, animated": encoded(RGB, "WEBP", lossless=True, save_all=True, append_images=[RGB.rotate(90)]),
    "TIFF": encoded(GREY, "TIFF"),
    "TIFF, LZW": encoded(RGB, "TIFF", compression="tiff_lzw"),
    "PGM": encoded(GREY, "PPM"),
    "PPM": encoded(RGB, "PPM"),
    "PNG, 16 bits": png(DIGIT.astype(np.uint16) * 257),
    "PNG, 16 bits, colour": raw_png(8, 8, 16, 2, _rows16()),
    "TIFF, 16 bits": encoded(Image.fromarray(DIGIT.astype(np.uint16) * 257), "TIFF"),
    "BMP, fourth byte without a meaning": bmp32(np.dstack([np.asarray(RGB), np.zeros_like(DIGIT)]), masks=False),
    "BMP, bytes after its end": encoded(GREY, "BMP") + b"trailing",
    **{
        f"{kind}, turned by {orientation}": encoded(turned, kind, **options)
        for orientation, turned in (
            (6, RGB.rotate(90)),
            (3, RGB.rotate(180)),
            (2, RGB.transpose(Image.Transpose.FLIP_LEFT_RIGHT)),
        )
        for kind, options in (
            ("PNG", {"exif": exif_of(orientation)}),
            ("WEBP", {"exif": exif_of(orientation), "lossless": True}),
        )
    },
}


def _refusal(content: bytes, shape: tuple[int, int, int] = SHAPE, **options: object) -> tuple[int, str]:
    with pytest.raises(Problem) as caught:
        read_image(content, shape, **options)  # type: ignore[arg-type]
    return caught.value.status, caught.value.detail


@pytest.mark.parametrize("name", REFUSED)
def test_a_file_that_is_refused_gets_one_sentence(name: str) -> None:
    content, status, detail = REFUSED[name]
    assert _refusal(content) == (status, detail)


@pytest.mark.parametrize("name", TAKEN)
def test_the_same_pixels_in_another_file_are_the_same_row(name: str) -> None:
    tracemalloc.start()
    picture = read_image(TAKEN[name], SHAPE)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    np.testing.assert_array_equal(picture.pixels, DIGIT[..., None])
    assert picture.pixels.dtype == np.uint8 and not picture.resized
    assert peak < 2_000_000  # bytes: nothing was unpacked but the pixels


@pytest.mark.parametrize(
    "content",
    [
        encoded(GREY, "JPEG"),
        encoded(GREY, "JPEG", progressive=True),
        encoded(RGB, "JPEG", subsampling=2) + b"trailing",
        encoded(RGB, "WEBP", quality=80),
        encoded(PALETTE, "BMP"),
        encoded(GREY.convert("1"), "PNG"),
        encoded(GREY.convert("1"), "BMP"),
        encoded(PALETTE, "PNG", bits=2),
    ],
)
def test_other_files_are_decoded_as_pillow_does(content: bytes) -> None:
    expected = np.asarray(Image.open(io.BytesIO(content)).convert("RGB"))
    np.testing.assert_array_equal(read_image(content, COLOUR).pixels, expected)


def test_a_grey_file_is_repeated_for_a_colour_model() -> None:
    np.testing.assert_array_equal(read_image(PNG, COLOUR).pixels, np.repeat(DIGIT[..., None], 3, axis=2))


@pytest.mark.parametrize("orientation", range(1, 9))
def test_a_jpeg_is_turned_before_its_size_is_checked(orientation: int) -> None:
    wide = Image.fromarray(np.arange(96, dtype=np.uint8).reshape(8, 12) * 2)
    shape = (12, 8, 1) if orientation > 4 else (8, 12, 1)
    pixels = read_image(encoded(wide, "JPEG", exif=exif_of(orientation), quality=100), shape).pixels[..., 0]
    turned = {1: wide, 2: wide.transpose(0), 3: wide.rotate(180), 4: wide.transpose(1), 5: wide.transpose(5)}
    turned |= {6: wide.rotate(-90, expand=True), 7: wide.transpose(6), 8: wide.rotate(90, expand=True)}
    assert np.abs(pixels.astype(int) - np.asarray(turned[orientation])).max() < 8
    assert _refusal(encoded(wide, "JPEG", exif=exif_of(orientation)), (shape[1], shape[0], 1))[0] == 422


def test_orientation_in_png_text_counts_where_it_is_not_compressed() -> None:
    xmp = b'XML:com.adobe.xmp\0\0\0\0\0<x tiff:Orientation="3"/>'
    np.testing.assert_array_equal(read_image(with_chunk(PNG, b"iTXt", xmp), SHAPE).pixels[..., 0], DIGIT[::-1, ::-1])


FILES = {
    "PNG": PNG,
    "PNG, palette with EXIF": encoded(PALETTE, exif=exif_of(1)),
    "JPEG": encoded(GREY, "JPEG"),
    "progressive JPEG": encoded(RGB, "JPEG", progressive=True),
    "WebP": encoded(RGB, "WEBP"),
    "lossless WebP": encoded(RGB, "WEBP", lossless=True, exif=exif_of(1)),
    "BMP": encoded(GREY, "BMP"),
    "BMP, 32 bits": bmp32(np.asarray(_alpha(255)), masks=True),
}


@pytest.mark.parametrize("name", FILES)
def test_every_beginning_of_a_file_is_refused_or_is_the_whole_picture(name: str) -> None:
    whole = read_image(FILES[name], COLOUR).pixels
    refused = 0
    for end in range(len(FILES[name])):
        try:
            np.testing.assert_array_equal(read_image(FILES[name][:end], COLOUR).pixels, whole)
        except Problem:
            refused += 1
    assert refused >= len(FILES[name]) - 12  # all but a checksum or a mark of the end


@pytest.mark.parametrize("name", FILES)
def test_a_changed_file_is_an_image_or_a_problem(name: str) -> None:
    chance = random.Random(name)
    for _ in range(400):
        content = bytearray(FILES[name])
        for _ in range(chance.choice((1, 2, 8))):
            content[chance.randrange(len(content))] = chance.randrange(256)
        for resize in (None, {"shorterSide": 8}):
            try:
                assert read_image(bytes(content), COLOUR, resize).pixels.shape == COLOUR
            except Problem as problem:
                assert problem.status in (413, 415, 422)


RULE = {"shorterSide": 8, "filter": "bicubic", "crop": "centre"}
LARGE = Image.fromarray(np.random.default_rng(0).integers(0, 256, (30, 21, 3), np.uint8))


@pytest.mark.parametrize(
    ("kind", "options"), [("PNG", {}), ("BMP", {}), ("WEBP", {"lossless": True}), ("PNG", {"exif": exif_of(6)})]
)
def test_where_the_bundle_has_a_rule_another_size_is_resized_as_in_preparation(
    kind: str, options: dict[str, object]
) -> None:
    content = encoded(LARGE, kind, **options)
    picture = read_image(content, COLOUR, RULE)
    np.testing.assert_array_equal(picture.pixels, file_to_array(content, 8, 3))
    assert picture.resized


def test_an_image_of_the_right_size_is_not_resized() -> None:
    picture = read_image(PNG, SHAPE, RULE)
    np.testing.assert_array_equal(picture.pixels, DIGIT[..., None])
    assert not picture.resized


@pytest.mark.parametrize(
    ("size", "detail"),
    [
        ((1025, 1024), "image: is 1025 wide and 1024 high; that is more than 1048576 pixels; send a smaller one."),
        (
            (20_000, 1),
            "image: is 20000 wide and 1 high; that is more than 1048576 pixels after resizing; send a smaller one.",
        ),
    ],
)
def test_resizing_has_a_limit(size: tuple[int, int], detail: str) -> None:
    assert _refusal(raw_png(*size, 8, 0, b"\0"), resize=RULE) == (413, detail)


@pytest.mark.parametrize(("side", "limit"), [(8, 1 << 20), (64, 1 << 20), (224, 256 * 224 * 224), (512, 1 << 24)])
def test_the_limit_goes_by_the_models_own_size(side: int, limit: int) -> None:
    """A phone's 4032 by 3024 pixels are taken by a model of 224 by 224."""
    assert pixels_limit((side, side, 3)) == limit
    content = raw_png(4096, 4096, 8, 0, b"\0")
    status, detail = _refusal(content, (side, side, 1), resize=RULE)
    assert (status, f"more than {limit} pixels;" in detail) == ((413, True) if side < 512 else (422, False))


def test_a_limit_that_is_set_goes_before() -> None:
    content = encoded(LARGE, "PNG")
    assert read_image(content, COLOUR, RULE, 630).resized
    with pytest.raises(Problem, match="more than 629 pixels"):
        read_image(content, COLOUR, RULE, 629)


def test_a_model_of_two_channels_takes_arrays_only() -> None:
    detail = "image: this model takes 2 channels; send an array to /predict_batch."
    assert _refusal(PNG, (8, 8, 2)) == (422, detail)
