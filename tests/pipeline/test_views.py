"""What DVC shows: few metrics, plots of columns that are there, and a page that draws them without a network."""

from __future__ import annotations

import re
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
import yaml
from dvc_render.html import render_html
from dvc_render.vega import VegaRenderer

from bundle.bundle import Bundle, open_bundle
from bundle.pages.headline import headline_threat, robust_claim
from bundle.pages.metrics import metrics, metrics_in_full
from pipeline.run.views import plot_files
from tests.bundles import make_bundle
from tests.serving.browser import CHROMIUM, Tab, running_browser

ROOT = Path(__file__).parents[2]
PIPELINE: dict[str, Any] = yaml.safe_load((ROOT / "dvc.yaml").read_text())
PAGE = ROOT / ".dvc" / "plots" / "page.html"


@pytest.fixture(scope="module")
def bundle(tmp_path_factory: pytest.TempPathFactory) -> Bundle:
    return open_bundle(make_bundle(tmp_path_factory.mktemp("views") / "bundle", rows=30))


def table(content: bytes) -> list[dict[str, str]]:
    head, *rows = [line.split(",") for line in content.decode().splitlines()]
    return [dict(zip(head, row, strict=True)) for row in rows]


def test_one_file_has_the_metrics_and_at_most_eight(bundle: Bundle) -> None:
    named = [name for stage in PIPELINE["stages"].values() for item in stage.get("metrics", []) for name in item]
    found = metrics(bundle.statement)
    assert named == ["out/metrics.json"] and 6 <= len(found) <= 8
    threat = headline_threat(bundle.predicate)["name"]
    assert found["robust"] == robust_claim(bundle.predicate, "served", threat)["value"]
    assert list(found)[:2] == ["clean", "robust"]


def test_every_share_has_the_ends_of_its_interval(bundle: Bundle) -> None:
    found, claim = metrics_in_full(bundle.statement), robust_claim(bundle.predicate, "reference", "linf-32")
    assert metrics(bundle.statement).items() <= found.items()
    assert [found[f"robust_reference_{end}"] for end in ("lower", "upper")] == claim["interval"]
    assert found["clean_lower"] < found["clean"] < found["clean_upper"]


def test_what_was_not_measured_is_no_metric(bundle: Bundle) -> None:
    predicate = {**bundle.predicate, "brackets": [], "smoothing": [], "selection": {"rule": "x", "split": "unknown"}}
    left = metrics({**bundle.statement, "predicate": predicate})
    assert list(left) == ["clean", "robust", "clean_reference", "robust_reference", "flags"]
    assert plot_files(predicate)["training.csv"] == b"epoch,loss,clean,pgd_10\n"


def test_every_plot_is_of_columns_that_its_file_has(bundle: Bundle) -> None:
    files = {f"out/plots/{name}": content.decode() for name, content in plot_files(bundle.predicate).items()}
    outs = [
        name for item in PIPELINE["stages"]["attest"]["outs"] for name in ([item] if isinstance(item, str) else item)
    ]
    assert {*files} <= {*outs}
    files["out/certified/curve.csv"] = "radius,certified_accuracy,lower,upper\n"
    for plot in PIPELINE["plots"]:
        for about in plot.values():
            for name, fields in about["y"].items():
                columns = files[name].partition("\n")[0].split(",")
                assert {about["x"], *([fields] if isinstance(fields, str) else fields)} <= {*columns}
    assert "loss" in next(about["y"]["out/plots/training.csv"] for about in PIPELINE["plots"][0].values())


def test_bars_have_labels_of_their_own_and_radii_rise(bundle: Bundle) -> None:
    files = plot_files(bundle.predicate)
    labels = [row["attack"] for row in table(files["robust_accuracy.csv"])]
    assert labels[0] == "clean" and labels[-1] == "all attacks" and len(set(labels)) == len(labels)
    radii = [float(row["radius"]) for row in table(files["by_radius.csv"])]
    assert radii[0] == 0 and radii == sorted(set(radii)) and len(radii) > 1


@pytest.mark.skipif(CHROMIUM is None, reason="there is no Chromium on the PATH")
def test_the_page_draws_dvcs_templates_by_itself(tmp_path: Path) -> None:
    """Two revisions as lines, two as bars; nothing is asked of a network, and no label lies on another."""
    lines = [
        {"epoch": str(epoch), "loss": str(3 / epoch), "rev": rev} for rev in ("main", "other") for epoch in range(1, 6)
    ]
    bars = [
        {"attack": f"attack {place}", "share": "0.5", "rev": rev} for rev in ("main", "other") for place in range(9)
    ]
    drawn = [
        VegaRenderer(lines, "lines", x="epoch", y="loss", template="linear", title="Loss"),
        VegaRenderer(bars, "bars", x="share", y="attack", template="bar_horizontal", title="Attacks"),
    ]
    path = Path(render_html(drawn, tmp_path / "page.html", PAGE))
    assert not re.search(r'(src|href)="http', path.read_text())
    with running_browser(tmp_path / "profile") as browser:
        tab = Tab(browser, 390)
        tab.open(path.as_uri())
        assert tab.evaluate("[...document.querySelectorAll('h2')].map((item) => item.textContent)") == [
            "Loss",
            "Attacks",
        ]
        assert tab.evaluate("document.querySelectorAll('path.line').length") == 2
        assert tab.evaluate("document.querySelectorAll('rect').length") == 18
        boxes = tab.evaluate(
            "[...document.querySelectorAll('text.label')].map((item) => [item.getBoundingClientRect().top, "
            "item.getBoundingClientRect().bottom])"
        )
        assert all(before[1] <= after[0] + 1 for before, after in pairwise(boxes))
        assert [request["request"]["url"] for request in tab.events("Network.requestWillBeSent")] == [path.as_uri()]
