"""The page: what it shows, and that a strict policy covers it."""

from __future__ import annotations

import io
import re
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image
from starlette.testclient import TestClient

from bundle.bundle import open_bundle
from bundle.numbers.claims import find_claim
from bundle.pages.figures import say
from bundle.pages.wording import INSTALL
from serving.output.page import ASSETS, history_figures
from serving.served import Served


def test_the_page_shows_sections_versions_and_routes(client: TestClient, served: Served) -> None:
    page = client.get("/").text
    for found in ("Try an image", "In short", "Versions at hand", "Ask it yourself", served.version, "refused"):
        assert found in page


def test_what_an_auditor_installs_stands_before_what_it_is_for(client: TestClient) -> None:
    asked = client.get("/").text.split('id="routes-code">')[1].split("</pre>")[0]
    order = [asked.index(part) for part in (INSTALL, "hallmark live ADDRESS ", "hallmark verify BUNDLE ")]
    assert order == sorted(order)


def test_numbers_and_the_trial_stand_before_the_definitions(client: TestClient, served: Served) -> None:
    page = client.get("/").text
    first = find_claim(served.statement["predicate"], "clean_accuracy", setting="served")
    assert first is not None
    order = [f"<b>{100 * first['value']:.1f}\u00a0%</b>", "Try an image</h2>", "In short</h2>", "<dt>Robust</dt>"]
    places = [page.index(part) for part in order]
    assert places == sorted(places)


def test_the_page_says_that_no_attack_runs_live_and_where_the_nearest_evidence_is(client: TestClient) -> None:
    page = client.get("/").text
    assert "no attack runs on your image" in page
    assert '<a href="#explorer">image by image</a>' in page and 'id="explorer"' in page


def test_the_numbers_over_the_versions_are_drawn(client: TestClient, folders: Path) -> None:
    """One release verifies and one does not; the bundle that answers comes last."""
    page = client.get("/").text
    described = dict(re.findall(r'<desc id="history-(\w+)-desc">([^<]*)</desc>', page))
    assert set(described) == {"clean", "robust", "certified"}
    for name, folder in (("sound", "releases/sound"), ("here", "bundle")):
        claim = find_claim(open_bundle(folders / folder).predicate, "clean_accuracy", setting="served")
        assert claim is not None
        assert f"{name}, served: {say(claim)}" in described["clean"]
    assert "tampered" not in described["clean"]
    assert described["robust"].index("sound") < described["robust"].index("here")


def entry(folder: str, attestation: str, *, served: bool = False) -> dict[str, Any]:
    share = {"value": 0.5, "correct": 1, "sampleSize": 2, "interval": (0.0, 1.0)}
    both = {"reference": share, "served": share}
    robust = {"threat": "l2-1", "eps": 1.0, **both}
    headline = {"data": "digits", "tier": "quick", "clean": both, "robust": robust, "certified": None}
    return {
        "folder": folder,
        "served": served,
        "verified": True,
        "attestation_sha256": attestation,
        "headline": headline,
    }


def test_releases_are_in_the_order_of_their_numbers_and_none_stands_twice() -> None:
    clean, robust = history_figures(
        [entry("bundle", "b", served=True), entry("v1", "a"), entry("v10", "c"), entry("v2", "b")]
    )
    assert re.findall(r"(\w+), reference:", clean.split("<desc")[1].split("</desc>")[0]) == ["v1", "v2", "v10"]
    assert "(l2 1)" in robust


def test_one_version_alone_has_no_history() -> None:
    refused = {"folder": "x", "served": False, "verified": False, "refusal": "x"}
    assert history_figures([entry("bundle", "b", served=True), refused]) == []


def test_the_page_keeps_its_own_policy(client: TestClient) -> None:
    """No inline script or style, nothing from outside: the policy would block it without a word."""
    response = client.get("/")
    policy = response.headers["content-security-policy"]
    assert "default-src 'none'" in policy and "unsafe" not in policy
    page = response.text
    assert not re.search(r"<style|style=|<script>|\son\w+=|https?://(?!127)", re.sub(r'xmlns="[^"]*"', "", page))


def test_everything_the_page_loads_is_there(client: TestClient) -> None:
    page = client.get("/").text
    loaded = re.findall(r'(?:href|src)="((?:static|samples|evidence|versions|openapi)[^"]*)"', page)
    assert {f"static/{name}" for name in ASSETS} <= set(loaded)
    for path in loaded:
        assert client.get("/" + path).status_code == 200, path
    assert client.get("/static/page.html").status_code == 404
    assert client.get("/samples/10.png").status_code == 404


def test_samples_are_clean_images_of_the_evidence_pixel_for_pixel(client: TestClient, folders: Path) -> None:
    bundle = open_bundle(folders / "bundle")
    for label in range(10):
        row = int(np.flatnonzero(bundle.outcomes["label"] == label)[0])
        sample = Image.open(io.BytesIO(client.get(f"/samples/{label}.png").content))
        np.testing.assert_array_equal(np.asarray(sample), bundle.images["clean"][row, ..., 0])


def test_the_report_of_the_evidence_may_run_nothing(client: TestClient) -> None:
    policy = client.get("/evidence/report.html").headers["content-security-policy"]
    assert "sandbox" in policy and "script-src" not in policy and "default-src 'none'" in policy
