"""`import hallmark`: what it exports, how its objects look, and one line that evaluates a network."""

from __future__ import annotations

import json
import subprocess
import sys
import types
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

import hallmark
from tests.bundles import make_bundle
from tests.imports import ROOT


class Threshold(nn.Module):
    """Two classes: whether the mean of an image is above one half, by a margin that is known."""

    def __init__(self) -> None:
        super().__init__()
        self.scale = nn.Parameter(torch.tensor(10.0))

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        mean = images.mean(dim=(1, 2, 3)) - 0.5
        return torch.stack([-mean, mean], 1) * self.scale


#: How far the mean is from one half: an l-infinity ball of that radius turns the answer, and no smaller one.
DISTANCES = np.array([0.02, 0.05, 0.10, 0.20])
IMAGES = torch.full((4, 1, 4, 4), 0.5) + torch.tensor(DISTANCES, dtype=torch.float32).view(-1, 1, 1, 1)
LABELS = torch.ones(4, dtype=torch.int64)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_bundle(tmp_path_factory.mktemp("face") / "out" / "bundle", eps=(32,))


@pytest.mark.parametrize(("eps_255", "right"), [(4, 4), (8, 3), (20, 2), (40, 1), (60, 0)])
def test_robust_accuracy_is_what_is_known(eps_255: float, right: int) -> None:
    model = Threshold().train()
    found = hallmark.evaluate(model, IMAGES, LABELS, eps_255=eps_255)
    assert (found.clean.correct, found.robust.correct, found.robust.of) == (4, right, 4)
    assert found.attacks.keys() == {"noise", "pgd-10", "pgd-20", "pgd-50", "margin"} and found.flags == []
    broken = found.outcomes[f"reference/linf-{eps_255}/margin/broken"]
    assert broken.tolist() == (eps_255 / 255 > DISTANCES).tolist()
    assert model.training and model.scale.grad is None


def test_bytes_and_floats_are_the_same_images() -> None:
    pixels = (IMAGES.permute(0, 2, 3, 1) * 255).round().to(torch.uint8)
    found = [
        hallmark.evaluate(Threshold(), given, LABELS, 20)
        for given in (pixels.numpy(), pixels.permute(0, 3, 1, 2) / 255)
    ]
    margins = [item.outcomes["reference/linf-20/margin/margin"] for item in found]
    assert np.array_equal(*margins)


def test_a_proportion_has_its_interval() -> None:
    share = hallmark.Proportion(5, 10)
    assert float(share) == 0.5 and repr(share) == "50.0 % [18.7, 81.3] 5/10"


@pytest.mark.parametrize(
    ("changes", "sentence"),
    [
        ({"eps_255": 0}, "eps_255: must be above 0 and below 255, got 0"),
        ({"tier": "slow"}, "tier: must be one of quick, standard, thorough, got 'slow'"),
        ({"batch_size": 0}, "batch_size: must be at least 1"),
        ({"images": IMAGES - 0.6}, r"images: must be uint8 .* in \[0, 1\], without normalisation"),
        ({"images": IMAGES[0]}, "images: must have four axes"),
        ({"images": IMAGES.permute(0, 2, 3, 1)}, "images: must have 1 or 3 channels"),
        ({"labels": LABELS[:3]}, "as many, and at least one, got 4 and 3"),
        ({"labels": LABELS + 1}, "labels: must be 0 to 1, got 2 to 2"),
        ({"labels": LABELS.float()}, "labels: must be whole numbers"),
        ({"model": nn.Sequential(Threshold(), nn.Softmax(1))}, "probabilities"),
        ({"model": nn.Identity()}, "network: "),
    ],
)
def test_what_cannot_be_evaluated_is_one_sentence(changes: dict[str, Any], sentence: str) -> None:
    given: dict[str, Any] = {"model": Threshold(), "images": IMAGES, "labels": LABELS} | changes
    with pytest.raises(hallmark.HallmarkError, match=sentence):
        hallmark.evaluate(**given)


def test_objects_are_shown_by_their_numbers(folder: Path) -> None:
    bundle = hallmark.open_bundle(folder)
    version = bundle.version
    assert repr(bundle) == f"Bundle({version}, digits, D²R-CAG: clean 96.7 %, robust 45.0 % at linf-32, served)"
    assert repr(hallmark.verify(folder)).startswith(f"Verification(consistent but unsigned; {version}, ")
    assert repr(bundle.outcomes).startswith("Outcomes(60 images, ")
    assert repr(hallmark.Client("http://127.0.0.1:1")) == "Client(http://127.0.0.1:1, model not asked yet)"
    found = hallmark.evaluate(Threshold(), IMAGES, LABELS, 20)
    assert repr(found) == "Measurement(linf-20, quick: clean 100.0 % [39.8, 100.0] 4/4, robust 50.0 % [6.8, 93.2] 2/4)"
    for item in (bundle, hallmark.verify(folder), found):
        html = item._repr_html_()
        assert "<table>" in html and "robust" in html and len(html) < 2000
    assert "45.0 % [32.1, 58.4]" in bundle._repr_html_()


@pytest.mark.parametrize("reliable", [True, False])
def test_a_notebook_is_told_of_a_failed_check_alone(folder: Path, reliable: bool) -> None:
    from bundle.pages.notebook import headline_html, headline_line

    statement = json.loads((folder / "attestation.json").read_text(encoding="utf-8"))
    statement["predicate"]["reliable"] = reliable
    assert [("UNRELIABLE" in said(statement)) for said in (headline_html, headline_line)] == [not reliable] * 2


def test_a_name_cannot_write_html(folder: Path) -> None:
    from bundle.pages.notebook import headline_html

    statement = json.loads((folder / "attestation.json").read_text(encoding="utf-8"))
    statement["predicate"]["method"]["title"] = "<script>alert(1)</script>"
    assert "<script>" not in headline_html(statement)


def test_rows_become_a_data_frame(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    outcomes = hallmark.open_bundle(folder).outcomes
    monkeypatch.setitem(sys.modules, "pandas", None)
    with pytest.raises(hallmark.HallmarkError, match="pip install pandas"):
        outcomes.to_pandas()
    frames = types.SimpleNamespace(DataFrame=lambda columns: {name: len(values) for name, values in columns.items()})
    monkeypatch.setitem(sys.modules, "pandas", frames)
    found = outcomes.to_pandas()
    assert found["label"] == 60 and set(found) == set(outcomes.columns)


def test_its_names_are_there_and_said() -> None:
    assert [name for name in hallmark.__all__ if not getattr(hallmark, name).__doc__] == []
    assert hallmark.__version__ == "0.1.0"


def test_an_auditor_needs_no_torch() -> None:
    code = "import sys; sys.modules['torch'] = None; import hallmark; hallmark.evaluate(None, [], [])"
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=False)
    assert "pip install 'hallmark-robustness[pipeline]'" in done.stderr


def test_the_notebook_runs_as_it_stands(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(folder.parent.parent)
    notebook = json.loads((ROOT / "docs" / "first-steps.ipynb").read_text(encoding="utf-8"))
    names: dict[str, Any] = {}
    for cell in notebook["cells"]:
        if cell["cell_type"] == "code":
            assert cell["outputs"] == [] and cell["execution_count"] is None
            exec("".join(cell["source"]), names)
    assert names["found"].clean.value > 0.8 > names["found"].robust.value
