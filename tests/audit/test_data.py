"""verify --data: every row of a bundle against the test split that the auditor holds."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from audit.verification import MANIFEST, TEST_SPLIT, check_data, verify
from bundle.errors import HallmarkError
from bundle.table.outcomes import Outcomes, image_digests
from tests.audit.conftest import Masters
from tests.bundles import digits


def write_split(folder: Path, images: Any = None, labels: Any = None, count: int = 1797) -> Path:
    """A folder like out/data whose test split is the digits; the bundle's rows are 1200 to 1259 of it."""
    folder.mkdir()
    known_images, known_labels = digits()
    images = known_images[:count] if images is None else images
    labels = known_labels[:count] if labels is None else labels
    np.savez(folder / TEST_SPLIT, images=images, labels=labels)
    (folder / MANIFEST).write_text(json.dumps({"test_images_sha256": image_digests(images)}))
    return folder


@pytest.fixture
def outcomes(masters: Masters) -> Outcomes:
    return verify(masters.unsigned).bundle.outcomes


def test_rows_that_are_the_test_splits_pass(masters: Masters, tmp_path: Path) -> None:
    found = verify(masters.unsigned, data=write_split(tmp_path / "data")).data
    assert found is not None
    assert (found.rows, found.files, found.labels) == (60, (MANIFEST, TEST_SPLIT), True)


@pytest.mark.parametrize("missing", [MANIFEST, TEST_SPLIT])
def test_one_of_the_two_files_is_enough(outcomes: Outcomes, tmp_path: Path, missing: str) -> None:
    folder = write_split(tmp_path / "data")
    (folder / missing).unlink()
    found = check_data(outcomes, folder)
    assert found.labels == (missing == MANIFEST)
    assert missing not in found.files


@pytest.mark.parametrize("missing", [MANIFEST, TEST_SPLIT, None])
def test_an_image_that_differs_in_one_level_is_named_by_row(
    outcomes: Outcomes, tmp_path: Path, missing: str | None
) -> None:
    images = digits()[0].copy()
    images[1223, 4, 4, 0] ^= 1
    folder = write_split(tmp_path / "data", images=images)
    (folder / str(missing)).unlink(missing_ok=True)
    with pytest.raises(HallmarkError, match=r"outcomes.parquet: row 23 \(index 1223\) is not the image"):
        check_data(outcomes, folder)


def test_a_label_that_differs_is_named_by_row(outcomes: Outcomes, tmp_path: Path) -> None:
    labels = digits()[1].copy()
    labels[1259] = (labels[1259] + 1) % 10
    with pytest.raises(HallmarkError, match=rf"row 59 \(index 1259\) has label .*, .* has {labels[1259]}"):
        check_data(outcomes, write_split(tmp_path / "data", labels=labels))


def test_an_index_beyond_the_split_is_named(outcomes: Outcomes, tmp_path: Path) -> None:
    with pytest.raises(HallmarkError, match=r"row 30 has index 1230, .* has only 1230 images"):
        check_data(outcomes, write_split(tmp_path / "data", count=1230))


def test_images_in_another_order_are_not_the_same_split(outcomes: Outcomes, tmp_path: Path) -> None:
    images = np.roll(digits()[0], 1, axis=0)
    with pytest.raises(HallmarkError, match="row 0"):
        check_data(outcomes, write_split(tmp_path / "data", images=images))


def test_a_folder_that_is_no_split_is_refused(outcomes: Outcomes, tmp_path: Path) -> None:
    with pytest.raises(HallmarkError, match=r"must hold manifest\.json or test\.npz"):
        check_data(outcomes, tmp_path)
    for content in (b"", b"[]", b"{}", b'{"test_images_sha256": {}}', b"\xff"):
        (tmp_path / MANIFEST).write_bytes(content)
        with pytest.raises(HallmarkError, match="is not a manifest with a list"):
            check_data(outcomes, tmp_path)
    (tmp_path / MANIFEST).unlink()
    for content in (b"", b"PK\x03\x04", b"nonsense"):
        (tmp_path / TEST_SPLIT).write_bytes(content)
        with pytest.raises(HallmarkError, match="is not an npz archive"):
            check_data(outcomes, tmp_path)
    np.savez(tmp_path / TEST_SPLIT, images=np.zeros((2, 8, 8)), labels=np.zeros(2))
    with pytest.raises(HallmarkError, match="must hold images uint8"):
        check_data(outcomes, tmp_path)
