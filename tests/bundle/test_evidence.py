"""The images of a bundle: the set is exact, each lies in its ball, and a stranger's archive is no danger."""

from __future__ import annotations

import io
import zipfile
from pathlib import Path

import numpy as np
import pytest

from bundle.bundle import open_bundle
from bundle.layout import IMAGES
from tests.audit.tampering import rewrite
from tests.bundle.test_verification import npz, refusal
from tests.bundles import make_bundle


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return make_bundle(tmp_path / "bundle")


def test_images_outside_their_ball_are_refused_by_row(folder: Path) -> None:
    images = dict(open_bundle(folder).images)
    outside = images["linf-16/margin"].copy()
    outside[7, 0, 0, 0] = np.where(images["clean"][7, 0, 0, 0] > 127, 0, 255)
    rewrite(folder, files={IMAGES: npz({**images, "linf-16/margin": outside})})
    assert refusal(folder) == f"{IMAGES}: linf-16/margin row 7 lies outside its ball"


def test_the_edge_of_the_ball_is_inside_and_one_level_more_is_not(folder: Path) -> None:
    images = dict(open_bundle(folder).images)
    for levels, opens in ((16, True), (17, False)):
        moved = images["clean"].copy()
        moved[..., 0] = np.where(moved[..., 0] > 127, moved[..., 0] - levels, moved[..., 0] + levels)
        rewrite(folder, files={IMAGES: npz({**images, "linf-16/margin": moved})})
        if opens:
            open_bundle(folder)
        else:
            assert "linf-16/margin row 0 lies outside its ball" in refusal(folder)


def test_the_set_of_images_is_exact(folder: Path) -> None:
    images = dict(open_bundle(folder).images)
    rewrite(folder, files={IMAGES: npz({**images, "linf-16/extra": images["clean"]})})
    assert "holds clean, linf-16/extra" in refusal(folder)
    rewrite(folder, files={IMAGES: npz({name: images[name] for name in images if name != "linf-32/margin"})})
    assert "must hold exactly" in refusal(folder)
    rewrite(folder, files={IMAGES: npz({**images, "clean": images["clean"].astype(np.int32)})})
    assert "clean must be uint8" in refusal(folder)
    archive = io.BytesIO(npz(images))
    with zipfile.ZipFile(archive, "a") as file:
        file.writestr("readme.txt", "hello")
    rewrite(folder, files={IMAGES: archive.getvalue()})
    assert refusal(folder).startswith(f"{IMAGES}: must hold")


def test_pickled_arrays_are_never_loaded(folder: Path) -> None:
    images = dict(open_bundle(folder).images)
    rewrite(folder, files={IMAGES: npz({**images, "clean": np.array([{"a": 1}], dtype=object)})})
    assert refusal(folder).startswith(f"{IMAGES}: not a readable npz archive")


def test_images_that_unpack_to_too_much_are_not_unpacked(folder: Path) -> None:
    """A stranger's archive may be small and hold gigabytes, or say so of itself."""
    images = open_bundle(folder).images
    buffer = io.BytesIO()
    np.savez_compressed(buffer, **{**images, "clean": np.zeros((1000, 200, 200, 1), np.uint8)})
    rewrite(folder, files={IMAGES: buffer.getvalue()})
    assert refusal(folder) == f"{IMAGES}: clean.npy unpacks to more than uint8 {images['clean'].shape} can take"
    header = b"{'descr': '|u1', 'fortran_order': False, 'shape': (999999999999999999,), }"
    claimed = b"\x93NUMPY\x01\x00" + len(header).to_bytes(2, "little") + header
    with zipfile.ZipFile(buffer := io.BytesIO(), "w") as archive:
        archive.writestr("clean.npy", claimed)
    rewrite(folder, files={IMAGES: buffer.getvalue()})
    assert refusal(folder).startswith(f"{IMAGES}: not a readable npz archive")
