"""What a decoder gets to see of an image file: all that decides its pixels, and nothing that costs more than they do."""

from __future__ import annotations

import io
import struct
import time
import tracemalloc
import zlib

import numpy as np
import pytest
from PIL import Image

from bundle.images.chunked import SCANS_LIMIT
from bundle.images.container import PARTS_LIMIT, ImageFileError, read_orientation
from bundle.images.decoding import decode, read_container
from tests.serving.pictures import encoded, exif_of, png_chunk, with_chunk

NOISE = Image.fromarray(np.random.default_rng(4).integers(0, 256, (12, 16, 3), np.uint8))
GREY = NOISE.convert("L")
JPEG = encoded(NOISE, "JPEG", quality=95)
PNG = encoded(NOISE)


def pixels(content: bytes) -> np.ndarray:
    return np.asarray(decode(read_container(content), 3))


def refusal(content: bytes) -> str:
    with pytest.raises(ImageFileError) as caught:
        pixels(content)
    return f"{caught.value.kind}: {caught.value}"


def segment(marker: int, data: bytes) -> bytes:
    return struct.pack(">BBH", 0xFF, marker, len(data) + 2) + data


def gif_blocks(content: bytes) -> int:
    """Where the blocks of a GIF file begin: after its header and the colours that all its pictures share."""
    return 13 + 3 * 2 ** (1 + content[10] % 8)


def test_a_motion_photo_is_its_picture_however_much_lies_behind_it() -> None:
    """Eight megabytes of video, in which the mark of a scan occurs about a hundred times by chance, and more here."""
    video = np.random.default_rng(0).integers(0, 256, 8_000_000, np.uint8).tobytes() + b"\xff\xda" * 5000
    container = read_container(JPEG + video)
    assert len(container.content) <= len(JPEG)
    np.testing.assert_array_equal(pixels(JPEG + video), pixels(JPEG))


def test_scans_are_counted_up_to_the_pictures_end() -> None:
    progressive = encoded(NOISE, "JPEG", progressive=True)
    scans = progressive.count(b"\xff\xda")
    first = progressive.index(b"\xff\xda")
    more = progressive[:-2] + segment(0xDA, progressive[first + 4 : first + 14]) * (SCANS_LIMIT - scans) + b"\xff\xd9"
    assert read_container(more).width == 16
    once_more = more[:-2] + segment(0xDA, bytes(10)) + b"\xff\xd9"
    assert refusal(once_more) == f"too-large: has more than {SCANS_LIMIT} scans; save it again."


def test_a_jpeg_keeps_what_its_colours_are_stored_as_and_nothing_else() -> None:
    adobe = encoded(NOISE.convert("CMYK"), "JPEG")
    private = segment(0xE1, b"Exif\0\0" + bytes(60_000)) + segment(0xE2, b"ICC_PROFILE\0" + bytes(60_000))
    container = read_container(adobe[:2] + private * 20 + segment(0xFE, b"a comment" * 6000) + adobe[2:])
    assert container.content == adobe
    assert read_container(JPEG).content == JPEG


@pytest.mark.parametrize("mark", [b"\xff\xd8", b"\xff\x01"], ids=["start", "alone"])
def test_a_mark_without_a_length_is_stepped_over(mark: bytes) -> None:
    assert read_container(JPEG[:2] + mark + JPEG[2:]).content == JPEG


def test_a_jpeg_without_its_end_mark_is_cut_off() -> None:
    for end in (2, 1):
        assert refusal(JPEG[:-end]) == "broken-file: is damaged or cut off; send the whole file."


def test_an_animated_png_is_its_still_picture() -> None:
    content = encoded(NOISE, save_all=True, append_images=[NOISE.rotate(180)])
    assert b"fdAT" in content and b"fdAT" not in read_container(content).content
    np.testing.assert_array_equal(pixels(content), np.asarray(NOISE))


def test_an_animated_gif_is_its_first_picture() -> None:
    frames = [GREY, GREY.rotate(90), GREY.rotate(180)]
    content = encoded(frames[0], "GIF", save_all=True, append_images=frames[1:], comment=b"a comment" * 100)
    assert b"a comment" not in read_container(content).content
    np.testing.assert_array_equal(pixels(content), np.asarray(GREY.convert("RGB")))


def test_a_gif_may_keep_its_colours_beside_its_picture() -> None:
    """The size of a table of all pictures is said even where there is none."""
    content = encoded(GREY, "GIF")
    start, size = gif_blocks(content), content[10] % 8
    assert content[start] == 0x2C
    head = content[:10] + bytes([content[10] & 0x7F]) + content[11:13]
    own = head + content[start : start + 9] + bytes([0x80 | size]) + content[13:start] + content[start + 10 :]
    np.testing.assert_array_equal(pixels(own), pixels(content))


def test_a_gif_is_as_large_as_its_first_picture() -> None:
    """The screen says 8 x 8, the picture on it 60,000 x 60,000: what counts is what would be unpacked."""
    content = encoded(GREY, "GIF")
    place = gif_blocks(content)
    large = content[:place] + struct.pack("<BHHHH", 0x2C, 0, 0, 60_000, 60_000) + content[place + 9 :]
    assert (read_container(large).width, read_container(large).height) == (60_000, 60_000)
    assert refusal(large).startswith("too-large: has more than 178956970 pixels")


def test_the_second_page_of_a_tiff_is_not_looked_at() -> None:
    content = encoded(NOISE, "TIFF", save_all=True, append_images=[NOISE.rotate(180)], compression="tiff_lzw")
    np.testing.assert_array_equal(pixels(content), np.asarray(NOISE))


@pytest.mark.parametrize("compression", ["raw", "tiff_lzw", "tiff_adobe_deflate", "packbits"])
@pytest.mark.parametrize("order", [1, 3, 6])
def test_a_tiff_is_decoded_from_its_pixel_entries_alone(compression: str, order: int) -> None:
    """Orientation, EXIF, profile and the rest stay behind, and are not missed."""
    options = {"compression": compression, "exif": exif_of(order), "icc_profile": bytes(50_000)}
    container = read_container(encoded(NOISE, "TIFF", **options))
    assert container.orientation == order and container.upright == ((12, 16) if order > 4 else (16, 12))
    with Image.open(io.BytesIO(container.content)) as seen:
        assert not {34675, 34665, 274, 700} & set(seen.tag_v2)  # type: ignore[attr-defined]
    turns = {1: 0, 3: 2, 6: -1}
    np.testing.assert_array_equal(np.asarray(decode(container, 3)), np.rot90(np.asarray(NOISE), turns[order]))


def tiff_entry(content: bytes, tag: int) -> int:
    """Where the entry of a tag stands in a little-endian TIFF file."""
    [start] = struct.unpack_from("<I", content, 4)
    [number] = struct.unpack_from("<H", content, start)
    return next(
        place
        for place in range(start + 2, start + 2 + 12 * number, 12)
        if struct.unpack_from("<H", content, place)[0] == tag
    )


@pytest.mark.parametrize(
    ("tag", "form", "number", "value", "sentence"),
    [
        (259, 3, 1, 7, "wrong-pixels: is a TIFF file with compression 7; send it without, with LZW or deflate."),
        (262, 3, 1, 6, "wrong-pixels: is a TIFF file with photometric interpretation 6; send greyscale or RGB."),
        (273, 4, PARTS_LIMIT + 1, 0, "too-large: is made of more than 16384 parts; save it again."),
        (279, 4, 2**31, 0, "broken-file: is damaged or cut off; send the whole file."),
        (256, 2, 1, 16, "broken-file: is damaged or cut off; send the whole file."),
        (256, 4, 1, 2**31, "too-large: has more than 178956970 pixels; send a smaller one."),
    ],
)
def test_an_entry_that_would_cost_much_or_means_another_decoder_is_refused(
    tag: int, form: int, number: int, value: int, sentence: str
) -> None:
    content = bytearray(encoded(NOISE, "TIFF") + bytes(100_000))
    struct.pack_into("<HII", content, tiff_entry(bytes(content), tag) + 2, form, number, value)
    assert refusal(bytes(content)) == sentence


@pytest.mark.parametrize(("size", "tile"), [((16, 12), (60_000, 60_000)), ((4_000_000, 1), (1024, 1024))])
def test_tiles_that_go_far_beyond_the_picture_are_refused(size: tuple[int, int], tile: tuple[int, int]) -> None:
    """A tile is unpacked whole: entries of strips are made entries of tiles."""
    content = bytearray(encoded(NOISE, "TIFF", compression="tiff_lzw"))
    for tag, other, value in ((256, 256, size[0]), (257, 257, size[1]), (278, 322, tile[0]), (284, 323, tile[1])):
        struct.pack_into("<HHII", content, tiff_entry(bytes(content), tag), other, 4, 1, value)
    assert f"has tiles of {tile[0]} by {tile[1]} pixels" in refusal(bytes(content))


def test_white_as_0_is_inverted_or_refused_never_taken_as_it_is() -> None:
    content = bytearray(encoded(GREY, "TIFF"))
    struct.pack_into("<I", content, tiff_entry(bytes(content), 262) + 8, 0)
    np.testing.assert_array_equal(pixels(bytes(content))[..., 0], 255 - np.asarray(GREY))
    deep = bytearray(encoded(Image.fromarray(np.asarray(GREY).astype(np.uint16) * 257), "TIFF"))
    struct.pack_into("<I", deep, tiff_entry(bytes(deep), 262) + 8, 0)
    assert "16 bits with white as 0" in refusal(bytes(deep))


def test_comments_in_a_netpbm_header_are_skipped_at_once() -> None:
    header = b"P6 # " + b"a comment " * 100 + b"\n16\n# another\n12 255\n"
    np.testing.assert_array_equal(pixels(header + NOISE.tobytes()), np.asarray(NOISE))
    begin = time.monotonic()
    assert refusal(b"P6" + b"#\n" * 5_000_000).startswith("broken-file")
    assert refusal(b"P6" + b" " * 5_000_000).startswith("broken-file")
    assert time.monotonic() - begin < 2


@pytest.mark.parametrize(
    ("content", "sentence"),
    [
        (b"P3 1 1 255 1 2 3", "wrong-pixels: is a Netpbm file of text; send it in binary form, or as PNG."),
        (
            b"P6 1 1 65535\n123456",
            "wrong-pixels: is a Netpbm file of levels up to 65535; send levels up to 255, or a PNG.",
        ),
    ],
)
def test_netpbm_files_that_are_decoded_number_by_number_are_refused(content: bytes, sentence: str) -> None:
    assert refusal(content) == sentence


def test_exif_is_read_for_its_orientation_alone() -> None:
    """Of 60,000 entries that each claim a megabyte; Pillow would read and warn for seconds."""
    entries = b"".join(struct.pack("<HHII", 1000 + index, 1, 1_000_000, 8) for index in range(60_000))
    exif = b"II*\0" + struct.pack("<IH", 8, 60_000) + entries + bytes(1_000_000)
    tracemalloc.start()
    begin = time.monotonic()
    np.testing.assert_array_equal(pixels(with_chunk(PNG, b"eXIf", exif)), np.asarray(NOISE))
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert time.monotonic() - begin < 1 and peak < 10 * len(exif)


@pytest.mark.parametrize("order", ["<", ">"])
@pytest.mark.parametrize(("given", "read"), [(1, 1), (6, 6), (8, 8), (0, 1), (9, 1)])
def test_an_orientation_is_1_to_8(order: str, given: int, read: int) -> None:
    mark = b"II*\0" if order == "<" else b"MM\0*"
    exif = mark + struct.pack(f"{order}IHHHIHHI", 8, 1, 0x0112, 3, 1, given, 0, 0)
    assert read_orientation(exif) == read_orientation(b"Exif\0\0" + exif) == read
    assert read_orientation(exif, b'tiff:Orientation="3"') == read, "XMP counts only where EXIF says nothing"
    for end in range(len(exif)):
        read_orientation(exif[:end])
    assert read_orientation(b"", b'tiff:Orientation="3"') == read_orientation(exif[:9], b"tiff:Orientation>3<") == 3


def test_parts_have_a_limit_in_every_format() -> None:
    chunks = PNG[:33] + png_chunk(b"tEXt", b"") * PARTS_LIMIT + PNG[33:]
    segments = JPEG[:2] + segment(0xFE, b"") * PARTS_LIMIT + JPEG[2:]
    gif = encoded(GREY, "GIF")
    extensions = gif[: gif_blocks(gif)] + b"\x21\xfe\0" * PARTS_LIMIT + gif[gif_blocks(gif) :]
    webp = encoded(NOISE, "WEBP", lossless=True)
    riff = webp + b"JUNK\0\0\0\0" * PARTS_LIMIT
    riff = riff[:4] + struct.pack("<I", len(riff) - 8) + riff[8:]
    for content in (chunks, segments, extensions, riff):
        assert refusal(content) == "too-large: is made of more than 16384 parts; save it again."


def test_an_unknown_or_empty_file_is_said_to_be_one() -> None:
    for content in (b"hello", b"RIFF\x24\0\0\0WAVEfmt ", b"II+\0\x08\0\0\0", zlib.compress(b"x")):
        assert refusal(content).startswith("wrong-type: is not an image of a known format; send a PNG, JPEG,")
    assert refusal(b"") == "broken-file: is empty; send the whole file."


def test_only_its_own_segment_turns_a_jpeg() -> None:
    """What EXIF or XMP would say counts for nothing in a comment, nor in an APP1 segment of another kind."""
    turned = b"http://ns.adobe.com/xap/1.0/\0" + b'<x tiff:Orientation="6"/>'
    for marker, data, orientation in ((0xE1, turned, 6), (0xFE, turned, 1), (0xE1, b"private\0" + turned, 1)):
        assert read_container(JPEG[:2] + segment(marker, data) + JPEG[2:]).orientation == orientation
