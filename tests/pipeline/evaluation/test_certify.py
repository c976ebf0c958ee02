"""The stage certify: counts of noisy votes to radii, about the smoothed classifier alone."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from scipy.stats import beta, norm
from torch import Tensor, nn

from bundle.outcomes import Outcomes, load_outcomes
from pipeline import certify
from pipeline.data.split import save_split
from pipeline.evaluation.smoothed import describe, smoothed_columns, smoothed_name
from pipeline.params import CertifySettings, complete
from tests.pipeline.evaluation.networks import Linear, split

CPU = torch.device("cpu")
SETTINGS = CertifySettings(sigma=0.5, selection=20, estimation=200, seed=4)
ROWS = np.array([3, 7, 1, 40])


class Always(nn.Module):
    """Answers class 2, whatever it is shown."""

    def forward(self, images: Tensor) -> Tensor:
        return torch.eye(4)[2].expand(len(images), 4)


def test_a_network_that_always_answers_alike_gets_the_largest_radius():
    """200 of 200: the Clopper-Pearson lower bound is alpha^(1/200), the radius sigma times its normal quantile."""
    columns = smoothed_columns(Always(), split(4).images, ROWS, SETTINGS, CPU)
    assert columns["smoothed-0.5/selected"].tolist() == [2] * 4
    assert columns["smoothed-0.5/successes"].tolist() == [200] * 4
    expected = 0.5 * norm.ppf(0.001 ** (1 / 200))
    np.testing.assert_allclose(columns["smoothed-0.5/radius"], expected, rtol=1e-9)


def test_radii_follow_from_the_counts():
    columns = smoothed_columns(Linear(), split(40).images, np.arange(40), SETTINGS, CPU)
    counts = columns["smoothed-0.5/successes"]
    lower = beta.ppf(0.001, counts, 200 - counts + 1)
    expected = np.where(lower > 0.5, 0.5 * norm.ppf(np.maximum(lower, 0.5)), 0.0)
    np.testing.assert_allclose(columns["smoothed-0.5/radius"], expected, rtol=1e-7, atol=1e-12)
    assert 0 < (columns["smoothed-0.5/radius"] > 0).sum() < 40


def test_noise_belongs_to_the_image_and_the_seed():
    """The same image has the same counts in another order; another seed draws other noise."""
    images = split(40).images
    whole = smoothed_columns(Linear(), images, np.arange(40), SETTINGS, CPU)
    part = smoothed_columns(Linear(), images[[30, 2]], np.array([30, 2]), SETTINGS, CPU)
    for name, values in part.items():
        assert values.tolist() == whole[name][[30, 2]].tolist()
    other = smoothed_columns(Linear(), images, np.arange(40), SETTINGS.model_copy(update={"seed": 5}), CPU)
    assert (other["smoothed-0.5/successes"] != whole["smoothed-0.5/successes"]).any()


def test_noise_is_gaussian_unclipped_and_in_the_pixel_range():
    """The network sees float32 images with noise of the stated deviation, which leave [0, 1]."""
    seen: list[Tensor] = []

    class Recording(Always):
        def forward(self, images: Tensor) -> Tensor:
            seen.append(images.clone())
            return super().forward(images)

    grey = np.full((1, 4, 4, 1), 128, dtype=np.uint8)
    smoothed_columns(Recording(), grey, np.array([0]), SETTINGS, CPU)
    noise = torch.cat(seen) - 128 / 255
    assert noise.dtype == torch.float32 and len(noise) == 220
    assert noise.std().item() == pytest.approx(0.5, rel=0.05) and abs(noise.mean().item()) < 0.05
    assert torch.cat(seen).min() < 0 and torch.cat(seen).max() > 1


def test_the_name_and_the_statement_say_whose_certificate_it_is():
    described = describe(SETTINGS)
    assert described["name"] == smoothed_name(SETTINGS) == "smoothed-0.5"
    assert "smoothed classifier" in described["statement"]
    assert (described["sigma"], described["estimation"], described["alpha"]) == (0.5, 200, 0.001)


def test_the_stage_certifies_the_images_that_were_attacked(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.chdir(tmp_path)
    test = split(20)
    save_split("out/data/test.npz", test)
    Outcomes({"index": np.array([2, 5, 11]), "label": test.labels[[2, 5, 11]]}).save("out/evidence/outcomes.parquet")
    monkeypatch.setattr(certify, "load_network", lambda folder: Linear())
    small = {"sigma": 0.1, "selection": 10, "estimation": 50}
    certify.main(
        complete({"device": "cpu", "data": {"name": "digits"}, "method": {"name": "standard"}, "certify": small})
    )
    table = load_outcomes("out/certified/outcomes.parquet")
    assert table["index"].tolist() == [2, 5, 11] and table["label"].tolist() == test.labels[[2, 5, 11]].tolist()
    expected = smoothed_columns(Linear(), test.images[[2, 5, 11]], np.array([2, 5, 11]), CertifySettings(**small), CPU)
    assert table["smoothed-0.1/successes"].tolist() == expected["smoothed-0.1/successes"].tolist()
    curve = [line.split(",") for line in Path("out/certified/curve.csv").read_text().splitlines()]
    right = table["smoothed-0.1/selected"] == table["label"]
    for radius, value, lower, upper in curve[1:]:
        share = float(
            (right & (table["smoothed-0.1/radius"] >= float(radius)) & (table["smoothed-0.1/radius"] > 0)).mean()
        )
        assert float(value) == pytest.approx(share, abs=1e-6)
        assert float(lower) <= float(value) <= float(upper)
    metrics = json.loads(Path("out/certified/metrics.json").read_text())
    average = float(np.where(right, table["smoothed-0.1/radius"], 0).mean())
    assert metrics["average_certified_radius"] == pytest.approx(average, abs=1e-9)
