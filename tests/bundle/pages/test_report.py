"""The report: every number, every warning, nothing from outside, the same bytes each time."""

import base64
import copy
import io
import re
import tomllib
from dataclasses import replace
from html import unescape
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from bundle.bundle import Bundle, open_bundle
from bundle.pages.card import render_card
from bundle.pages.gallery import choose, closest_attacks
from bundle.pages.report import STYLE, render_report, render_sections
from bundle.pages.wording import INSTALL, interval, number, percent
from bundle.table.outcomes import Outcomes
from tests.bundles import make_bundle

ROOT = Path(__file__).resolve().parents[3]
FAILED = {"passed": False, "outcome": "fail"}
VOID = {"meta", "img", "br", "line", "rect", "path"}


@pytest.fixture(scope="module")
def bundle(tmp_path_factory: pytest.TempPathFactory) -> Bundle:
    return open_bundle(make_bundle(tmp_path_factory.mktemp("bundle")))


def report(bundle: Bundle, **changes: Any) -> str:
    return render_report({**bundle.predicate, **changes}, bundle.digest, bundle.outcomes, bundle.images)


class Outline(HTMLParser):
    """Headings in order, ids, and every address that the page names."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.levels: list[int] = []
        self.ids: list[str] = []
        self.addresses: list[str] = []
        self.unnamed: list[str] = []
        self.open: list[str] = []
        self.feed(page)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        named = dict(attrs)
        if re.fullmatch("h[1-6]", tag):
            self.levels.append(int(tag[1]))
        if tag == "img" and not named.get("alt"):
            self.unnamed.append(tag)
        self.ids += [value for name, value in attrs if name == "id" and value]
        self.addresses += [value or "" for name, value in attrs if name in ("src", "href", "srcset", "data", "action")]
        if tag not in VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        """Closed at once."""

    def handle_endtag(self, tag: str) -> None:
        if tag not in VOID:
            assert self.open.pop() == tag


def words(page: str) -> str:
    """The page's text without markup, with plain spaces."""
    return re.sub(r"\s+", " ", unescape(re.sub(r"<[^>]+>", " ", page)).replace("\u00a0", " "))


def test_packages_are_a_number_here_and_a_list_in_the_bom(bundle: Bundle) -> None:
    text = words(report(bundle))
    assert "2 packages, listed in mlbom.cdx.json" in text and "15.0.0" not in text


def test_what_an_auditor_installs_stands_before_what_it_is_for(bundle: Bundle) -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    assert f"pip install {project['name']}=={project['version']}" == INSTALL
    for page in (report(bundle), render_card(bundle.predicate, bundle.digest)):
        assert re.search(rf"{re.escape(INSTALL)} .*\nhallmark verify BUNDLE ", page)


def test_two_renders_are_the_same_bytes(bundle: Bundle) -> None:
    assert report(bundle) == report(bundle)


def test_every_claim_and_bound_is_shown(bundle: Bundle) -> None:
    shown = words(report(bundle))
    for claim in [*bundle.predicate["claims"], *bundle.predicate["bounds"]]:
        if claim["metric"] == "average_certified_radius":
            assert number(claim["value"]) in shown
        else:
            assert f"{percent(claim['value'])} {claim['correct']}/{claim['sampleSize']} {interval(claim)}" in shown


def test_shares_have_one_decimal() -> None:
    assert percent(174 / 200) == "87.0 %" and interval({"interval": [0.8154, 0.9134]}) == "81.5 to 91.3 %"


def test_nothing_comes_from_outside(bundle: Bundle) -> None:
    page = report(bundle)
    assert all(address.startswith(("data:image/png;base64,", "#")) for address in Outline(page).addresses)
    assert "<script" not in page and "@import" not in page and "url(" not in page
    assert not re.search(r"https?://(?!www\.w3\.org/2000/svg)", page)


def test_page_is_well_nested_with_headings_in_order_and_images_described(bundle: Bundle) -> None:
    outline = Outline(report(bundle))
    assert outline.open == []
    assert outline.levels[0] == 1 and outline.levels.count(1) == 1
    assert all(after - before <= 1 for before, after in zip(outline.levels, outline.levels[1:], strict=False))
    assert len(outline.ids) == len(set(outline.ids))
    assert outline.unnamed == []


def test_sections_are_part_of_the_page_and_need_no_inline_style(bundle: Bundle) -> None:
    """The service shows them under its own header, behind a policy that may forbid inline styles."""
    sections = render_sections(bundle.predicate, bundle.digest, bundle.outcomes, bundle.images)
    assert sections in report(bundle)
    assert "style=" not in sections and "<h1" not in sections
    assert STYLE in report(bundle)


def test_a_clean_evaluation_has_no_warning(bundle: Bundle) -> None:
    assert "Read this first" not in report(bundle)


def test_failed_sanity_check_is_on_top(bundle: Bundle) -> None:
    failed = {**bundle.predicate["sanity"][0], "check": "more_steps", "statistic": 0.31} | FAILED
    shown = words(report(bundle, sanity=[failed], reliable=False))
    assert "Sanity check more_steps failed" in shown and "measured 0.31, it fails above 0.1" in shown
    assert shown.index("Unreliable A sanity check failed") < shown.index("In short Of") < shown.index("tier unreliable")


def test_a_warning_of_a_check_is_no_failure(bundle: Bundle) -> None:
    """It is said first too, after what failed, and the numbers are not called unreliable."""
    warned = {**bundle.predicate["sanity"][0], "check": "gap", "outcome": "warn", "statistic": 0.2, "threat": "linf-32"}
    shown = words(report(bundle, sanity=[warned]))
    assert "Sanity check gap at l∞ 32/255 gives a warning" in shown and "Unreliable" not in shown
    assert shown.index("Read this first") < shown.index("In short Of")
    failed = {**bundle.predicate["sanity"][0], "check": "planted"} | FAILED
    shown = words(report(bundle, sanity=[warned, failed], reliable=False))
    assert shown.index("check planted failed") < shown.index("check gap at")


def test_flags_are_on_top_and_in_the_table(bundle: Bundle) -> None:
    attacks = copy.deepcopy(bundle.predicate["attacks"])
    attacks[1]["flags"] = ["zero gradients on 3 images"]
    shown = words(report(bundle, attacks=attacks))
    assert shown.count("zero gradients on 3 images") == 2
    assert "margin attack at l∞ 16/255 raised a flag: zero gradients" in shown


@pytest.mark.parametrize(
    ("changes", "warning"),
    [
        ({"sanity": []}, "No sanity check was run"),
        (
            {"parity": {"largestLogitDifference": 0.5, "tolerance": 0.001, "disagreements": 2, "images": 9}},
            "answer differently on 2 of 9 images",
        ),
    ],
)
def test_other_reasons_for_a_warning(bundle: Bundle, changes: dict[str, Any], warning: str) -> None:
    assert warning in words(report(bundle, **changes))


def test_missing_judges_are_a_warning(bundle: Bundle) -> None:
    """Without AutoAttack and without the margin attack a robust accuracy says little."""
    weak = [attack for attack in bundle.predicate["attacks"] if attack["name"] == "pgd-10"]
    claims = [claim for claim in bundle.predicate["claims"] if claim.get("attack") != "margin"]
    assert "Neither AutoAttack nor the margin attack was run" in words(report(bundle, attacks=weak, claims=claims))


def test_hostile_names_are_text(bundle: Bundle) -> None:
    hostile = "<script>alert(1)</script>"
    data = {**bundle.predicate["data"], "classes": [hostile] * 10, "name": '"><img src=x>'}
    page = report(bundle, data=data, notTested=[hostile])
    assert "<script" not in page and "<img src=x" not in page
    assert "&lt;script&gt;" in page


def test_reconstruction_is_said(bundle: Bundle) -> None:
    method = {**bundle.predicate["method"], "reconstructed": True}
    assert "Reconstructed method" in report(bundle, method=method)
    assert "Reconstructed method" not in report(bundle)


def test_additional_training_images_are_said(bundle: Bundle) -> None:
    extra = {"file_sha256": "ab" * 32, "images": 1200, "per_class": [120] * 10, "share": 0.25}
    data = {**bundle.predicate["data"], "extra": extra}
    said = "1,200 additional training images, 25% of every batch (SHA-256 abababababab)"
    assert said in words(report(bundle, data=data)) and "additional training images" not in report(bundle)
    card = render_card({**bundle.predicate, "data": data}, bundle.digest)
    assert said in card


def test_leaks_of_the_data_are_said(bundle: Bundle) -> None:
    """In the report and in the card; what a bundle of before did not count is not called none."""
    data = bundle.predicate["data"]
    leakage = {
        **data["leakage"],
        "test_images_also_in_train": 7,
        "two_labels": {"train": 2, "validation": 1, "test": 0},
    }
    said = "test images that are also in train: 7, that look like one there: 0, images whose picture has two labels: 3"
    for changed, sentence in (
        ({**data, "leakage": leakage}, said),
        ({**data, "leakage": {"test_images_also_in_train": 4}}, "in train: 4, that look like one there: not counted"),
        ({name: value for name, value in data.items() if name != "leakage"}, "also in train: not counted"),
    ):
        assert sentence in words(report(bundle, data=changed))
        assert sentence in render_card({**bundle.predicate, "data": changed}, bundle.digest)


def test_words_are_explained_and_bounds_are_kept_apart(bundle: Bundle) -> None:
    shown = words(report(bundle))
    for phrase in ("upper bound", "another classifier", "a stronger attack can only lower", "not cover the attacks"):
        assert phrase in shown
    for item in bundle.predicate["notTested"]:
        assert item in shown


def test_nothing_certified_still_renders(bundle: Bundle) -> None:
    shown = words(report(bundle, smoothing=[], bounds=[]))
    assert "Nothing was certified" in shown and "Bounds of the smoothed classifier" not in shown


def test_attack_that_was_not_run_for_a_threat_says_so(bundle: Bundle) -> None:
    def elsewhere(item: Any) -> bool:
        return item.get("threat") == "linf-16" and item.get("attack", item.get("name")) == "margin"

    attacks = [item for item in bundle.predicate["attacks"] if not elsewhere(item)]
    claims = [item for item in bundle.predicate["claims"] if not elsewhere(item)]
    assert words(report(bundle, attacks=attacks, claims=claims)).count("not run") == 2


def test_headline_is_about_the_threat_of_the_training(bundle: Bundle) -> None:
    """The bundle lists 16 first but was trained at 32."""
    claim = next(
        claim
        for claim in bundle.predicate["claims"]
        if claim.get("attack") == "all" and claim["setting"] == "served" and claim["eps_255"] == 32
    )
    assert f"l∞ 32/255, all attacks, served: {claim['correct']} of {claim['sampleSize']}" in words(report(bundle))


def entry(bundle: Bundle, kind: str, **keys: Any) -> dict[str, Any]:
    return next(item for item in bundle.predicate[kind] if all(item.get(key) == value for key, value in keys.items()))


def test_numbers_of_the_second_rank_stand_beside_the_headline(bundle: Bundle) -> None:
    top = words(report(bundle)).split("Images still right: share")[0]
    worst = entry(bundle, "worstClass", setting="served", threat="linf-32")
    assert f"Worst class {worst['class']} : {percent(worst['value'])} of its images stay right" in top
    assert f"{worst['correct']} of {worst['sampleSize']}; {interval(worst)}, which holds for every class at once" in top
    clean, attacked = (entry(bundle, "calibration", setting="served", threat=name) for name in (None, "linf-32"))
    assert f"{percent(clean['value'])} clean, {percent(attacked['value'])} under attack" in top
    mean = entry(bundle, "corruptionAccuracy", corruption="all")
    assert f"Common corruptions {percent(mean['value'])} right on average" in top
    assert "standard tier" in top and "Joined from" not in top


def test_the_worst_class_has_the_wider_interval(bundle: Bundle) -> None:
    """Not that of the class by itself, which the figure draws."""
    worst = entry(bundle, "worstClass", setting="served", threat="linf-32")
    alone = entry(bundle, "perClass", setting="served", threat="linf-32", **{"class": worst["class"]})
    assert worst["interval"][1] > alone["interval"][1]
    assert f"holds for every class at once: {interval(worst)}." in words(report(bundle))


def test_a_sample_says_what_its_intervals_are_about(bundle: Bundle) -> None:
    assert "Measured on 60 of 360 test images: every interval is about the drawing" in words(report(bundle))
    whole = {**bundle.predicate["sample"], "of": 60}
    assert "Measured on" not in words(report(bundle, sample=whole))


def test_each_corruption_and_severity_has_its_cell(bundle: Bundle) -> None:
    page = report(bundle)
    table = page[page.index('<table class="heat">') :].split("</table>")[0]
    found = re.findall(r'<td class="shade-(\d+)">([\d.]+)</td>', table)
    shares = [item["value"] for item in bundle.predicate["corruptionAccuracy"][:-1]]
    assert [shown for _, shown in found] == [f"{100 * share:.1f}" for share in shares]
    assert all(abs(int(shade) - 10 * (1 - share)) <= 0.51 for (shade, _), share in zip(found, shares, strict=True))
    assert table.count("<tr>") == 16 and table.count("mean") == 16
    assert "Gaussian noise" in table and "JPEG compression" in table


def test_the_settings_disagreements_are_counted(bundle: Bundle) -> None:
    agreement = copy.deepcopy(bundle.predicate["agreement"])
    agreement[1] |= {"bothRight": 41, "onlyReferenceBroken": 3, "onlyServedBroken": 2, "bothBroken": 14}
    assert "l∞ 16/255 PGD-10 41 3 2 14" in words(report(bundle, agreement=agreement))


def test_distances_that_were_not_found_are_no_numbers(bundle: Bundle) -> None:
    distances = copy.deepcopy(bundle.predicate["minimumDistances"])
    distances[0]["quantiles"] |= {"50": 0.8125, "90": None}
    found = f"{distances[0]['found']} of {distances[0]['sampleSize']}"
    shown = words(report(bundle, minimumDistances=distances))
    assert f"C&W, l2 {found}" in shown and "0.8125" in shown and "not found" in shown


def test_sources_of_a_merge_are_named(bundle: Bundle) -> None:
    sources = [{"attestation": f"{seed}f" * 32, "tier": "thorough", "seed": seed} for seed in (3, 4)]
    shown = words(report(bundle, merged=sources))
    assert "2 attestations of this model" in shown and "3f3f3f3f3f3f… thorough 3" in shown


def test_a_model_that_was_trained_elsewhere_says_that_nobody_knows(bundle: Bundle) -> None:
    shown = words(report(bundle, selection={"rule": "as its maker left it", "split": "unknown"}))
    assert "trained elsewhere" in shown and "is not known: as its maker left it" in shown


def test_a_quick_evaluation_says_what_it_left_out(tmp_path: Path) -> None:
    quick = open_bundle(make_bundle(tmp_path / "bundle", tier="quick"))
    shown = words(report(quick))
    assert "quick tier" in shown and "Common corruptions not tried" in shown
    assert "Smallest change" not in shown and "loss around an image" not in shown


@pytest.fixture(scope="module")
def sweep(bundle: Bundle) -> dict[str, Any]:
    """The bundle with the margin attack alone at 16, and AutoAttack at 32."""
    changed: dict[str, Any] = {"mainThreats": ["linf-32"]}
    for kind, key in (("attacks", "name"), ("claims", "attack")):
        kept = [item for item in bundle.predicate[kind] if (item.get("threat"), item.get(key)) != ("linf-16", "pgd-10")]
        changed[kind] = [{**item, key: "autoattack"} if item.get(key) == "pgd-10" else item for item in kept]
    return changed


def renamed(bundle: Bundle) -> Bundle:
    """The columns and images of pgd-10 at 32 under AutoAttack's name."""
    columns = {
        name.replace("linf-32/pgd-10", "linf-32/autoattack"): bundle.outcomes[name] for name in bundle.outcomes.columns
    }
    images = {name.replace("linf-32/pgd-10", "linf-32/autoattack"): array for name, array in bundle.images.items()}
    return replace(bundle, outcomes=Outcomes(columns), images=images)


def test_points_of_a_sweep_are_apart_from_the_results(bundle: Bundle, sweep: dict[str, Any]) -> None:
    page = report(renamed(bundle), **sweep)
    results = page[page.index('<table class="results">') :].split("</table>")[0]
    assert "l∞ 32/255" in words(results) and "l∞ 16/255" not in words(results)
    assert "Further sizes of the perturbation (1)" in page
    figure = page[page.index('id="by-eps-title"') :].split("</svg>")[0]
    assert "ε 16/255 served (margin attack alone)" in figure and "ε 32/255 served:" in figure


def test_gallery_shows_real_pixels_of_the_lowest_margins(bundle: Bundle) -> None:
    gallery = choose(bundle.predicate, bundle.outcomes, bundle.images)
    margins = np.minimum(*(bundle.outcomes[f"served/linf-32/{name}/margin"] for name in ("pgd-10", "margin")))
    broken = bundle.outcomes.clean_right("served") & (margins < 0)
    assert [picture.margin for picture in gallery.broken] == sorted(margins[broken])[:6]
    assert all(not picture.held for picture in gallery.broken) and all(picture.held for picture in gallery.held)
    first = gallery.broken[0]
    content = base64.b64decode(first.adversarial.removeprefix("data:image/png;base64,"))
    shown = np.asarray(Image.open(io.BytesIO(content)))
    answer = bundle.predicate["data"]["classes"][bundle.outcomes["served/linf-32/margin/prediction"][first.row]]
    assert first.answer == answer != first.label
    change = np.asarray(Image.open(io.BytesIO(base64.b64decode(first.difference.split(",")[1]))))
    assert gallery.amplification == 3 and set(np.unique(change)) <= set(range(128 - 96, 128 + 97))
    assert np.array_equal(shown, bundle.images["linf-32/margin"][first.row][..., 0])


def test_closest_call_is_not_that_of_an_attack_that_gave_up() -> None:
    """AutoAttack hands back the clean image where it fails; another attack's near miss is the closest call."""
    columns = {"served/t/gave-up/margin": [2.0, 2.0, -1.0], "served/t/gave-up/broken": [False, False, True]}
    columns |= {"served/t/pgd-10/margin": [0.1, -0.5, -2.0], "served/t/pgd-10/broken": [False, True, True]}
    closest, margins = closest_attacks(Outcomes(columns), "t", ["gave-up", "pgd-10"])
    assert closest.tolist() == [1, 1, 1] and margins.tolist() == [0.1, -0.5, -2.0]
