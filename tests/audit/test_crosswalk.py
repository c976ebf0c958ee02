"""The crosswalk: every point has an answer that follows from the predicate, and silence is called "not tested"."""

import re
from pathlib import Path
from typing import Any, get_args

import pytest

from audit.answers import Status
from audit.crosswalk import DOCUMENTS, render_crosswalk
from bundle.attestation import schema
from bundle.bundle import Bundle, open_bundle
from bundle.layout import REQUIRED
from bundle.pages.wording import percent
from bundle.table.threats import Threat
from tests.bundle.pages.test_card import proved, unproved
from tests.bundles import make_bundle

ATTACK = {"threat": "linf-32", "harness": {"name": "hallmark", "version": "1"}, "settings": {}, "flags": []}


@pytest.fixture(scope="module")
def bundle(tmp_path_factory: pytest.TempPathFactory) -> Bundle:
    return open_bundle(make_bundle(tmp_path_factory.mktemp("bundle"), eps=(32,), others=(Threat("l2", 0.5),)))


@pytest.fixture(scope="module")
def quick(tmp_path_factory: pytest.TempPathFactory) -> Bundle:
    return open_bundle(make_bundle(tmp_path_factory.mktemp("quick"), eps=(32,), tier="quick"))


def crosswalk(bundle: Bundle, **changes: Any) -> str:
    return render_crosswalk({**bundle.predicate, **changes}, bundle.digest)


def rows(text: str) -> list[list[str]]:
    """The five cells of every row below a document's heading."""
    lines = text.partition("\n## ")[2].splitlines()
    cells = [[cell.strip() for cell in line.strip("|").split("|")] for line in lines if line.startswith("| ")]
    return [row for row in cells if row[:2] != ["point", "what it is about"]]


def answers(text: str, asks: str) -> set[tuple[str, str]]:
    """Status and answer of the points whose question contains some words."""
    found = {(row[2], row[3]) for row in rows(text) if asks in row[1]}
    assert found, asks
    return found


def test_every_point_is_answered_once_with_a_known_status(bundle: Bundle) -> None:
    found = rows(crosswalk(bundle))
    assert [(row[0], row[1]) for row in found] == [
        (point.place, point.asks) for _, points in DOCUMENTS for point in points
    ]
    assert len({(title, point.place, point.asks) for title, points in DOCUMENTS for point in points}) == len(found)
    assert {row[2] for row in found} == set(get_args(Status))
    assert all(len(row) == 5 and row[3] for row in found)


def test_where_names_fields_and_files_that_exist(bundle: Bundle, quick: Bundle) -> None:
    known = {*schema()["properties"]["predicate"]["properties"], *REQUIRED}
    for item in (bundle, quick):
        for row in rows(crosswalk(item)):
            assert set(re.findall(r"`([^`]+)`", row[4])) <= known


def test_what_is_measured_or_recorded_says_where(bundle: Bundle) -> None:
    assert all(row[4] for row in rows(crosswalk(bundle)) if row[2] in ("measured", "recorded"))


def test_numbers_are_the_attestations(bundle: Bundle) -> None:
    (adversarial,) = answers(crosswalk(bundle), "adversarial examples and evasion")
    assert adversarial[0] == "measured" and "upper bounds" in adversarial[1]
    assert "AutoAttack was not run at l∞ 32/255 and l2 0.5." in adversarial[1]
    for claim in bundle.predicate["claims"]:
        if claim["setting"] == "served" and claim.get("attack") == "all":
            assert percent(claim["value"]) in adversarial[1]
    (inputs,) = answers(crosswalk(bundle), "inconsistencies of the input")
    assert inputs[0] == "measured" and percent(bundle.predicate["corruptionAccuracy"][-1]["value"]) in inputs[1]


def test_the_setting_is_served_and_never_the_other(bundle: Bundle) -> None:
    claims = [
        {**claim, "value": 0.123} if claim["setting"] == "reference" else claim for claim in bundle.predicate["claims"]
    ]
    assert crosswalk(bundle, claims=claims) == crosswalk(bundle)


def test_the_corruption_that_hurts_most_is_named(bundle: Bundle) -> None:
    accuracies = [*bundle.predicate["corruptionAccuracy"]]
    accuracies[7] = {**accuracies[7], "value": 0.01, "corruption": "shot_noise", "severity": 3}
    (inputs,) = answers(crosswalk(bundle, corruptionAccuracy=accuracies), "inconsistencies of the input")
    assert "lowest for shot noise, severity 3: 1.0 % (" in inputs[1]


def test_faults_and_flaws_are_counted(bundle: Bundle) -> None:
    parity = {**bundle.predicate["parity"], "disagreements": 7, "images": 90}
    flagged = [{**item, "flags": ["stuck", "slow"]} for item in bundle.predicate["attacks"][:1]]
    attacks = [*flagged, *bundle.predicate["attacks"][1:]]
    sanity = [{**bundle.predicate["sanity"][0], "outcome": "warn"}]
    text = crosswalk(bundle, parity=parity, attacks=attacks, sanity=sanity)
    (faults,) = answers(text, "faults and inconsistencies within")
    assert "differently on 7 of 90 images" in faults[1]
    (flaws,) = answers(text, "flaws of the model")
    assert "1 run, 0 failed, 1 with a warning. Warnings that attacks raised: 2." in flaws[1]
    (unchecked,) = answers(crosswalk(bundle, sanity=[]), "flaws of the model")
    assert unchecked[0] == "not tested"


def test_aisvs_is_answered_by_the_method_the_files_and_the_numbers(bundle: Bundle) -> None:
    robust = percent(
        next(c for c in bundle.predicate["claims"] if c["setting"] == "served" and c.get("attack") == "all")["value"]
    )
    (attacked,) = answers(crosswalk(bundle), "known attacks of the model's kind")
    assert attacked[0] == "measured" and robust in attacked[1]
    for name, sentence in (
        ("d2r_cag", "a defence by training"),
        ("standard", "is no defence"),
        ("external", "not known"),
    ):
        (hardened,) = answers(crosswalk(bundle, method={**bundle.predicate["method"], "name": name}), "hardened")
        assert sentence in hardened[1] and robust in hardened[1]
    (materials,) = answers(crosswalk(bundle), "bill of materials")
    assert "mlbom.cdx.json" in materials[1] and f"the {len(bundle.predicate['files'])} files" in materials[1]
    parity = {**bundle.predicate["parity"], "disagreements": 5, "images": 70}
    (served,) = answers(crosswalk(bundle, parity=parity), "quantized")
    assert served[0] == "measured" and "differ on 5 of 70 images" in served[1]


def test_withheld_images_are_not_pointed_at(bundle: Bundle) -> None:
    private = {"scheme": "salted-merkle-v1", "root": "ab" * 32}
    assert "`images.npz`" in crosswalk(bundle)
    text = crosswalk(bundle, privateEvidence=private)
    assert "`images.npz`" not in text and "`privateEvidence`" in text


@pytest.mark.parametrize(
    "asks", ["errors and inconsistencies of the input", "performance on perturbed data", "sensitivity"]
)
def test_the_quick_tier_says_not_tested_where_the_standard_one_has_numbers(
    bundle: Bundle, quick: Bundle, asks: str
) -> None:
    assert {status for status, _ in answers(crosswalk(bundle), asks)} == {"measured"}
    assert {status for status, _ in answers(crosswalk(quick), asks)} == {"not tested"}


def test_proofs_about_a_smoothed_classifier_are_none_about_this_one(bundle: Bundle) -> None:
    asks = "formal: properties that hold on a whole domain"
    (other,) = answers(crosswalk(bundle, **unproved(bundle)), asks)
    assert other[0] == "not tested" and "Of another, the smoothed classifier: smoothed-0.25 at l2 0.5:" in other[1]
    (own,) = answers(crosswalk(bundle, **proved(bundle)), asks)
    assert own[0] == "measured" and "l∞ 4/255: 25.0 % (15.0 to 38.0 %) by IBP" in own[1]
    (none,) = answers(crosswalk(bundle, smoothing=[], bounds=[], proofs=[]), asks)
    assert none == ("not tested", "Nothing was proved, neither of this classifier nor of a smoothed one.")
    arithmetic = answers(crosswalk(bundle, **proved(bundle)), "the kind of method, and its arithmetic")
    assert "Bounds hold in real numbers" in next(iter(arithmetic))[1]


@pytest.mark.parametrize("there", [True, False])
def test_proofs_are_pointed_at_where_there_are_any(bundle: Bundle, there: bool) -> None:
    text = crosswalk(bundle, **(proved(bundle) if there else {"proofs": []}))
    (where,) = {row[4] for row in rows(text) if "formal: properties that hold on a whole domain" in row[1]}
    assert "`smoothing`" in where and ("`proofs`" in where) == there


@pytest.mark.parametrize(
    ("name", "asks"),
    [
        ("square-onnx", "black-box attacks"),
        ("autoattack-seed-3", "black-box attacks"),
        ("transfer-pgd_at", "transfer from other models"),
        ("adaptive", "attacks that know the defence"),
    ],
)
def test_an_attack_that_was_run_is_found(bundle: Bundle, name: str, asks: str) -> None:
    assert {status for status, _ in answers(crosswalk(bundle), asks)} == {"not tested"}
    attacks = [*bundle.predicate["attacks"], {**ATTACK, "name": name}]
    assert {status for status, _ in answers(crosswalk(bundle, attacks=attacks), asks)} == {"measured"}


def test_noise_alone_is_no_white_box_attack(bundle: Bundle) -> None:
    attacks = [{**item, "name": "noise"} for item in bundle.predicate["attacks"] if item["name"] == "pgd-10"]
    assert {status for status, _ in answers(crosswalk(bundle, attacks=attacks), "white-box attacks")} == {"not tested"}


@pytest.mark.parametrize(
    "asks",
    ["confidentiality", "membership", "manipulated", "field trials", "monitoring", "life cycle", "slow or costly"],
)
def test_what_nobody_tests_is_never_called_measured(bundle: Bundle, asks: str) -> None:
    found = {row[2] for row in rows(crosswalk(bundle, **proved(bundle))) if asks in row[1] and row[0] != "clause 7"}
    assert found <= {"not tested"}


def test_no_conformity_is_claimed(bundle: Bundle) -> None:
    text = crosswalk(bundle, **proved(bundle))
    assert "claims no conformity" in text
    for word in ("complies", "compliant", "conforms", "certified by", "satisfies", "fulfils"):
        assert word not in text


def test_an_unreliable_attestation_says_so_first(bundle: Bundle) -> None:
    sanity = [{**bundle.predicate["sanity"][0], "passed": False, "outcome": "fail"}]
    text = crosswalk(bundle, sanity=sanity, reliable=False)
    assert text.index("**Unreliable.**") < text.index("**Warning.** Sanity check") < text.index("\n## ")
    assert "**Unreliable.**" not in crosswalk(bundle)


def test_hostile_names_do_not_break_a_row(bundle: Bundle) -> None:
    data = {**bundle.predicate["data"], "name": "a|b\n| c |<script>"}
    text = crosswalk(bundle, data=data)
    assert "<script>" not in text
    assert all(line.replace(r"\|", "").count("|") in (3, 6) for line in text.splitlines() if line.startswith("|"))


def test_bytes_follow_from_the_attestation_alone(bundle: Bundle, tmp_path: Path) -> None:
    again = open_bundle(make_bundle(tmp_path / "again", eps=(32,), others=(Threat("l2", 0.5),)))
    assert crosswalk(again) == crosswalk(bundle)
