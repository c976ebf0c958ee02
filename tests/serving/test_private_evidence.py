"""A bundle with private evidence is served only where the settings let the self-check be left out."""

from dataclasses import replace
from pathlib import Path

import pytest

from audit.private.withholding import make_private
from bundle.errors import HallmarkError
from bundle.layout import IMAGES
from serving.served import prepare
from serving.settings import Settings
from tests.bundles import make_bundle


def test_without_images_the_self_check_is_not_possible_and_that_is_told(tmp_path: Path) -> None:
    make_private(
        make_bundle(tmp_path / "source", rows=20, tier="quick"), tmp_path / "made", tmp_path / "own", bytes(32)
    )
    settings = Settings(bundle=tmp_path / "made", releases=tmp_path / "none", threads=1, device="cpu")
    with pytest.raises(
        HallmarkError, match=r"^self-check: not possible: private evidence; HALLMARK_SELF_CHECK=if-possible"
    ):
        prepare(settings)
    served = prepare(replace(settings, self_check="if-possible"))
    page = served.page.render(served.robustness, served.versions.all())
    assert served.check.rows == 0
    assert "not possible: private evidence" in page
    assert IMAGES not in served.evidence
    assert f"evidence/{IMAGES}" not in page
    assert served.page.samples == []
