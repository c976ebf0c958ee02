"""The ball on the 8-bit grid for every norm, and what a bundle with l2 and l1 threats says and refuses."""

from __future__ import annotations

import re
import shutil
from html import unescape
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from bundle.bundle import Bundle, open_bundle
from bundle.errors import HallmarkError
from bundle.layout import IMAGES
from bundle.pages import figures
from bundle.pages.card import render_card
from bundle.pages.gallery import choose
from bundle.pages.headline import headline, headline_threat
from bundle.pages.report import render_report
from bundle.pages.wording import attackers_power, threat_title
from bundle.table.threats import Norm, Threat
from tests.audit.tampering import rewrite
from tests.bundle.test_verification import npz, refusal
from tests.bundles import make_bundle

L2, L1 = Threat("l2", 0.5), Threat("l1", 2.0)


@pytest.fixture(scope="module")
def master(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """l∞, two radii of l2, and l1; trained in l2."""
    folder = tmp_path_factory.mktemp("norms") / "bundle"
    return make_bundle(folder, eps=(16,), others=(Threat("l2", 0.25), L2, L1), trained=L2)


@pytest.fixture
def folder(master: Path, tmp_path: Path) -> Path:
    return shutil.copytree(master, tmp_path / "bundle")


@pytest.fixture(scope="module")
def bundle(master: Path) -> Bundle:
    return open_bundle(master)


@pytest.mark.parametrize(
    ("threat", "levels", "name", "title"),
    [
        (Threat("linf", 32.0), 32, "linf-32", "l∞ 32/255"),
        (Threat("linf", 7.9), 7, "linf-7.9", "l∞ 7.9/255"),
        (L2, 16256, "l2-0.5", "l2 0.5"),
        (Threat("l2", 3**0.5 / 255), 3, "l2-0.00679236", "l2 0.00679236"),
        (L1, 510, "l1-2", "l1 2"),
        (Threat("l1", 0.1), 25, "l1-0.1", "l1 0.1"),
        (Threat("l1", 0.003), 0, "l1-0.003", "l1 0.003"),
    ],
)
def test_budgets_names_and_records(threat: Threat, levels: int, name: str, title: str) -> None:
    """l2: (0.5 · 255)² = 16256.25; l1: 2 · 255 = 510; √3 levels hold 3 although their float squared is less."""
    record = threat.describe()
    assert (threat.levels, threat.name, threat_title(record)) == (levels, name, title)
    assert ("eps_255" in record) == (threat.norm == "linf") != ("eps" in record)
    assert Threat.of(record) == threat
    assert Threat.of(record).describe() == record


@pytest.mark.parametrize(("norm", "moves"), [("linf", [5, -5]), ("l2", [3, -4]), ("l1", [2, -3])])
def test_the_edge_of_each_ball_is_inside_and_one_level_more_is_not(norm: Norm, moves: list[int]) -> None:
    threat = Threat(norm, 5.0 if norm == "linf" else 5 / 255)
    clean = np.full((3, 2, 2, 1), 100, dtype=np.uint8)
    moved = clean.astype(int)
    moved[1, 0, :, 0] += moves
    moved[2, 0, :, 0] += moves
    moved[2, 0, 0, 0] += 1
    assert threat.inside(clean, moved.astype(np.uint8)).tolist() == [True, True, False]


def test_the_largest_distance_does_not_overflow() -> None:
    clean = np.zeros((1, 200, 200, 3), dtype=np.uint8)
    for threat in (Threat("l2", 300.0), Threat("l1", 900.0)):
        assert not threat.inside(clean, clean + 255).any()


def test_a_scaled_threat_keeps_its_norm() -> None:
    assert L2.scaled(0.5) == Threat("l2", 0.25) and L1.scaled(1) is L1


def test_claims_carry_the_radius_of_their_norm(bundle: Bundle) -> None:
    assert [threat.name for threat in bundle.threats] == ["linf-16", "l2-0.25", "l2-0.5", "l1-2"]
    robust = [claim for claim in bundle.predicate["claims"] if claim["metric"] == "robust_accuracy"]
    radii = {(claim["norm"], claim.get("eps_255"), claim.get("eps")) for claim in robust}
    assert radii - {("union", None, None)} == {
        ("linf", 16, None),
        ("l2", None, 0.25),
        ("l2", None, 0.5),
        ("l1", None, 2.0),
    }
    broken = {claim["threat"]: claim["value"] for claim in robust if claim["attack"] == "margin"}
    assert broken["l2-0.5"] < broken["l2-0.25"], "the attacks of the test bundle do something"


@pytest.mark.parametrize(("name", "room"), [("l2-0.5", 128), ("l1-2", 255)])
def test_a_pixel_too_far_is_refused_by_row(folder: Path, name: str, room: int) -> None:
    """An image with one pixel changed: in l2 by 127 levels of 127.5, in l1 by 255 of 510, and then more."""
    images = dict(open_bundle(folder).images)
    changed = images["clean"].copy()
    flat = changed.reshape(len(changed), -1)
    place = int(np.flatnonzero(flat[7] == 0)[0])
    for levels, others, opens in ((room - 1, 0, True), (room, 3 if name.startswith("l1") else 0, False)):
        flat[7] = images["clean"].reshape(len(changed), -1)[7]
        flat[7, place] = levels
        flat[7, [spot for spot in np.flatnonzero(flat[7] == 0) if spot != place][:others]] = 86
        rewrite(folder, files={IMAGES: npz({**images, f"{name}/margin": changed})})
        if opens:
            open_bundle(folder)
        else:
            assert refusal(folder) == f"{IMAGES}: {name}/margin row 7 lies outside its ball"


def linf_with_eps(predicate: dict[str, Any]) -> None:
    predicate["threats"][0]["eps"] = 1.0


def l2_in_255ths(predicate: dict[str, Any]) -> None:
    predicate["threats"][1]["eps_255"] = predicate["threats"][1].pop("eps")


def larger_budget(predicate: dict[str, Any]) -> None:
    predicate["threats"][2]["levels"] += 1


def other_radius(predicate: dict[str, Any]) -> None:
    predicate["threats"][3]["eps"] = 3.0


def endless(predicate: dict[str, Any]) -> None:
    predicate["threats"][2]["eps"] = 1e300


def other_norm(predicate: dict[str, Any]) -> None:
    predicate["threats"][2]["norm"] = "l0"


@pytest.mark.parametrize(
    ("edit", "sentence"),
    [
        (linf_with_eps, "threats[0]"),
        (l2_in_255ths, "threats[1]"),
        (larger_budget, "threat l2-0.5 is not what its norm and eps say"),
        (other_radius, "threat l1-2 is not what its norm and eps say"),
        (endless, "1e+300 is greater than the maximum"),
        (other_norm, "'l0' is not one of"),
    ],
)
def test_threats_that_contradict_themselves_are_refused(folder: Path, edit: Any, sentence: str) -> None:
    rewrite(folder, predicate=edit)
    assert sentence in refusal(folder)


def test_a_claim_with_another_radius_is_refused(folder: Path) -> None:
    def enlarge(predicate: dict[str, Any]) -> None:
        next(claim for claim in predicate["claims"] if claim.get("threat") == "l2-0.5")["eps"] = 1.0

    rewrite(folder, predicate=enlarge)
    with pytest.raises(HallmarkError, match=r"claim robust_accuracy reference l2-0\.5"):
        open_bundle(folder)


def test_the_headline_is_about_the_norm_and_radius_of_the_training(bundle: Bundle) -> None:
    predicate = dict(bundle.predicate)
    assert headline_threat(predicate)["name"] == "l2-0.5"
    del predicate["mainThreats"]  # a bundle of before is read by what it was trained for
    for trained, name in (
        ({"norm": "l1", "eps": 2.0, "eps_255": None}, "l1-2"),
        ({"norm": "l1", "eps": 0.5}, "l1-2"),  # was not attacked; the next that holds it was
        ({"norm": "linf", "eps_255": 16.0, "eps": None}, "linf-16"),
        ({"eps_255": 16.0}, "linf-16"),
        ({}, "linf-16"),
    ):
        predicate["parameters"] = {**bundle.predicate["parameters"], "threat": trained}
        assert headline_threat(predicate)["name"] == name
    top = headline(bundle.statement)["robust"]
    assert (top["threat"], top["eps"]) == ("l2-0.5", 0.5) and "eps_255" not in top


def words(page: str) -> str:
    return unescape(re.sub("<[^>]+>", "", page)).replace("\u00a0", " ")


def test_the_report_names_each_threat_and_draws_the_headlines_norm_alone(bundle: Bundle) -> None:
    page = render_report(bundle.predicate, bundle.digest, bundle.outcomes, bundle.images)
    shown = words(page)
    for title in ("l∞ 16/255", "l2 0.25", "l2 0.5", "l1 2"):
        assert title in shown
    assert "change pixel values, which run from 0 to 1, by up to 0.5 in l2" in shown
    drawing = page[page.index('id="by-eps') - 200 :].split("</svg>")[0]
    assert "perturbation size ε (l2, pixel range = 1)" in drawing and "ε 0.25, served" in words(drawing) + drawing
    assert "/255" not in drawing and "ε 2" not in drawing and "ε 16" not in drawing


def test_the_figures_unit_follows_the_norm() -> None:
    series = {kind: [(size, figures.accuracy_of(3, 6)) for size in (0.0, 1.5)] for kind in ("reference", "served")}
    assert "ε 1.5/255" in figures.by_eps(series) and "l∞, 255ths" in figures.by_eps(series)
    assert "/255" not in figures.by_eps(series, "l1") and "(l1, pixel range = 1)" in figures.by_eps(series, "l1")


def test_the_gallery_amplifies_by_the_largest_change_that_it_shows(bundle: Bundle) -> None:
    gallery = choose(bundle.predicate, bundle.outcomes, bundle.images)
    rows = [picture.row for picture in [*gallery.broken, *gallery.held]]
    clean = bundle.images["clean"][rows].astype(int)
    largest = max(np.abs(bundle.images[f"l2-0.5/{name}"][rows] - clean).max() for name in ("pgd-10", "margin"))
    assert gallery.threat == "l2 0.5"
    assert gallery.amplification == max(1, 127 // largest)


def test_card_lists_every_ball(bundle: Bundle) -> None:
    text = render_card(bundle.predicate, bundle.digest)
    assert "within l∞ 16/255, l2 0.25, l2 0.5, l1 2;" in text
    assert "Robust accuracy, l2 0.5, all attacks (served, upper bound)" in text


def test_what_an_attacker_may_do_is_said_for_every_norm() -> None:
    assert attackers_power(Threat("linf", 32.0).describe()) == "change every pixel value by up to 32 of 255 levels"
    assert "2 in l1 (the sum of the changes of an image)" in attackers_power(L1.describe())
