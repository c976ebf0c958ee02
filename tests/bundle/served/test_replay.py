"""Evidence run again: alone and in a batch, since what holds in one need not hold in the other."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
from numpy.typing import NDArray

from bundle.bundle import Bundle, open_bundle
from bundle.errors import HallmarkError
from bundle.served.replay import SELF_CHECK_ROWS, count_apart, self_check
from bundle.served.runtime import OnnxClassifier
from tests import models
from tests.bundles import make_bundle


@pytest.fixture(scope="module")
def bundle(tmp_path_factory: pytest.TempPathFactory) -> Bundle:
    return open_bundle(make_bundle(tmp_path_factory.mktemp("replay") / "bundle", tier="quick"))


def classifier(content: bytes) -> OnnxClassifier:
    return OnnxClassifier(content, threads=1, device="cpu")


def test_an_honest_model_moves_nothing(bundle: Bundle) -> None:
    model = classifier(bundle.model)
    check = self_check(model, bundle.outcomes, bundle.images, bundle.predicate)
    assert (check.rows, check.moved, check.passed) == (SELF_CHECK_ROWS, 0, True)
    assert count_apart(model, models.images(50), bundle.predicate) == 0
    check.require()


def test_a_model_that_answers_otherwise_alone_is_found(bundle: Bundle) -> None:
    """In batches it is the honest one to the last bit."""
    model = classifier(models.by_batch().SerializeToString())
    clean = bundle.images["clean"]
    np.testing.assert_array_equal(model.logits(clean), classifier(bundle.model).logits(clean))
    check = self_check(model, bundle.outcomes, bundle.images, bundle.predicate)
    assert check.moved == check.rows == SELF_CHECK_ROWS and not check.passed
    assert check.sentence().startswith(
        "64 of the 64 closest verdicts differ on this host (CPUExecutionProvider), alone"
    )
    assert count_apart(model, models.images(50), bundle.predicate) == 50
    with pytest.raises(HallmarkError, match="an image's answer must depend on that image alone"):
        check.require()


@pytest.mark.parametrize(
    ("change", "moved"),
    [
        (lambda logits: logits + 1e-4, 0),
        (lambda logits: logits + np.eye(10, dtype=np.float32)[logits.argmax(axis=1)] * 3e-3, SELF_CHECK_ROWS),
        (lambda logits: logits * np.float32(np.nan), SELF_CHECK_ROWS),
    ],
)
def test_the_same_verdict_with_other_logits_has_moved_as_well(
    bundle: Bundle, change: Callable[[NDArray[np.float32]], NDArray[np.float32]], moved: int
) -> None:
    """The attested tolerance is 0.001, twice that is rounding."""

    class Changed(OnnxClassifier):
        def logits(self, images: NDArray[np.uint8]) -> NDArray[np.float32]:
            logits = super().logits(images)
            return change(logits) if len(images) == 1 else logits

    model = Changed(bundle.model, threads=1, device="cpu")
    assert self_check(model, bundle.outcomes, bundle.images, bundle.predicate).moved == moved
