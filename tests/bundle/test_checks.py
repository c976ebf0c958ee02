"""The images of a bundle: the set is exact, each lies in its ball, and a stranger's archive is no danger."""

from __future__ import annotations

import io
import shutil
import zipfile
from collections.abc import Mapping
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from bundle.bundle import open_bundle
from bundle.layout import IMAGES
from tests.audit.tampering import encrypted, rewrite
from tests.bundle.test_verification import npz, refusal
from tests.bundles import make_bundle


@pytest.fixture(scope="module")
def master(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_bundle(tmp_path_factory.mktemp("master") / "bundle")


@pytest.fixture
def folder(master: Path, tmp_path: Path) -> Path:
    return shutil.copytree(master, tmp_path / "bundle")


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
    shape = images["clean"].shape
    rewrite(folder, files={IMAGES: npz({**images, "clean": np.zeros((1000, 200, 200, 1), np.uint8)})})
    assert refusal(folder) == f"{IMAGES}: clean must be uint8 {shape}, is uint8 (1000, 200, 200, 1)"
    size = (999999999999999999,)
    rewrite(
        folder, files={IMAGES: with_header(images, f"{{'descr': '|u1', 'fortran_order': False, 'shape': {size}, }}")}
    )
    assert refusal(folder) == f"{IMAGES}: clean must be uint8 {shape}, is uint8 {size}"
    rewrite(folder, files={IMAGES: npz({f"{place}": np.zeros(1, np.uint8) for place in range(500)})})
    assert refusal(folder) == f"{IMAGES}: has more than 5 entries"


@pytest.mark.parametrize(
    "header",
    [
        "{'descr': '|u1', 'fortran_order': False, 'shape': (1,",
        "(" * 9000,
        "{'descr': '|u1', 'fortran_order': False, 'shape': (1,)}\n  '''",
        "{'descr': '|O', 'fortran_order': False, 'shape': (60, 8, 8, 1), }",
        "x" * 60000,
    ],
    ids=["cut", "nested", "quotes", "pickled", "long"],
)
def test_headers_of_arrays_that_are_none_are_refused_in_one_sentence(folder: Path, header: str) -> None:
    rewrite(folder, files={IMAGES: with_header(open_bundle(folder).images, header)})
    assert refusal(folder).startswith(f"{IMAGES}: not a readable npz archive")


def test_encrypted_arrays_are_refused(folder: Path) -> None:
    rewrite(folder, files={IMAGES: encrypted((folder / IMAGES).read_bytes())})
    assert refusal(folder) == f"{IMAGES}: clean.npy is encrypted, or packed otherwise than numpy.savez packs"


@pytest.mark.parametrize("packing", [zipfile.ZIP_LZMA, zipfile.ZIP_BZIP2])
def test_arrays_that_are_packed_otherwise_are_refused(folder: Path, packing: int) -> None:
    """zipfile unpacks these by more than is asked of it, and damaged ones end in errors of their own."""
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", packing) as archive:
        for name, array in open_bundle(folder).images.items():
            with archive.open(f"{name}.npy", "w") as file:
                np.lib.format.write_array(file, array)
    rewrite(folder, files={IMAGES: buffer.getvalue().replace(b"\0" * 4, b"\xff" * 4)})
    assert refusal(folder).startswith(f"{IMAGES}: ")
    rewrite(folder, files={IMAGES: buffer.getvalue()})
    assert refusal(folder) == f"{IMAGES}: clean.npy is encrypted, or packed otherwise than numpy.savez packs"


def with_header(images: Mapping[str, NDArray[np.uint8]], header: str) -> bytes:
    """An archive whose `clean` has this header, and no data behind it."""
    buffer, text = io.BytesIO(), header.encode()
    with zipfile.ZipFile(buffer, "w") as archive:
        archive.writestr("clean.npy", b"\x93NUMPY\1\0" + len(text).to_bytes(2, "little") + text)
        for name in images.keys() - {"clean"}:
            with archive.open(f"{name}.npy", "w") as file:
                np.lib.format.write_array(file, images[name])
    return buffer.getvalue()
