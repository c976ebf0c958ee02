"""The oracle is Pillow, one image at a time, as in the paper's own code."""

import numpy as np
import pytest
import torch
from PIL import Image, ImageEnhance, ImageOps

from pipeline.data.trivial_augment import (
    OPERATIONS,
    STRONGEST,
    Draw,
    apply_operations,
    draw_operations,
    trivial_augment,
)

NAMES = list(OPERATIONS)
STRENGTHS = torch.arange(-STRONGEST, STRONGEST + 1)
AFFINE = Image.Transform.AFFINE
ENHANCERS = {
    "color": ImageEnhance.Color,
    "contrast": ImageEnhance.Contrast,
    "brightness": ImageEnhance.Brightness,
    "sharpness": ImageEnhance.Sharpness,
}


def batch(count=61, channels=3, side=32, seed=1):
    """Smooth pictures with a full range of values, so that wrong places and wrong levels both show."""
    generator = torch.Generator().manual_seed(seed)
    coarse = torch.rand(count, channels, 4, 4, generator=generator)
    smooth = torch.nn.functional.interpolate(coarse, size=(side, side), mode="bicubic").clamp(0, 1)
    noise = torch.rand(count, channels, side, side, generator=generator)
    return ((0.85 * smooth + 0.15 * noise) * 255).to(torch.uint8)


def all_strengths(images, name):
    return apply_operations(images, Draw(torch.full((61,), NAMES.index(name)), STRENGTHS))


def pillow(image, name, strength):
    """What the paper's code does to one picture, strengths 0 to 30, in the standard space."""
    size, level = image.size, abs(strength)
    slope, pixels = strength * 0.3 / 30, int(strength * size[0] * 10 / 32 / 30)
    match name:
        case "identity":
            return image
        case "auto_contrast":
            return ImageOps.autocontrast(image)
        case "equalize":
            return ImageOps.equalize(image)
        case "rotate":
            return image.rotate(strength)
        case "solarize":
            return ImageOps.solarize(image, 256 - int(level * 256 / 30))
        case "posterize":
            return ImageOps.posterize(image, 8 - int(level * 4 / 30))
        case "shear_x":
            return image.transform(size, AFFINE, (1, slope, 0, 0, 1, 0))
        case "shear_y":
            return image.transform(size, AFFINE, (1, 0, 0, slope, 1, 0))
        case "translate_x":
            return image.transform(size, AFFINE, (1, 0, pixels, 0, 1, 0))
        case "translate_y":
            return image.transform(size, AFFINE, (1, 0, 0, 0, 1, pixels))
        case _:
            return ENHANCERS[name](image).enhance(0.1 + 1.8 * level / 30)


def by_pillow(images, name):
    rows = []
    for image, strength in zip(images, STRENGTHS.tolist(), strict=True):
        pixels = image.permute(1, 2, 0).numpy()
        changed = pillow(Image.fromarray(pixels if len(image) == 3 else pixels[..., 0]), name, strength)
        rows.append(torch.from_numpy(np.array(changed)).reshape(pixels.shape).permute(2, 0, 1))
    return torch.stack(rows)


@pytest.mark.parametrize("side", [8, 32])
@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize("name", NAMES)
def test_every_operation_is_pillows_at_every_strength(name, channels, side):
    """Levels may differ by 2 (some cut off where others round); a place that falls between two pixels may go to either."""
    images = batch(channels=channels, side=side)
    ours, theirs = all_strengths(images, name), by_pillow(images, name)
    assert ours.dtype == torch.uint8 and ours.shape == images.shape
    far = (ours.int() - theirs.int()).abs() > (2 if name in (*ENHANCERS, "auto_contrast") else 0)
    assert far.float().mean() < (0.02 if name.startswith(("rotate", "shear")) else 1e-9)


@pytest.mark.parametrize("name", [name for name in NAMES if name not in ("identity", "auto_contrast", "equalize")])
def test_strengths_are_taken_image_by_image(name):
    """At strength 0 most operations do nothing; at full strength all of them do something."""
    images = batch()[:1].expand(61, -1, -1, -1)
    changed = (all_strengths(images, name) != images).float().mean((1, 2, 3))
    assert changed[0] > 0.1 and changed[-1] > 0.1
    assert len(changed.unique()) > 4


@pytest.mark.parametrize("name", NAMES)
def test_neighbours_do_not_change_an_image(name):
    """Contrast uses a mean and equalize a histogram: each must be the image's own."""
    images = batch()
    others = batch(seed=2)
    others[7] = images[7]
    assert torch.equal(all_strengths(images, name)[7], all_strengths(others, name)[7])


def test_each_image_gets_its_own_operation():
    """All fourteen in one batch, in mixed order, give what each gives alone; the images are left as they were."""
    images, generator = batch(), torch.Generator().manual_seed(4)
    copy, draw = images.clone(), draw_operations(61, generator)
    mixed = apply_operations(images, draw)
    assert torch.equal(images, copy)
    for row in range(61):
        alone = Draw(draw.operation[row : row + 1], draw.strength[row : row + 1])
        assert torch.equal(mixed[row : row + 1], apply_operations(images[row : row + 1], alone))


def test_greyscale_has_no_colours_to_change():
    images = batch(channels=1)
    assert torch.equal(all_strengths(images, "color"), images)


def test_images_of_two_lengths_are_warped_along_the_right_axis():
    """Sheared along y by 0.3, the column x of a wide image reads 0.3 x further down."""
    images = batch(1, 1, 32)[..., :8, :]
    sheared = apply_operations(images, Draw(torch.tensor([NAMES.index("shear_y")]), torch.tensor([30])))
    for x in (0, 10, 31):
        shift = int(0.3 * (x + 0.5) + 0.5)
        assert torch.equal(sheared[0, 0, : max(0, 8 - shift), x], images[0, 0, shift:, x])
        assert not sheared[0, 0, max(0, 8 - shift) :, x].any()


def test_operations_strengths_and_directions_are_equally_likely_and_independent():
    draw = draw_operations(86_800, torch.Generator().manual_seed(0))
    together = torch.bincount(draw.operation * 31 + draw.strength.abs(), minlength=14 * 31)
    assert len(together) == 434
    assert abs(together - 200).max() < 5 * 200**0.5
    moved = draw.strength != 0
    assert abs((draw.strength[moved] > 0).float().mean() - 0.5) < 0.01


def test_a_seed_draws_the_same_whatever_the_global_state():
    images = batch()
    torch.manual_seed(1)
    first = trivial_augment(images, torch.Generator().manual_seed(5))
    torch.manual_seed(2)
    assert torch.equal(first, trivial_augment(images, torch.Generator().manual_seed(5)))
    assert not torch.equal(first, trivial_augment(images, torch.Generator().manual_seed(6)))


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
@pytest.mark.parametrize("name", NAMES)
def test_a_cuda_device_gives_the_same_images(name):
    """But for rounding: a level by 1, and a place that falls between two pixels."""
    images = batch()
    on_device = all_strengths(images.cuda(), name)
    assert on_device.is_cuda
    far = (on_device.cpu().int() - all_strengths(images, name).int()).abs() > 1
    assert far.float().mean() < 0.005
