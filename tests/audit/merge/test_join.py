"""merge(): evaluations of one model joined image by image, tried on real bundles and on random tables."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from audit.merge.join import NOTHING_IN_COMMON, Merged, merge
from bundle.assembly import assemble
from bundle.bundle import Bundle, open_bundle
from bundle.digests import sha256_bytes
from bundle.errors import HallmarkError
from bundle.layout import ATTESTATION
from bundle.numbers.breakdowns import corruption_accuracy
from bundle.numbers.claims import ALL_ATTACKS, claims
from bundle.table.threats import Threat
from tests.bundle.tables import attack_columns
from tests.bundles import make_bundle

THREATS = ({"name": "linf-8", "norm": "linf", "eps_255": 8, "levels": 8}, Threat("l2", 0.5).describe())


@pytest.fixture(scope="module")
def folders(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """Evaluations of one model: quick, with other random corners, and with an l2 ball."""
    root = tmp_path_factory.mktemp("parts")
    return {
        "quick": make_bundle(root / "quick", tier="quick", attacks=("pgd-10",)),
        "again": make_bundle(root / "again", attack_seed=5, not_tested=("poisoning", "rotation")),
        "ball": make_bundle(root / "ball", eps=(16,), others=(Threat("l2", 0.5),), tier="thorough"),
    }


@pytest.fixture(scope="module")
def parts(folders: dict[str, Path]) -> dict[str, Bundle]:
    return {name: open_bundle(folder) for name, folder in folders.items()}


def robust(document: Mapping[str, Any]) -> dict[tuple[str, str], int]:
    """Images right under all attacks, by setting and threat or union."""
    return {
        (item["setting"], item["threat"]): item["correct"]
        for item in document["claims"]
        if item.get("attack") == ALL_ATTACKS
    }


def write(merged: Merged, first: Bundle, folder: Path) -> Bundle:
    assemble(
        folder,
        model=first.model,
        weights=first.weights,
        outcomes=merged.outcomes,
        images=merged.images,
        predicate=merged.predicate,
    )
    return open_bundle(folder)


def test_a_merged_bundle_verifies_and_has_everything(parts: dict[str, Bundle], tmp_path: Path) -> None:
    first, again, ball = parts.values()
    found = write(merge([first, again, ball]), first, tmp_path / "merged").predicate
    assert [threat.name for threat in open_bundle(tmp_path / "merged").threats] == ["linf-16", "linf-32", "l2-0.5"]
    assert found["tier"] == "thorough"
    assert [item["name"] for item in found["attacks"] if item["threat"] == "linf-16"] == [
        "pgd-10",
        "pgd-10-seed-5",
        "margin",
    ]
    assert found["unions"] == ball.predicate["unions"]
    assert found["corruptions"] == again.predicate["corruptions"]
    assert [item["name"] for item in found["distances"]] == ["cw"]
    assert [item["name"] for item in found["smoothing"]] == ["smoothed-0.25"]
    assert found["surface"] == again.predicate["surface"]
    assert found["notTested"] == ["poisoning"]


def test_the_sources_are_named_by_the_digests_of_their_statements(
    parts: dict[str, Bundle], folders: dict[str, Path], tmp_path: Path
) -> None:
    first, again, ball = parts.values()
    pair = write(merge([first, again]), first, tmp_path / "pair")
    digests = {name: sha256_bytes((folder / ATTESTATION).read_bytes()) for name, folder in folders.items()}
    expected = [
        {"attestation": digests["quick"], "tier": "quick", "seed": 0},
        {"attestation": digests["again"], "tier": "standard", "seed": 5},
        {"attestation": digests["ball"], "tier": "thorough", "seed": 0},
    ]
    assert pair.predicate["merged"] == expected[:2]
    # A merged bundle stands for its sources, and each is listed once.
    assert merge([pair, again, ball]).predicate["merged"] == expected


def test_merging_with_itself_or_a_source_changes_nothing(parts: dict[str, Bundle], tmp_path: Path) -> None:
    first, again, ball = parts.values()
    alone = merge([again, again])
    assert claims(alone.outcomes, alone.predicate) == claims(again.outcomes, again.predicate)
    assert alone.renamed == []
    whole = write(merge([first, again, ball]), first, tmp_path / "whole")
    for number, source in enumerate((whole, again, ball)):
        merged = write(merge([whole, source]), whole, tmp_path / str(number))
        assert merged.statement_bytes == whole.statement_bytes


def test_the_order_changes_names_and_no_claim(parts: dict[str, Bundle]) -> None:
    first, again, ball = parts.values()
    one, other = merge([first, again, ball]), merge([ball, again, first])
    found = [claims(merged.outcomes, merged.predicate) for merged in (one, other)]
    assert robust(found[0]) == robust(found[1])
    counts = [
        sorted((item["threat"], item["onlyServedBroken"], item["bothBroken"]) for item in document["agreement"][1:])
        for document in found
    ]
    assert counts[0] == counts[1]
    assert found[0]["corruptionAccuracy"] == found[1]["corruptionAccuracy"]
    # Both of one threat's PGD-10 are there, whichever came first keeps the name.
    assert {"pgd-10", "pgd-10-seed-5"} <= {item["name"] for item in one.predicate["attacks"]}
    assert {"pgd-10", "pgd-10-seed-5"} <= {item["name"] for item in other.predicate["attacks"]}


def test_merging_merged_bundles_in_another_order_adds_no_attack_twice(parts: dict[str, Bundle], tmp_path: Path) -> None:
    """The same attack has two names then: PGD-10 here is PGD-10-seed-5 there."""
    first, again = parts["quick"], parts["again"]
    one = write(merge([first, again]), first, tmp_path / "one")
    other = write(merge([again, first]), again, tmp_path / "other")
    both = merge([one, other])
    assert len(both.predicate["attacks"]) == len(one.predicate["attacks"]) == len(other.predicate["attacks"]) == 6


def test_what_was_renamed_is_told(parts: dict[str, Bundle]) -> None:
    renamed = merge([parts["quick"], parts["again"]]).renamed
    assert [(item.kind, item.old, item.new) for item in renamed] == [
        ("attack", "linf-16/pgd-10", "linf-16/pgd-10-seed-5"),
        ("attack", "linf-32/pgd-10", "linf-32/pgd-10-seed-5"),
    ]
    assert {item.bundle for item in renamed} == {str(parts["again"].path)}


def changed(bundle: Bundle, *, columns: Mapping[str, Any] | None = None, **predicate: Any) -> Bundle:
    """The bundle with other columns or fields, as if it had verified."""
    statement = {**bundle.statement, "predicate": {**bundle.predicate, **predicate}}
    return replace(bundle, statement=statement, outcomes=bundle.outcomes.with_columns(columns or {}))


def test_another_smoothed_classifier_or_distance_of_a_taken_name_is_kept_beside_it(parts: dict[str, Bundle]) -> None:
    again = parts["again"]
    counts = np.full(60, 900)
    other = changed(
        again,
        columns={"smoothed-0.25/successes": counts, "reference/distance/cw": np.full(60, 0.25)},
        unions=[{"name": "union", "threats": ["linf-16", "l2-0.5"]}],
    )
    base = changed(again, unions=[{"name": "union", "threats": ["linf-32", "l2-0.5"]}])
    merged = merge([base, other])
    assert [item["name"] for item in merged.predicate["smoothing"]] == ["smoothed-0.25", "smoothed-0.25-seed-5"]
    assert [item["name"] for item in merged.predicate["distances"]] == ["cw", "cw-seed-5"]
    assert [item["name"] for item in merged.predicate["unions"]] == ["union", "union-2"]
    assert (merged.outcomes["smoothed-0.25-seed-5/successes"] == counts).all()
    assert (merged.outcomes["smoothed-0.25/successes"] == again.outcomes["smoothed-0.25/successes"]).all()
    # The third of a name is counted.
    third = changed(other, columns={"reference/distance/cw": np.full(60, 0.125)})
    assert [item["name"] for item in merge([base, other, third]).predicate["distances"]] == ["cw", "cw-seed-5", "cw-2"]


def sanity(statistic: float, outcome: str) -> dict[str, Any]:
    item = {"check": "planted", "statistic": statistic, "comparator": ">=", "threshold": 0.9, "meaning": "found"}
    return {**item, "outcome": outcome, "passed": outcome != "fail"}


@pytest.mark.parametrize(
    ("one", "other", "worse"),
    [
        (sanity(1.0, "pass"), sanity(0.5, "fail"), 0.5),
        (sanity(0.94, "pass"), sanity(0.95, "warn"), 0.95),  # the outcome counts before the statistic
        (sanity(1.0, "pass"), sanity(0.95, "pass"), 0.95),
    ],
)
def test_of_a_check_the_worse_result_stays(
    parts: dict[str, Bundle], one: dict[str, Any], other: dict[str, Any], worse: float
) -> None:
    for pair in ((one, other), (other, one)):
        bundles = [changed(parts["again"], sanity=[item]) for item in pair]
        assert [item["statistic"] for item in merge(bundles).predicate["sanity"]] == [worse]


def test_a_check_of_another_threat_is_another_check(parts: dict[str, Bundle]) -> None:
    items = [{**sanity(1.0, "pass"), "threat": name} for name in ("linf-16", "linf-32")]
    found = merge([changed(parts["again"], sanity=[item]) for item in items]).predicate["sanity"]
    assert [item["threat"] for item in found] == ["linf-16", "linf-32"]


def test_the_worse_of_two_runs_on_corruptions_is_kept(parts: dict[str, Bundle]) -> None:
    again = parts["again"]
    worse = changed(again, columns={"served/corruption/fog-5/prediction": (again.outcomes["label"] + 1) % 10})
    worse = changed(worse, corruptionAccuracy=corruption_accuracy(worse.outcomes, worse.predicate))
    for pair in ([again, worse], [worse, again]):
        merged = merge(pair)
        found = corruption_accuracy(merged.outcomes, merged.predicate)
        assert found == worse.predicate["corruptionAccuracy"] != again.predicate["corruptionAccuracy"]


def test_test_reads_are_the_larger_count_and_nothing_common_says_so(parts: dict[str, Bundle]) -> None:
    again = parts["again"]
    other = changed(again, testReads={"models": 9, "rule": "counted"}, notTested=["something else"])
    found = merge([again, other]).predicate
    assert found["testReads"] == {**again.predicate["testReads"], "models": 9}
    assert found["notTested"] == [NOTHING_IN_COMMON]


def test_a_norm_that_no_evaluation_attacked_stays_untested(parts: dict[str, Bundle]) -> None:
    """Each names other norms; the sentences differ, what they say in common does not."""
    linf = changed(
        parts["again"], notTested=["perturbations in l2 and l1, and l-infinity radii that are not listed", "poisoning"]
    )
    ball = changed(
        parts["ball"], notTested=["poisoning", "perturbations in l1, and l-infinity and l2 radii that are not listed"]
    )
    expected = ["perturbations in l1, and l-infinity and l2 radii that are not listed", "poisoning"]
    assert merge([linf, ball]).predicate["notTested"] == expected
    silent = changed(parts["ball"], notTested=["poisoning"])
    assert merge([linf, silent]).predicate["notTested"] == ["poisoning"]


@pytest.mark.parametrize(
    ("columns", "predicate", "sentence"),
    [
        ({"label": np.zeros(60, dtype=int)}, {}, "is of other images than .*: label differs"),
        ({"index": np.arange(60)}, {}, "is of other images than .*: index differs"),
        ({"image_sha256": np.array(["0"] * 60)}, {}, "is of other images than .*: image_sha256 differs"),
        ({"served/clean/prediction": np.zeros(60, dtype=int)}, {}, r"served/clean/prediction differs .* on \d+ images"),
        ({"reference/clean/margin": np.zeros(60, np.float32)}, {}, "reference/clean/margin differs"),
        ({"served/clean/confidence": np.zeros(60, np.float32)}, {}, "served/clean/confidence differs"),
        ({}, {"threats": [{"name": "linf-16", "norm": "linf", "eps_255": 15, "levels": 15}]}, "has another radius"),
    ],
)
def test_other_images_answers_or_threats_are_refused(
    parts: dict[str, Bundle], columns: dict[str, Any], predicate: dict[str, Any], sentence: str
) -> None:
    with pytest.raises(HallmarkError, match=sentence):
        merge([parts["again"], changed(parts["again"], columns=columns, **predicate)])


def test_margins_may_differ_as_much_as_logits_do_between_hosts(parts: dict[str, Bundle]) -> None:
    again = parts["again"]
    moved = again.outcomes["reference/clean/margin"] + np.float32(1e-4)
    merged = merge([again, changed(again, columns={"reference/clean/margin": moved})])
    assert (merged.outcomes["reference/clean/margin"] == again.outcomes["reference/clean/margin"]).all()


def test_other_models_and_other_classes_are_refused_by_name(parts: dict[str, Bundle], tmp_path: Path) -> None:
    stranger = open_bundle(make_bundle(tmp_path / "stranger", seed=1, noise=0.3))
    with pytest.raises(HallmarkError, match=f"{stranger.version}.*{parts['again'].version}"):
        merge([parts["again"], stranger])
    data = {**parts["again"].predicate["data"], "classes": [f"digit {number}" for number in range(10)]}
    with pytest.raises(HallmarkError, match="names other classes"):
        merge([parts["again"], changed(parts["again"], data=data)])
    with pytest.raises(HallmarkError, match="two bundles or more, got 1"):
        merge([parts["again"]])


@st.composite
def evaluations(draw: st.DrawFn) -> list[list[tuple[str, str, list[bool]]]]:
    """Two or three evaluations: the attacks of each, with the images that they break in both settings."""
    attack = st.tuples(
        st.sampled_from([str(item["name"]) for item in THREATS]),
        st.sampled_from(["pgd-10", "margin", "pgd-10-seed-5", "pgd-10-2"]),
        st.lists(st.booleans(), min_size=6, max_size=6),
    )
    one = st.lists(attack, min_size=1, max_size=5, unique_by=lambda item: item[:2])
    return draw(st.lists(one, min_size=2, max_size=3))


def random_bundle(like: Bundle, attacks: list[tuple[str, str, list[bool]]]) -> Bundle:
    """Six rows of a bundle with these attacks and nothing else."""
    rows = like.outcomes.columns
    columns = {name: values[:6] for name, values in rows.items() if "/clean/" in name or "/" not in name}
    for threat, name, broken in attacks:
        for setting in ("reference", "served"):
            columns |= attack_columns(f"{setting}/{threat}/{name}", columns["label"], broken, classes=10)
    records = [{"threat": threat, "name": name, "settings": {}, "flags": []} for threat, name, _ in attacks]
    used = [item for item in THREATS if item["name"] in {threat for threat, _, _ in attacks}]
    empty: dict[str, Any] = {
        "unions": [],
        "smoothing": [],
        "proofs": [],
        "distances": [],
        "corruptions": None,
        "surface": None,
        "mainThreats": [],
    }
    found = changed(like, threats=used, attacks=records, **empty)
    images = {f"{threat}/{name}": like.images["clean"][:6] for threat, name, _ in attacks}
    return replace(found, outcomes=type(like.outcomes)(columns), images={"clean": like.images["clean"][:6], **images})


@settings(max_examples=60, deadline=None)
@given(tables=evaluations())
def test_a_claim_goes_down_or_stays_and_the_order_does_not_matter(
    parts: dict[str, Bundle], tables: list[list[tuple[str, str, list[bool]]]]
) -> None:
    bundles = [random_bundle(parts["again"], attacks) for attacks in tables]
    merged = merge(bundles)
    after = robust(claims(merged.outcomes, merged.predicate))
    for bundle in bundles:
        for key, correct in robust(claims(bundle.outcomes, bundle.predicate)).items():
            assert after[key] <= correct
    # By hand: an image is right where it is right when clean and no attack of any evaluation broke it.
    for setting, threat in after:
        broken = [np.array(rows) for attacks in tables for name, _, rows in attacks if name == threat]
        right = bundles[0].outcomes.clean_right(setting) & ~np.logical_or.reduce(broken)
        assert after[setting, threat] == right.sum()
    backwards = merge(bundles[::-1])
    assert robust(claims(backwards.outcomes, backwards.predicate)) == after
    again = merge(
        [
            replace(
                bundles[0],
                statement={
                    "predicate": {**bundles[0].predicate, **merged.predicate},
                    "subject": bundles[0].statement["subject"],
                },
                outcomes=merged.outcomes,
                images=merged.images,
            ),
            *bundles,
        ]
    )
    assert again.predicate["attacks"] == merged.predicate["attacks"]
