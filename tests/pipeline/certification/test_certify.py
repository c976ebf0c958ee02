"""The stage certify: counts of noisy votes to radii, about the smoothed classifier alone."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from scipy.stats import beta, norm
from torch import Tensor, nn

from bundle.table.outcomes import Outcomes, image_digests, load_outcomes
from pipeline import certify
from pipeline.certification import smoothed
from pipeline.certification.radius import NAMES
from pipeline.certification.smoothed import describe, smoothed_columns, smoothed_name
from pipeline.data.split import save_split
from pipeline.networks import build_network
from pipeline.params import CertifySettings, Params
from pipeline.resolve import complete
from pipeline.run.cache import Cache
from tests.pipeline.evaluation.networks import FirstRow, Linear, split

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
    whole = smoothed_columns(FirstRow(), images, np.arange(40), SETTINGS, CPU)
    part = smoothed_columns(FirstRow(), images[[30, 2]], np.array([30, 2]), SETTINGS, CPU)
    for name, values in part.items():
        assert values.tolist() == whole[name][[30, 2]].tolist()
    other = smoothed_columns(FirstRow(), images, np.arange(40), SETTINGS.model_copy(update={"seed": 5}), CPU)
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
    (described,) = describe(SETTINGS)
    assert described["name"] == smoothed_name(0.5) == "smoothed-0.5"
    assert "smoothed classifier" in described["statement"]
    assert (described["sigma"], described["estimation"], described["alpha"]) == (0.5, 200, 0.001)
    assert described.keys().isdisjoint({"earlyEnd", "noiseTrained"})
    assert describe(SETTINGS, trained_with=0.25)[0]["noiseTrained"] == 0.25


def test_the_curve_reaches_the_largest_radius_that_the_samples_can_prove():
    """Radii of the default are 0 to 1; more noise proves larger ones, which the curve must not cut off."""
    (default,) = describe(CertifySettings())
    assert default["radii"] == [round(0.1 * step, 1) for step in range(11)]
    (wide,) = describe(CertifySettings(sigma=1.0))
    largest = norm.ppf(0.001 ** (1 / 1000))
    assert wide["radii"][-2] < largest <= wide["radii"][-1]


def with_settings(**changed: object) -> CertifySettings:
    return SETTINGS.model_copy(update=changed)


def test_several_sigma_are_several_classifiers_each_as_if_alone(tmp_path: Path):
    images, index = split(12).images, np.arange(12)
    both = smoothed_columns(Linear(), images, index, with_settings(sigma=[0.25, 0.5]), CPU, cache=Cache(tmp_path))
    assert len(both) == 6
    for sigma in (0.25, 0.5):
        for name, values in smoothed_columns(Linear(), images, index, with_settings(sigma=sigma), CPU).items():
            assert values.tolist() == both[name].tolist()
    assert (both["smoothed-0.25/successes"] != both["smoothed-0.5/successes"]).any()
    assert [item["name"] for item in describe(with_settings(sigma=[0.25, 0.5]))] == ["smoothed-0.25", "smoothed-0.5"]


def test_ending_early_saves_copies_and_changes_no_radius():
    """Linear's four classes leave many images without a majority at this noise; the record says where they end."""
    seen: list[int] = []

    class Counting(Linear):
        def forward(self, images: Tensor) -> Tensor:
            seen.append(len(images))
            return super().forward(images)

    images, index, given = split(40).images, np.arange(40), {"sigma": 2.0, "estimation": 1000}
    whole = smoothed_columns(Counting(), images, index, with_settings(**given), CPU)
    copies = sum(seen)
    seen.clear()
    ended = smoothed_columns(Counting(), images, index, with_settings(**given, early_end=True), CPU)
    (described,) = describe(with_settings(**given, early_end=True))
    rule = described["earlyEnd"]
    stopped = ended["smoothed-2/successes"] <= rule["successes"]
    assert 5 < stopped.sum() < 40
    assert copies == 40 * 1020 and sum(seen) == copies - stopped.sum() * (1000 - rule["after"])
    assert ended["smoothed-2/radius"].tolist() == whole["smoothed-2/radius"].tolist()
    assert (ended["smoothed-2/successes"] == whole["smoothed-2/successes"])[~stopped].all()


def test_a_killed_call_goes_on_after_its_last_part_and_ends_with_the_same(tmp_path: Path):
    """The network fails in the third of four parts; the second call shows it the last two parts alone."""
    images, index = split(30).images, np.arange(30)
    whole = smoothed_columns(Linear(), images, index, SETTINGS, CPU)
    seen: list[int] = []

    class Failing(Linear):
        stop_after = 2 * 8 * 220

        def forward(self, images: Tensor) -> Tensor:
            if sum(seen) >= Failing.stop_after:
                raise KeyboardInterrupt
            seen.append(len(images))
            return super().forward(images)

    with pytest.raises(KeyboardInterrupt):
        smoothed_columns(Failing(), images, index, SETTINGS, CPU, cache=Cache(tmp_path))
    seen.clear()
    Failing.stop_after = 10**9
    lines: list[str] = []
    resumed = smoothed_columns(Failing(), images, index, SETTINGS, CPU, cache=Cache(tmp_path), say=lines.append)
    assert sum(seen) == (30 - 16) * 220
    assert lines[-1].startswith("smoothed-0.5: 30/30 images, ") and lines[-1].endswith(" 0 s left")
    certified = (whole["smoothed-0.5/radius"] > 0).mean()
    assert f" {certified:.0%} of them with a radius" in lines[-1]
    for name, values in whole.items():
        assert resumed[name].tolist() == values.tolist()


def test_counts_do_not_depend_on_how_many_copies_a_pass_holds(monkeypatch: pytest.MonkeyPatch):
    """But for a tie that convolutions round otherwise in other batches and layouts, which may move one vote of 200."""
    torch.manual_seed(0)
    convolutions = build_network("preact_resnet8", classes=4, channels=1, width=8).eval()
    for network, allowed in ((FirstRow(), 0), (convolutions, 1)):
        found = []
        for copies, pixels, part in ((256, 2**22, 8), (37, 2**22, 3), (256, 160, 8)):
            monkeypatch.setattr(smoothed, "COPIES", {"cpu": copies})
            monkeypatch.setattr(smoothed, "PIXELS", pixels)
            monkeypatch.setattr(smoothed, "PART", part)
            columns = smoothed_columns(network, split(10).images, np.arange(10), SETTINGS, CPU)
            found.append(columns["smoothed-0.5/successes"])
        assert np.ptp(found, axis=0).max() <= allowed


def prepared(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, method: dict[str, Any], tier: str = "quick") -> None:
    """What the stages before leave: data, weights, the attacked rows 2, 5 and 11, and the record of the training."""
    monkeypatch.chdir(tmp_path)
    test = split(20)
    save_split("out/data/test.npz", test)
    rows = np.array([2, 5, 11])
    columns = {"index": rows, "label": test.labels[rows], "image_sha256": image_digests(test.images[rows])}
    Outcomes(columns).save("out/evidence/outcomes.parquet")
    attacked = {
        "tier": tier,
        "threats": [{"name": "linf-8", "norm": "linf", "eps_255": 8.0}],
        "mainThreats": ["linf-8"],
    }
    attacked |= {
        "sample": {"size": 3},
        "attacks": [{"name": "pgd-10", "threat": "linf-8", "flags": []}],
        "settings": {},
    }
    attacked |= {key: [] for key in ("unions", "distances", "sanity")} | dict.fromkeys(("corruptions", "surface"))
    Path("out/evidence/attacks.json").write_text(json.dumps(attacked))
    Path("out/train").mkdir()
    Path("out/train/weights.safetensors").write_bytes(b"of Linear")
    about = {"name": "standard", "title": "No defence", "paper": "", "reconstructed": False}
    trained = {"settings": {"method": method}, "selection": {"split": "validation"}, "environment": {}, "parameters": 1}
    Path("out/train/training.json").write_text(json.dumps({**trained, "method": about}))
    monkeypatch.setattr(certify, "load_network", lambda folder: Linear())


def settings(**given: Any) -> Params:
    return complete({"device": "cpu", "data": {"name": "digits"}, "method": {"name": "standard"}, "certify": given})


def test_the_stage_certifies_the_images_that_were_attacked(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
):
    prepared(tmp_path, monkeypatch, {"name": "standard"})
    test, small = split(20), {"sigma": 0.1, "selection": 10, "estimation": 50}
    certify.main(settings(**small))
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
    said = capsys.readouterr().out
    assert f"certified accuracy {float(curve[1][1]):.1%} at l2 0, " in said and "average" not in said
    metrics = json.loads(Path("out/certified/metrics.json").read_text())
    average = float(np.where(right, table["smoothed-0.1/radius"], 0).mean())
    assert metrics["average_certified_radius"] == pytest.approx(average, abs=1e-9)
    record = json.loads(Path("out/certified/smoothing.json").read_text())
    assert record["smoothing"] == describe(CertifySettings(**small)) and record["settings"]["sigma"] == 0.1
    assert not any(path.is_file() for path in Path("checkpoints").rglob("*"))


def test_the_stage_writes_a_curve_a_sigma_and_the_noise_of_training(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """The first sigma keeps the columns and keys that plots and comparisons read."""
    prepared(tmp_path, monkeypatch, {"name": "gaussian_noise", "sigma": 0.25})
    params = settings(selection=10, estimation=50)
    several = params.certify.model_copy(update={"sigma": [0.1, 0.6]})
    certify.main(params.model_copy(update={"certify": several}))
    record = json.loads(Path("out/certified/smoothing.json").read_text())
    assert [(item["name"], item["noiseTrained"]) for item in record["smoothing"]] == [
        ("smoothed-0.1", 0.25),
        ("smoothed-0.6", 0.25),
    ]
    head, *rows = [line.split(",") for line in Path("out/certified/curve.csv").read_text().splitlines()]
    assert head == ["radius", "certified_accuracy", "lower", "upper", "smoothed-0.6"]
    metrics, table = (
        json.loads(Path("out/certified/metrics.json").read_text()),
        load_outcomes("out/certified/outcomes.parquet"),
    )
    for name, column, numbers in (("smoothed-0.1", 1, metrics), ("smoothed-0.6", 4, metrics["smoothed-0.6"])):
        radii = np.where(table[f"{name}/selected"] == table["label"], table[f"{name}/radius"], 0)
        assert numbers["average_certified_radius"] == pytest.approx(float(radii.mean()), abs=1e-9)
        assert numbers["certified_at_0.1"] == pytest.approx(float((radii >= 0.1).mean()))
        assert float(rows[1][column]) == pytest.approx(float((radii >= 0.1).mean()), abs=1e-6)
    longest = [float(row[0]) for row in rows][-1]
    assert longest >= max(table["smoothed-0.6/radius"]) and (longest == 1.0 or rows[-1][1] == "")


@pytest.mark.parametrize(
    ("tier", "given", "technique"),
    [("standard", None, "crown-forward"), ("thorough", None, "crown"), ("thorough", "ibp", "ibp")],
)
def test_the_tier_of_the_attacks_chooses_the_proof_that_is_left_open(
    tier: str, given: str | None, technique: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    prepared(tmp_path, monkeypatch, {"name": "standard"}, tier)
    monkeypatch.setattr(certify, "load_network", lambda folder: nn.Sequential(nn.Flatten(), nn.Linear(16, 4)).eval())
    certify.main(settings(selection=10, estimation=50, proof=given))
    record = json.loads(Path("out/certified/smoothing.json").read_text())
    assert record["settings"]["proof"] == technique
    assert [item["technique"] for item in record["proofs"]] == [NAMES[technique]]
