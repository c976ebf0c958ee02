"""Each corruption does what its name says, as much as its severity says, and the same for an image wherever it is."""

from __future__ import annotations

from io import BytesIO

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image
from scipy.ndimage import gaussian_filter

from bundle.corruptions import NAMES, SEVERITIES, camera, corrupt, weather
from bundle.corruptions.camera import disc
from bundle.corruptions.filters import sampled, streaked, zoomed
from bundle.corruptions.weather import frost_texture, plasma
from bundle.errors import HallmarkError
from tests.bundles import digits

#: Corruptions whose published severities are not ordered by how far the pixels move: see the tests of their own.
UNORDERED = {"glass_blur", "frost", "elastic_transform", "motion_blur"}


def pictures(count: int = 24, side: int = 32, channels: int = 3) -> NDArray[np.uint8]:
    """Smooth shapes with edges and shading, as photographs have them."""
    generator = np.random.default_rng(0)
    fields = gaussian_filter(generator.standard_normal((count, side, side, channels)), (0, side / 10, side / 10, 0.5))
    fields = fields / fields.std() * 0.15 + 0.2 * (fields > 0.05) + 0.4
    return np.rint(np.clip(fields, 0, 1) * 255).astype(np.uint8)


def distance(images: NDArray[np.uint8], name: str, severity: int) -> float:
    corrupted = corrupt(images, name, severity, seed=0, index=np.arange(len(images)))
    return float(np.abs(corrupted.astype(float) - images).mean())


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("shape", [(32, 32, 3), (8, 8, 1), (4, 7, 3), (70, 40, 1)], ids=str)
def test_shape_and_change(name: str, shape: tuple[int, int, int]):
    images = np.random.default_rng(0).integers(40, 200, (2, *shape), dtype=np.uint8)
    before = images.copy()
    found = corrupt(images, name, 5, seed=0, index=np.arange(2))
    assert found.shape == images.shape and found.dtype == np.uint8
    assert (found != images).any(axis=(1, 2, 3)).all()
    assert np.array_equal(images, before)


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("severity", [2, 5])
def test_an_image_is_corrupted_alike_in_any_company(name: str, severity: int):
    images, index = pictures(5), np.array([3, 1, 4, 15, 9])
    together = corrupt(images, name, severity, seed=7, index=index)
    apart = corrupt(images[[4, 2]], name, severity, seed=7, index=index[[4, 2]])
    assert np.array_equal(together[[4, 2]], apart)


@pytest.mark.parametrize(
    "name", sorted(set(NAMES) - {"defocus_blur", "zoom_blur", "brightness", "contrast", "pixelate", "jpeg_compression"})
)
def test_seed_and_index_draw_the_random_ones(name: str):
    images = np.repeat(pictures(1), 2, axis=0)
    found = corrupt(images, name, 3, seed=0, index=np.array([0, 1]))
    assert not np.array_equal(found[0], found[1])
    assert not np.array_equal(found[:1], corrupt(images[:1], name, 3, seed=1, index=np.array([0])))


@pytest.mark.parametrize("name", sorted(set(NAMES) - UNORDERED))
def test_a_higher_severity_moves_the_pixels_further(name: str):
    moved = [distance(pictures(), name, severity) for severity in SEVERITIES]
    assert moved[0] > 0.2 and all(np.diff(moved) > -0.02 * moved[-1]) and moved[4] > 1.3 * moved[0]
    assert distance(digits()[0][:60], name, 5) > distance(digits()[0][:60], name, 1)


def test_glass_moves_further_in_two_rounds_and_motion_in_a_wider_streak():
    glass = [distance(pictures(), "glass_blur", severity) for severity in SEVERITIES]
    assert glass[3] > 1.1 * glass[1] and glass[4] > 1.1 * glass[2]
    motion = [distance(pictures(), "motion_blur", severity) for severity in (1, 2, 3, 5)]  # 3 and 4 differ by a hair
    assert all(np.diff(motion) > 0)


def test_frost_covers_more_of_the_image():
    """What is left of the image, by its correlation with the clean one, falls with the severity."""
    images = pictures()
    left = []
    for severity in SEVERITIES:
        found = corrupt(images, "frost", severity, seed=0, index=np.arange(len(images)))
        pairs = zip(images.reshape(len(images), -1), found.reshape(len(images), -1), strict=True)
        left.append(np.mean([np.corrcoef(a, b)[0, 1] for a, b in pairs]))
    assert all(np.diff(left) < 0.01) and left[4] < left[0] - 0.05


def test_elastic_bends_a_ramp_more_at_a_higher_severity():
    """An affine map takes a ramp to a ramp, so what no plane fits (inside, away from the border) is the bending."""
    ramp = np.rint(np.linspace(20, 235, 32))[None, None, :, None].repeat(32, axis=1).repeat(20, axis=0).astype(np.uint8)
    a, b = np.meshgrid(np.arange(20), np.arange(20))
    plane = np.stack([a.ravel(), b.ravel(), np.ones(400)], axis=1)
    bending = []
    for severity in SEVERITIES:
        found = corrupt(ramp, "elastic_transform", severity, seed=0, index=np.arange(20))[:, 6:26, 6:26, 0]
        values = found.reshape(20, -1).T.astype(float)
        rest = values - plane @ np.linalg.lstsq(plane, values, rcond=None)[0]
        bending.append(np.abs(rest).mean())
    assert bending[0] < 1 and bending[2] > bending[1] and bending[4] > bending[3] > bending[0]


@pytest.mark.parametrize("severity", SEVERITIES)
def test_exact_formulas(severity: int):
    images, index = pictures(3), np.arange(3)
    grey = images[..., :1]

    added = (0.05, 0.1, 0.15, 0.2, 0.3)[severity - 1]
    expected = np.rint(np.minimum(grey / 255 + added, 1) * 255)
    assert np.abs(corrupt(grey, "brightness", severity, seed=0, index=index) - expected).max() <= 1
    bright = corrupt(images, "brightness", severity, seed=0, index=index)
    assert np.abs(bright.max(axis=3) - np.minimum(images.max(axis=3) + 255 * added, 255)).max() <= 1

    kept = (0.75, 0.5, 0.4, 0.3, 0.15)[severity - 1]
    means = images.mean(axis=(1, 2), keepdims=True)
    found = corrupt(images, "contrast", severity, seed=0, index=index)
    assert np.abs(found - ((images - means) * kept + means)).max() <= 0.5 + 1e-3

    file = BytesIO()
    Image.fromarray(images[0]).save(file, "JPEG", quality=(80, 65, 58, 50, 40)[severity - 1])
    found = corrupt(images, "jpeg_compression", severity, seed=0, index=index)
    assert np.array_equal(found[0], np.asarray(Image.open(file)))


def test_brightness_keeps_the_hue_and_lifts_black():
    image = np.array([200, 100, 50, 0, 0, 0], np.uint8).reshape(1, 1, 2, 3).repeat(4, axis=1).repeat(2, axis=2)
    found = corrupt(image, "brightness", 2, seed=0, index=np.arange(1))[0, 0]
    assert found[0].tolist() == [226, 113, 56] and found[2].tolist() == [26, 26, 26]


def test_noise_has_the_published_size():
    flat, index = np.full((20, 32, 32, 3), 128, np.uint8), np.arange(20)
    for severity in SEVERITIES:
        noise = corrupt(flat, "gaussian_noise", severity, seed=0, index=index) / 255 - 128 / 255
        assert noise.std() == pytest.approx((0.04, 0.06, 0.08, 0.09, 0.10)[severity - 1], rel=0.02)
        shot = corrupt(flat, "shot_noise", severity, seed=0, index=index) / 255
        assert shot.mean() == pytest.approx(128 / 255, abs=2e-3)
        assert shot.var() == pytest.approx(128 / 255 / (500, 250, 100, 75, 50)[severity - 1], rel=0.05)
        impulse = corrupt(flat, "impulse_noise", severity, seed=0, index=index)
        share = (0.01, 0.02, 0.03, 0.05, 0.07)[severity - 1]
        assert (impulse == 0).mean() == pytest.approx(share / 2, rel=0.1)
        assert (impulse == 255).mean() == pytest.approx(share / 2, rel=0.1)


@pytest.mark.parametrize("name", ["defocus_blur", "motion_blur", "zoom_blur", "glass_blur", "pixelate", "contrast"])
def test_what_moves_light_about_makes_none(name: str):
    images = pictures()
    found = corrupt(images, name, 5, seed=0, index=np.arange(len(images)))
    assert found.mean() == pytest.approx(images.mean(), abs=4)
    flat = np.full((2, 32, 32, 3), 77, np.uint8)
    assert np.abs(corrupt(flat, name, 5, seed=0, index=np.arange(2)).astype(int) - 77).max() <= 1


@pytest.mark.parametrize("name", ["snow", "frost", "brightness"])
def test_what_adds_light_makes_the_image_brighter(name: str):
    images = pictures() // 2
    found = corrupt(images, name, 4, seed=0, index=np.arange(len(images)))
    assert found.mean() > images.mean() + 20


def test_blurs_grow_with_the_image_and_small_images_keep_the_published_ones():
    """Twice the side, twice the length: an edge in 64 pixels, shrunk by half, looks like one in 32."""
    edge = np.zeros((1, 64, 64, 1), np.uint8)
    edge[:, :, 48:] = 255
    for name in ("defocus_blur", "zoom_blur"):
        large = corrupt(edge, name, 5, seed=0, index=np.arange(1))[0, 32, :, 0].reshape(32, 2).mean(axis=1)
        small = corrupt(edge[:, ::2, ::2], name, 5, seed=0, index=np.arange(1))[0, 16, :, 0]
        assert np.abs(large - small).max() < 45
        assert 1 < np.count_nonzero((large > 8) & (large < 247)) <= 8
    assert disc(1.5, 0.1)[1:4, 1:4] == pytest.approx(np.full((3, 3), 1 / 9), abs=1e-6)


def test_filters_by_hand():
    dot = np.zeros((1, 9, 9, 1), np.float32)
    dot[0, 4, 4, 0] = 1
    streak = streaked(dot, np.array([0.0]), 2, 1.0)[0, :, :, 0]
    weights = np.exp(-(np.arange(4) ** 2) / 2)
    assert streak[4, 4:0:-1] == pytest.approx(weights / np.exp(-(np.arange(4) ** 2) / 2).sum(), abs=2e-3)
    ramp = np.broadcast_to(np.arange(9, dtype=np.float32), (1, 9, 9))
    assert zoomed(ramp, 2.0)[0, 0] == pytest.approx(4 + (np.arange(9) - 4) / 2)
    rows, columns = np.full((1, 1, 3), 4.0), np.array([[[-1.0, 2.5, 9.0]]])
    line = np.ascontiguousarray(ramp[..., None])
    read = sampled(line, np.broadcast_to(rows[:, :, :1], (1, 9, 9)), np.broadcast_to(columns[..., :1], (1, 9, 9)))
    assert read == pytest.approx(np.ones((1, 9, 9, 1)))  # −1 is reflected to 1
    read = sampled(line, np.full((1, 9, 9), 4.0), np.full((1, 9, 9), 2.5))
    assert read == pytest.approx(np.full((1, 9, 9, 1), 2.5))


def test_plasma_spans_its_range_and_is_smoother_with_more_decay():
    uniform = np.random.default_rng(0).uniform(-1, 1, (4, 32, 32))
    rough, smooth = plasma(uniform, 1.75), plasma(uniform, 3.0)
    for clouds in (rough, smooth):
        assert np.allclose(clouds.min(axis=(1, 2)), 0) and np.allclose(clouds.max(axis=(1, 2)), 1)
    assert np.abs(np.diff(smooth, axis=1)).mean() < np.abs(np.diff(rough, axis=1)).mean()


def test_what_cannot_be_corrupted_is_refused_in_a_sentence():
    images, index = pictures(2), np.arange(2)
    with pytest.raises(HallmarkError, match="rain: there is none of this name; there are gaussian_noise"):
        corrupt(images, "rain", 1, seed=0, index=index)
    for severity in (0, 6):
        with pytest.raises(HallmarkError, match="must be 1, 2, 3, 4 or 5"):
            corrupt(images, "fog", severity, seed=0, index=index)
    with pytest.raises(HallmarkError, match="uint8"):
        corrupt(images / 255, "fog", 1, seed=0, index=index)
    with pytest.raises(HallmarkError, match="uint8"):
        corrupt(images[..., :2], "fog", 1, seed=0, index=index)
    with pytest.raises(HallmarkError, match="at least 4 pixels"):
        corrupt(images[:, :3], "fog", 1, seed=0, index=index)
    with pytest.raises(HallmarkError, match="one entry"):
        corrupt(images, "fog", 1, seed=0, index=index[:1])


def test_clouds_are_diamonds_and_squares_point_by_point() -> None:
    side, decay = 8, 1.7
    uniform = np.random.default_rng(5).uniform(-1, 1, (side, side))
    wanted, step, strength = np.zeros((side, side)), side, 100.0

    def put(y: int, x: int, *around: tuple[int, int]) -> None:
        mean = sum(wanted[a % side, b % side] for a, b in around) / 4
        wanted[y % side, x % side] = mean + strength**2 * uniform[y % side, x % side]

    while step > 1:
        half, places = step // 2, [(y, x) for y in range(0, side, step) for x in range(0, side, step)]
        for y, x in places:
            put(y + half, x + half, (y, x), (y + step, x), (y, x + step), (y + step, x + step))
        for y, x in places:
            put(y, x + half, (y, x), (y, x + step), (y + half, x + half), (y - half, x + half))
            put(y + half, x, (y, x), (y + step, x), (y + half, x + half), (y + half, x - half))
        step, strength = half, strength / decay
    wanted = (wanted - wanted.min()) / (wanted.max() - wanted.min())
    np.testing.assert_allclose(plasma(uniform[None], decay)[0], wanted, atol=1e-12)


def test_ice_is_as_dense_on_a_long_image(monkeypatch: pytest.MonkeyPatch) -> None:
    """Its texture has four times the area of the square image's, and four times the crystals."""
    grown: list[int] = []
    monkeypatch.setattr("bundle.corruptions.weather._grow_crystal", lambda *_: grown.append(1))
    counts = []
    for shape in ((32, 32), (32, 256)):
        grown.clear()
        frost_texture(99, *shape)
        counts.append(len(grown))
    assert counts == [130, 520]


#: The `c` of each function of make_cifar_c.py, by which CIFAR-10-C was made.
PUBLISHED = {
    "GAUSSIAN": [0.04, 0.06, 0.08, 0.09, 0.10],
    "SHOT": [500, 250, 100, 75, 50],
    "IMPULSE": [0.01, 0.02, 0.03, 0.05, 0.07],
    "DEFOCUS": [(0.3, 0.4), (0.4, 0.5), (0.5, 0.6), (1, 0.2), (1.5, 0.1)],
    "GLASS": [(0.05, 1, 1), (0.25, 1, 1), (0.4, 1, 1), (0.25, 1, 2), (0.4, 1, 2)],
    "MOTION": [(6, 1), (6, 1.5), (6, 2), (8, 2), (9, 2.5)],
    "CONTRAST": [0.75, 0.5, 0.4, 0.3, 0.15],
    "ELASTIC": [(0, 0, 0.08), (0.05, 0.2, 0.07), (0.08, 0.06, 0.06), (0.1, 0.04, 0.05), (0.1, 0.03, 0.03)],
    "PIXELATE": [0.95, 0.9, 0.85, 0.75, 0.65],
    "JPEG": [80, 65, 58, 50, 40],
    "SNOW": [
        *((0.1, 0.2, 1, 0.6, 8, 3, 0.95), (0.1, 0.2, 1, 0.5, 10, 4, 0.9), (0.15, 0.3, 1.75, 0.55, 10, 4, 0.9)),
        *((0.25, 0.3, 2.25, 0.6, 12, 6, 0.85), (0.3, 0.3, 1.25, 0.65, 14, 12, 0.8)),
    ],
    "FROST": [(1, 0.2), (1, 0.3), (0.9, 0.4), (0.85, 0.4), (0.75, 0.45)],
    "FOG": [(0.2, 3), (0.5, 3), (0.75, 2.5), (1, 2), (1.5, 1.75)],
    "BRIGHTNESS": [0.05, 0.1, 0.15, 0.2, 0.3],
}


@pytest.mark.parametrize("name", PUBLISHED)
def test_severities_are_the_published_ones(name: str):
    assert list(vars(camera if hasattr(camera, name) else weather)[name]) == PUBLISHED[name]
