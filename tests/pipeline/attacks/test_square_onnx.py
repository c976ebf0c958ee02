"""Square against the exported file finds what ONNX Runtime then answers wrongly."""

from __future__ import annotations

import numpy as np

from bundle.served.replay import judge
from bundle.served.runtime import OnnxClassifier
from bundle.table.threats import Threat
from pipeline.attacks.square_onnx import settings, square_onnx
from tests.bundles import digits, linear_model


def test_bytes_and_classifier_lead_to_the_same_broken_images():
    model = linear_model()[0]
    images, labels = (array[1200:1230] for array in digits())
    threat, index = Threat("linf", 24), np.arange(1200, 1230)
    classifier = OnnxClassifier(model, threads=1, device="cpu")
    found = square_onnx(classifier, images, labels, threat=threat, seed=1, index=index, queries=60)
    again = square_onnx(model, images, labels, threat=threat, seed=1, index=index, queries=60, threads=1)
    assert np.array_equal(found.images, again.images)
    assert np.array_equal(judge(classifier, found.images, labels).predictions != labels, found.broken)
    assert threat.inside(images, found.images).all()
    wrong = judge(classifier, images, labels).predictions != labels
    assert found.broken.sum() > wrong.sum()


def test_settings_say_how_many_queries():
    assert settings(300, 2) | {"queries": 300, "seed": 2} == settings(300, 2)
