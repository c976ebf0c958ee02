"""Every kind of image file gives the same pixels twice: read by the stage prepare, and posted to the service."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from pipeline.data.image_files import resize_rule
from pipeline.data.sources import read_image_folder
from pipeline.data.split import DataError
from pipeline.params import DataSettings
from serving.exchange import Problem
from serving.input.images import read_image
from tests.serving.pictures import bmp32, changed, encoded, exif_of, raw_png

SIDE = 8
NOISE = np.random.default_rng(7).integers(0, 256, (SIDE, SIDE, 4), np.uint8)
RGB, RGBA = Image.fromarray(NOISE[..., :3]), Image.fromarray(NOISE)
GREY, LARGE = RGB.convert("L"), RGB.resize((19, 30))
DEEP = Image.fromarray(NOISE[..., :2].copy().view("<u2")[..., 0])
CMYK = encoded(RGB.convert("CMYK"), "JPEG")

TAKEN: dict[str, tuple[str, bytes]] = {
    "PNG": ("png", encoded(RGB)),
    "grey PNG": ("png", encoded(GREY)),
    "transparent PNG": ("png", encoded(RGBA)),
    "transparent grey PNG": ("png", encoded(RGBA.convert("LA"))),
    "PNG with a transparent colour": ("png", encoded(RGB.convert("P"), transparency=3)),
    "grey PNG with a transparent level": ("png", encoded(GREY, transparency=int(np.asarray(GREY)[0, 0]))),
    "PNG of 1 bit": ("png", encoded(GREY.convert("1"))),
    "PNG of 16 bits": ("png", encoded(DEEP)),
    "colour PNG of 16 bits": ("png", raw_png(SIDE, SIDE, 16, 2, b"".join(b"\0" + bytes(range(48)) for _ in range(8)))),
    "animated PNG": ("png", encoded(RGBA, save_all=True, append_images=[RGBA.rotate(90)])),
    "turned PNG": ("png", encoded(LARGE, exif=exif_of(6))),
    "JPEG": ("jpg", encoded(RGB, "JPEG")),
    "JFIF": ("jfif", encoded(RGB, "JPEG")),
    "grey JPEG": ("jpeg", encoded(GREY, "JPEG")),
    "progressive JPEG": ("jpg", encoded(LARGE, "JPEG", progressive=True)),
    "JPEG of a phone, with a second picture": (
        "jpg",
        encoded(RGB, "MPO", save_all=True, append_images=[RGB.rotate(90)]),
    ),
    "JPEG of a phone, with a video": ("jpg", encoded(LARGE, "JPEG", exif=exif_of(8)) + b"\xff\xda" * 5000),
    "CMYK JPEG": ("jpg", CMYK),
    "YCCK JPEG": ("jpg", changed(CMYK, CMYK.index(b"Adobe") + 11, "B", 2)),
    "WebP": ("webp", encoded(RGB, "WEBP")),
    "transparent WebP": ("webp", encoded(RGBA, "WEBP", lossless=True)),
    "animated WebP": ("webp", encoded(RGB, "WEBP", save_all=True, append_images=[RGB.rotate(90)])),
    "turned WebP": ("webp", encoded(LARGE, "WEBP", exif=exif_of(3))),
    "BMP": ("bmp", encoded(RGB, "BMP")),
    "BMP with alpha": ("bmp", bmp32(NOISE, masks=True)),
    "GIF": ("gif", encoded(RGB.convert("P"), "GIF")),
    "transparent GIF": ("gif", encoded(RGB.convert("P"), "GIF", transparency=5)),
    "animated GIF": ("gif", encoded(GREY, "GIF", save_all=True, append_images=[GREY.rotate(90)])),
    "GIF that is called PNG": ("png", encoded(GREY, "GIF")),
    "TIFF": ("tif", encoded(RGB, "TIFF")),
    "TIFF, LZW": ("tiff", encoded(LARGE, "TIFF", compression="tiff_lzw")),
    "TIFF, deflate": ("tif", encoded(GREY, "TIFF", compression="tiff_adobe_deflate")),
    "TIFF, PackBits, turned": ("TIF", encoded(LARGE, "TIFF", compression="packbits", exif=exif_of(6))),
    "TIFF of 16 bits": ("tif", encoded(DEEP, "TIFF")),
    "CMYK TIFF": ("tif", encoded(RGB.convert("CMYK"), "TIFF")),
    "transparent TIFF": ("tif", encoded(RGBA, "TIFF")),
    "PPM": ("ppm", encoded(RGB, "PPM")),
    "PGM": ("pgm", encoded(GREY, "PPM")),
    "PGM of 16 bits": ("pgm", b"P5\n# a comment\n8 8\n65535\n" + NOISE[..., :2].tobytes()),
    "PBM": ("pbm", encoded(GREY.convert("1"), "PPM")),
}
REFUSED: dict[str, tuple[str, bytes]] = {
    "cut off": ("jpg", encoded(LARGE, "JPEG")[:-2]),
    "PNG without end": ("png", encoded(RGB)[:-12]),
    "another format": ("png", b"%PDF-1.7"),
    "TIFF with a JPEG inside": ("tif", encoded(RGB, "TIFF", compression="jpeg")),
    "TIFF of floats": ("tif", encoded(GREY.convert("F"), "TIFF")),
    "text": ("ppm", b"P3 1 1 255 1 2 3"),
}


def prepared(folder: Path, suffix: str, content: bytes, channels: int) -> np.ndarray:
    """The pixels, uint8 (SIDE, SIDE, channels), that the stage prepare makes of a file in a test split."""
    for split in ("train", "test"):
        for label in ("cat", "dog"):
            (folder / split / label).mkdir(parents=True)
            (folder / split / label / f"1.{suffix}").write_bytes(content)
    return read_image_folder(
        DataSettings(name="folder", path=str(folder), image_size=SIDE, channels=channels)
    ).test.images[0]


@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize("name", TAKEN)
def test_a_file_that_was_prepared_is_answered_with_the_same_pixels(name: str, channels: int, tmp_path: Path) -> None:
    suffix, content = TAKEN[name]
    expected = prepared(tmp_path, suffix, content, channels)
    shape = (SIDE, SIDE, channels)
    np.testing.assert_array_equal(read_image(content, shape, resize_rule(SIDE)).pixels, expected)
    if (
        "turned" not in name
        and "phone" not in name
        and content not in (TAKEN["TIFF, LZW"][1], TAKEN["progressive JPEG"][1])
    ):
        np.testing.assert_array_equal(read_image(content, shape).pixels, expected)


@pytest.mark.parametrize("name", REFUSED)
def test_a_file_that_the_service_refuses_is_in_no_test_split(name: str, tmp_path: Path) -> None:
    suffix, content = REFUSED[name]
    with pytest.raises(Problem) as refused:
        read_image(content, (SIDE, SIDE, 3), resize_rule(SIDE))
    reason = refused.value.detail.removeprefix("image: ").partition(";")[0]
    with pytest.raises(DataError) as caught:
        prepared(tmp_path, suffix, content, 3)
    assert f"cannot read 2 image files: train/cat/1.{suffix} ({reason}), train/dog/1.{suffix} ({reason})" in str(
        caught.value
    )


def test_what_the_rules_make_of_known_colours() -> None:
    """White behind what is transparent, half of 65,535 is 128, CMYK's inks absorb; alike for 1 and 3 channels."""
    glass = encoded(Image.new("RGBA", (SIDE, SIDE), (40, 40, 40, 128)))
    deep = encoded(Image.fromarray(np.full((SIDE, SIDE), 32_768, np.uint16)))
    ink = encoded(Image.new("CMYK", (SIDE, SIDE), (0, 0, 0, 155)), "TIFF")
    for content, level in ((glass, 147), (deep, 128), (ink, 100)):
        for channels in (1, 3):
            assert np.unique(read_image(content, (SIDE, SIDE, channels)).pixels).tolist() == [level]
