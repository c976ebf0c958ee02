import numpy as np
import pytest
import torch

from pipeline.data.augmentation import cutmix, draw_box
from pipeline.data.split import DataError


def seeded(seed=0):
    return torch.Generator().manual_seed(seed)


def numbered(count=6, height=8, width=8, channels=1, dtype=torch.uint8):
    """Every pixel of image n has the value n, so that it tells where it came from."""
    return torch.arange(count).reshape(-1, 1, 1, 1).expand(-1, channels, height, width).to(dtype)


@pytest.mark.parametrize("seed", range(40))
@pytest.mark.parametrize(("height", "width"), [(8, 8), (32, 32), (9, 30)])
def test_a_label_share_is_the_share_of_the_pixels(height, width, seed):
    """Also where the border cuts the box: the share is that of the pixels which are there."""
    mixed, labels = cutmix(numbered(6, height, width), torch.arange(6), 6, seeded(seed))
    assert labels.dtype == torch.float32 and labels.shape == (6, 6)
    for row in range(6):
        pixels = torch.bincount(mixed[row, 0].flatten().long(), minlength=6) / (height * width)
        torch.testing.assert_close(labels[row], pixels, rtol=0, atol=1e-6)


def test_the_patch_is_one_box_at_the_same_place_in_every_image_and_channel():
    some = 0
    for seed in range(30):
        mixed, _ = cutmix(numbered(channels=3), torch.arange(6), 6, seeded(seed))
        changed = mixed != numbered(channels=3)
        masks = changed[changed.any(3).any(2).any(1)]
        for mask in masks:
            rows, columns = torch.where(mask[0])
            assert mask[0].sum() == (rows.max() - rows.min() + 1) * (columns.max() - columns.min() + 1)
            assert torch.equal(mask, masks[0]) and torch.equal(mask, mask[:1].expand(3, -1, -1))
        some += bool(len(masks))
    assert some > 20


def test_partners_are_a_permutation_and_pixels_keep_their_place():
    """Each image is somebody's partner once; a patch shows the partner at the same place."""
    images = torch.randint(256, (16, 3, 8, 8), dtype=torch.uint8, generator=seeded(3))
    mixed, labels = cutmix(images, torch.arange(16), 16, seeded(4))
    torch.testing.assert_close(labels.sum(0), torch.ones(16))
    for row in range(16):
        others = [other for other in range(16) if other != row and labels[row, other] > 0]
        found = mixed[row] == images[row]
        for other in others:
            found = found | (mixed[row] == images[other])
        assert found.all() and len(others) <= 1


@pytest.mark.parametrize("alpha", [0.2, 1.0, 20.0])
def test_boxes_have_the_distribution_of_the_paper(alpha):
    """The same quantiles as NumPy's: λ from its Beta, a box with sides sqrt(1 − λ), a uniform centre, clipped."""
    generator, rng, count = seeded(), np.random.default_rng(0), 4_000
    boxes = np.array([draw_box(1_000, 1_000, generator, alpha) for _ in range(count)]) / 1_000
    half = np.sqrt(1 - rng.beta(alpha, alpha, (count, 1))) / 2
    centre = rng.uniform(size=(count, 2))
    spans = np.minimum(1, centre + half) - np.maximum(0, centre - half)
    quantiles = np.linspace(0.05, 0.95, 19)
    for ours, theirs in ((boxes[:, 1] - boxes[:, 0], spans[:, 0]), (boxes[:, 3] - boxes[:, 2], spans[:, 1])):
        np.testing.assert_allclose(np.quantile(ours, quantiles), np.quantile(theirs, quantiles), atol=0.035)
    middle = (boxes[:, 0] + boxes[:, 1]) / 2
    assert abs(middle.mean() - 0.5) < 0.02
    assert abs(np.corrcoef(middle, (boxes[:, 2] + boxes[:, 3]) / 2)[0, 1]) < 0.06


@pytest.mark.parametrize(("height", "width"), [(1, 1), (8, 8), (9, 30)])
def test_boxes_are_inside_the_image(height, width):
    generator = seeded()
    for _ in range(300):
        top, bottom, left, right = draw_box(height, width, generator, 1.0)
        assert 0 <= top <= bottom <= height and 0 <= left <= right <= width


def test_boxes_that_nothing_clips_have_every_size():
    generator = seeded()
    boxes = [draw_box(8, 8, generator, 1.0) for _ in range(600)]
    assert {box.bottom - box.top for box in boxes if box.top > 0 and box.bottom < 8} == {0, 1, 2, 3, 4, 5, 6}


@pytest.mark.parametrize("dtype", [torch.uint8, torch.float32, torch.bfloat16])
def test_images_keep_their_type_and_are_left_as_they_were(dtype):
    images = numbered(dtype=dtype)
    copy = images.clone()
    mixed, _ = cutmix(images, torch.arange(6), 6, seeded(1))
    assert mixed.dtype == dtype and mixed.shape == images.shape
    assert torch.equal(images, copy) and not torch.equal(mixed, images)


def test_distributions_are_mixed_like_classes():
    images, classes = numbered(), torch.tensor([0, 1, 2, 0, 1, 2])
    soft = 0.9 * torch.nn.functional.one_hot(classes, 3) + 0.1 / 3
    mixed, hard_labels = cutmix(images, classes, 3, seeded(2))
    again, soft_labels = cutmix(images, soft, 3, seeded(2))
    assert torch.equal(mixed, again)
    torch.testing.assert_close(soft_labels, 0.9 * hard_labels + 0.1 / 3)
    torch.testing.assert_close(soft_labels.sum(1), torch.ones(6))


def test_distributions_over_other_classes_are_refused():
    with pytest.raises(DataError, match=r"labels: must be distributions over 10 classes, got \(6, 3\)"):
        cutmix(numbered(), torch.full((6, 3), 1 / 3), 10, seeded())


def test_draws_come_from_the_generator_only():
    images = numbered()
    torch.manual_seed(1)
    first = cutmix(images, torch.arange(6), 6, seeded(7))[0]
    torch.manual_seed(2)
    assert torch.equal(first, cutmix(images, torch.arange(6), 6, seeded(7))[0])
    assert any(not torch.equal(first, cutmix(images, torch.arange(6), 6, seeded(seed))[0]) for seed in (8, 9, 10))


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
def test_a_cuda_device_gives_the_same_batch():
    images, labels = numbered(), torch.arange(6)
    mixed, shares = cutmix(images.cuda(), labels.cuda(), 6, seeded(1))
    assert mixed.is_cuda and shares.is_cuda
    expected = cutmix(images, labels, 6, seeded(1))
    assert torch.equal(mixed.cpu(), expected[0]) and torch.equal(shares.cpu(), expected[1])
