import io

import numpy as np
import pytest
from PIL import Image

from pipeline.data.image_files import describe_decoding, file_to_array, read_images
from pipeline.data.split import DataError


def picture(width, height, mode="RGB", seed=0):
    channels = len(Image.new(mode, (1, 1)).getbands())
    pixels = np.random.default_rng(seed).integers(0, 256, (height, width, channels), dtype=np.uint8)
    return Image.fromarray(pixels if channels > 1 else pixels[..., 0])


def stored(image, **options):
    file = io.BytesIO()
    image.save(file, "PNG", **options)
    return file.getvalue()


@pytest.mark.parametrize("size", [(32, 32), (50, 33), (33, 50), (16, 16), (19, 16), (16, 19), (20, 7), (7, 64)])
@pytest.mark.parametrize("channels", [1, 3])
def test_resizing_is_that_of_torchvision(size, channels):
    from torchvision.transforms import CenterCrop, InterpolationMode, Resize

    image = picture(*size)
    expected = CenterCrop(16)(Resize(16, InterpolationMode.BICUBIC)(image.convert("L" if channels == 1 else "RGB")))
    result = file_to_array(stored(image), 16, channels)
    assert result.dtype == np.uint8
    np.testing.assert_array_equal(result, np.asarray(expected).reshape(16, 16, channels))


def test_an_image_of_the_right_size_keeps_its_pixels():
    image = picture(24, 24)
    np.testing.assert_array_equal(file_to_array(stored(image), 24, 3), np.asarray(image))


def test_exif_turns_the_image():
    image = picture(24, 24)
    exif = Image.Exif()
    exif[0x0112] = 6  # shown after a quarter turn clockwise
    np.testing.assert_array_equal(file_to_array(stored(image, exif=exif), 24, 3), np.rot90(np.asarray(image), -1))


@pytest.mark.parametrize(("alpha", "expected"), [(0, 255), (255, 40), (128, 147)])
@pytest.mark.parametrize("mode", ["RGBA", "LA"])
def test_transparency_is_over_white(alpha, expected, mode):
    image = Image.new(mode, (8, 8), (40, 40, 40, alpha) if mode == "RGBA" else (40, alpha))
    assert np.unique(file_to_array(stored(image), 8, 3)).tolist() == [expected]


def test_a_transparent_palette_colour_is_white():
    image = Image.new("P", (8, 8), 1)
    image.putpalette([0, 0, 0, 200, 10, 10])
    assert np.unique(file_to_array(stored(image, transparency=1), 8, 3)).tolist() == [255]


@pytest.mark.parametrize("kind", ["PNG", "PPM"])
def test_sixteen_bits_are_scaled_not_cut(kind):
    values = (np.arange(64, dtype=np.uint16) * 1040).reshape(8, 8)
    content = stored(Image.fromarray(values)) if kind == "PNG" else b"P5 8 8 65535\n" + values.astype(">u2").tobytes()
    np.testing.assert_array_equal(file_to_array(content, 8, 1)[..., 0], np.rint(values / 257).astype(np.uint8))


def test_files_are_read_in_the_given_order(tmp_path):
    names = [f"{n}.png" for n in range(30)]
    for n, name in enumerate(names):
        Image.new("L", (4, 4), n).save(tmp_path / name)
    images = read_images(tmp_path, names[::-1], 4, 1)
    assert images.shape == (30, 4, 4, 1)
    assert images[:, 0, 0, 0].tolist() == list(range(29, -1, -1))


@pytest.mark.parametrize("suffix", ["png", "jpg", "jfif", "ppm", "webp", "bmp", "gif", "tif"])
def test_all_formats_are_read(tmp_path, suffix):
    Image.new("RGB", (9, 9), (250, 128, 3)).save(tmp_path / f"x.{suffix}")
    images = read_images(tmp_path, [f"x.{suffix}"], 8, 3)
    assert abs(images.astype(int) - [250, 128, 3]).max() <= 4


def test_all_unreadable_files_are_in_one_refusal(tmp_path):
    for n in range(13):
        (tmp_path / f"bad{n:02}.png").write_bytes(b"not a picture")
    Image.new("L", (4, 4)).save(tmp_path / "good.png")
    names = ["good.png", *(f"bad{n:02}.png" for n in range(13))]
    with pytest.raises(DataError) as caught:
        read_images(tmp_path, names, 4, 1)
    message = str(caught.value)
    assert "13 image files: bad00.png (is not an image of a known format), bad01.png" in message
    assert "bad09.png" in message and "bad10.png" not in message and "and 3 more" in message
    assert "good.png" not in message


def test_a_cut_file_and_another_format_and_a_missing_file_are_unreadable(tmp_path):
    picture(40, 40).save(tmp_path / "whole.jpg")
    (tmp_path / "cut.jpg").write_bytes((tmp_path / "whole.jpg").read_bytes()[:600])
    Image.new("L", (4, 4)).save(tmp_path / "jp2.png", "JPEG2000")
    with pytest.raises(DataError, match=r"3 image files: cut\.jpg \(.+\), jp2\.png \(.+\), gone\.png \(there is no"):
        read_images(tmp_path, ["cut.jpg", "whole.jpg", "jp2.png", "gone.png"], 8, 3)


def test_a_pointer_of_git_lfs_is_called_one(tmp_path):
    (tmp_path / "a.png").write_text("version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 1\n")
    with pytest.raises(DataError, match=r"a\.png \(a pointer of Git LFS: git lfs pull\)"):
        read_images(tmp_path, ["a.png"], 8, 3)


def test_progress_is_shown_for_many_files_only(tmp_path, monkeypatch, capsys):
    Image.new("L", (4, 4)).save(tmp_path / "x.png")
    monkeypatch.setattr("pipeline.data.image_files.SHOW_PROGRESS_FROM", 5)
    read_images(tmp_path, ["x.png"] * 5, 4, 1)
    assert capsys.readouterr() == ("", "")
    read_images(tmp_path, ["x.png"] * 6, 4, 1)
    out, err = capsys.readouterr()
    assert out == "" and "Reading images" in err


def test_the_sentence_tells_size_and_colour():
    assert "greyscale" in describe_decoding(28, 1) and "28 px" in describe_decoding(28, 1)
    assert "RGB" in describe_decoding(28, 3)
