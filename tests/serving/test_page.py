"""The page: what it shows, and that a strict policy covers it."""

from __future__ import annotations

import io
import re
from pathlib import Path

import numpy as np
from PIL import Image
from starlette.testclient import TestClient

from bundle.bundle import open_bundle
from serving.page import ASSETS
from serving.served import Served


def test_the_page_shows_sections_versions_and_routes(client: TestClient, served: Served) -> None:
    page = client.get("/").text
    for found in ("Try an image", "In short", "Versions at hand", "Ask it yourself", served.version, "refused"):
        assert found in page


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
