"""The served model's answers under corruption: right columns, and nothing done twice."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from bundle.corruptions import NAMES, SEVERITIES, corrupt
from bundle.served.runtime import OnnxClassifier
from pipeline.evaluation import columns as corrupted
from pipeline.evaluation.columns import corruption_columns, describe_corruptions
from pipeline.run.cache import Cache
from tests.bundles import digits, linear_model

IMAGES, LABELS = (array[1200:1216] for array in digits())
INDEX = np.arange(1200, 1216)


@pytest.fixture(scope="module")
def classifier() -> OnnxClassifier:
    return OnnxClassifier(linear_model()[0], threads=1, device="cpu")


def test_every_column_is_the_answer_on_that_corruption(classifier: OnnxClassifier):
    lines: list[str] = []
    columns = corruption_columns(classifier, IMAGES, INDEX, seed=5, say=lines.append, cache=Cache())
    assert list(columns) == [f"served/corruption/{n}-{s}/prediction" for n in NAMES for s in SEVERITIES]
    assert len(lines) == len(NAMES)
    for name, severity in (("fog", 2), ("jpeg_compression", 5)):
        expected = classifier.logits(corrupt(IMAGES, name, severity, seed=5, index=INDEX)).argmax(1)
        assert np.array_equal(columns[f"served/corruption/{name}-{severity}/prediction"], expected)
    assert describe_corruptions(5)["names"] == list(NAMES) and describe_corruptions(5)["seed"] == 5


def test_a_killed_run_goes_on_after_its_last_corruption(
    classifier: OnnxClassifier, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    undisturbed = corruption_columns(classifier, IMAGES, INDEX, seed=0, say=lambda line: None, cache=Cache())
    done: list[str] = []

    def killed(images, name, severity, **settings):
        if name == NAMES[4] and severity == 3:
            raise KeyboardInterrupt
        done.append(f"{name}-{severity}")
        return corrupt(images, name, severity, **settings)

    monkeypatch.setattr(corrupted, "corrupt", killed)
    with pytest.raises(KeyboardInterrupt):
        corruption_columns(classifier, IMAGES, INDEX, seed=0, say=lambda line: None, cache=Cache(tmp_path))
    kept = sorted((tmp_path / "corruptions").iterdir())
    assert len(kept) == 4
    kept[0].write_bytes(kept[0].read_bytes()[:50])  # a file cut off is computed anew

    seen: list[str] = []
    monkeypatch.setattr(
        corrupted,
        "corrupt",
        lambda images, name, severity, **settings: seen.append(name) or corrupt(images, name, severity, **settings),
    )
    resumed = corruption_columns(classifier, IMAGES, INDEX, seed=0, say=lambda line: None, cache=Cache(tmp_path))
    assert len(set(seen)) == len(NAMES) - 3
    assert all(np.array_equal(undisturbed[name], resumed[name]) for name in undisturbed)
