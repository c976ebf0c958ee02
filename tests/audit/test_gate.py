"""The gate: every rule passes where it should and fails where it should; what is missing fails."""

from __future__ import annotations

import json
import shutil
from dataclasses import replace
from functools import cache
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from audit.cli import app
from audit.releasing import find_baseline
from audit.versions.find import list_versions
from bundle.bundle import Bundle, open_bundle
from bundle.gate.gate import Baseline, gate
from bundle.gate.policy import Rule
from bundle.gate.reading import read_policy
from bundle.layout import ATTESTATION
from bundle.numbers.claims import find_claim
from bundle.pages.wording import points
from bundle.table.threats import Threat
from tests.audit.conftest import Masters
from tests.audit.tampering import rewrite
from tests.audit.versions.test_versions import commit, git
from tests.bundles import make_bundle


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    (tmp_path / "work").mkdir()
    monkeypatch.chdir(tmp_path / "work")
    monkeypatch.setenv("GIT_CEILING_DIRECTORIES", str(tmp_path))
    return tmp_path / "work"


@pytest.fixture
def sound(masters: Masters) -> Bundle:
    """58 of 60 right when clean, 27 under both attacks at linf-32."""
    return open_bundle(masters.unsigned)


def ask(
    bundle: Bundle, policy: dict[str, Any], baseline: Baseline | None = None, trusted: list[Path] | None = None
) -> Rule:
    """The one rule of a policy."""
    Path("policy.json").write_text(json.dumps(policy))
    (rule,) = gate(bundle, read_policy("policy.json"), baseline, trusted or []).rules
    return rule


def changed(bundle: Bundle, **fields: Any) -> Bundle:
    """The bundle with another predicate, as if that had verified."""
    predicate = {**bundle.predicate, **fields}
    return replace(bundle, statement={**bundle.statement, "predicate": predicate})


def metric(name: str, /, **fields: Any) -> dict[str, Any]:
    return {"metrics": [{"metric": name, **fields}]}


ROBUST = {"setting": "served", "threat": "linf-32"}


@pytest.mark.parametrize(
    ("policy", "passed"),
    [
        (metric("clean_accuracy", setting="served", min=58 / 60), True),
        (metric("clean_accuracy", setting="served", min=0.967), False),
        (metric("clean_accuracy", setting="served", min=0.88, at="lower"), True),
        (metric("clean_accuracy", setting="served", min=0.89, at="lower"), False),
        (metric("clean_accuracy", setting="served", max=0.99, at="upper"), False),
        (metric("robust_accuracy", **ROBUST, min=0.45), True),
        (metric("robust_accuracy", **ROBUST, min=0.46), False),
        (metric("robust_accuracy", **ROBUST, attack="pgd-10", min=0.9), True),
        (metric("robust_accuracy", **ROBUST, min=0.4, max=0.44), False),
        (metric("certified_accuracy", classifier="smoothed-0.25", radius=0.0, min=0.01), True),
        (metric("average_certified_radius", classifier="smoothed-0.25", max=0.0), False),
        (metric("worst_class_accuracy", **ROBUST, min=0.9), False),
        (metric("class_accuracy", setting="served", threat="linf-32", **{"class": "3"}, min=0.0), True),
        (metric("calibration_error", setting="served", max=0.5), True),
        (metric("calibration_error", **ROBUST, max=0.001), False),
        (metric("corruption_accuracy", corruption="all", min=0.1), True),
        (metric("corruption_accuracy", corruption="fog", severity=3, min=1.0), False),
        (metric("minimum_distance", name="cw", quantile=50, min=0.0), True),
        (metric("lost_on_grid", threat="linf-32", attack="margin", max=0), True),
    ],
)
def test_thresholds_on_any_metric(policy: dict[str, Any], passed: bool, sound: Bundle) -> None:
    rule = ask(sound, policy)
    assert rule.passed is passed, rule.sentence()


@pytest.mark.parametrize(
    ("policy", "said"),
    [
        (metric("robust_accuracy", setting="served", threat="linf-8", min=0), "the attestation has no such number"),
        (metric("robust_accuracy", **ROBUST, attack="autoattack", min=0), "the attestation has no such number"),
        (metric("certified_accuracy", classifier="served", eps_255=8, min=0), "the attestation has no such number"),
        (metric("certified_accuracy", classifier="smoothed-0.25", min=0), "the attestation has no such number"),
        (metric("calibration_error", setting="served", threat="l2-1", max=1), "the attestation has no such number"),
        (metric("calibration_error", setting="served", max=1, at="upper"), "has no interval in the attestation"),
        (metric("minimum_distance", name="cw", quantile=90, min=0), "was not found for as many images"),
    ],
)
def test_a_missing_metric_fails_and_never_passes(policy: dict[str, Any], said: str, sound: Bundle) -> None:
    distance = dict(sound.predicate["minimumDistances"][0])
    distance["quantiles"] = {**distance["quantiles"], "90": None}
    rule = ask(changed(sound, minimumDistances=[distance]), policy)
    assert not rule.passed
    assert said in rule.measured


def test_two_bounds_of_one_radius_need_their_technique(sound: Bundle) -> None:
    bound = {"metric": "certified_accuracy", "classifier": "served", "eps_255": 8, "value": 0.5}
    both = [{**bound, "technique": "IBP"}, {**bound, "technique": "CROWN", "value": 0.7}]
    proved = changed(sound, bounds=both)
    keys = {"classifier": "served", "eps_255": 8, "min": 0.6}
    assert "give technique too" in ask(proved, metric("certified_accuracy", **keys)).measured
    assert ask(proved, metric("certified_accuracy", **keys, technique="CROWN")).passed
    assert not ask(proved, metric("certified_accuracy", **keys, technique="IBP")).passed


def test_tier_flags_reliable_counts_and_selection(sound: Bundle) -> None:
    assert ask(sound, {"tier": "quick"}).passed and ask(sound, {"tier": "standard"}).passed
    assert not ask(sound, {"tier": "thorough"}).passed
    flagged = [{**sound.predicate["attacks"][0], "flags": ["zero gradients"]}, *sound.predicate["attacks"][1:]]
    assert ask(sound, {"flags": 0}).passed
    rule = ask(changed(sound, attacks=flagged), {"flags": 0})
    assert (rule.passed, "linf-16/pgd-10: zero gradients" in rule.measured) == (False, True)
    assert ask(changed(sound, attacks=flagged), {"flags": 1}).passed
    failed = [{**sound.predicate["sanity"][0], "outcome": "fail", "passed": False}]
    assert ask(sound, {"reliable": True}).passed
    assert not ask(changed(sound, sanity=failed), {"reliable": True}).passed
    assert not ask(changed(sound, sanity=[]), {"reliable": True}).passed
    assert ask(sound, {"test_reads": 1}).passed and ask(sound, {"sample": 60}).passed
    assert not ask(changed(sound, testReads={"models": 2, "rule": ""}), {"test_reads": 1}).passed
    unread = ask(changed(sound, testReads={"models": 1, "rule": "", "complete": False}), {"test_reads": 1})
    assert not unread.passed and "maybe more: git's history could not be read" in unread.measured
    assert not ask(sound, {"sample": 61}).passed
    assert ask(sound, {"selection": "validation"}).passed
    assert not ask(changed(sound, selection={"split": "unknown", "rule": ""}), {"selection": "validation"}).passed


@pytest.mark.parametrize(
    ("leak", "most", "passed", "said"),
    [
        ("copies", 0.05, True, "0.05 (test images that are"),
        ("copies", 0.04, False, "0.05 (test images that are"),
        ("near_copies", 0, True, "0 (further test images"),
        ("two_labels", 0.1, True, "0.1 (images whose very picture"),
        ("two_labels", 0.09, False, "0.1 (images whose very picture"),
    ],
)
def test_leaks_are_shares_of_the_images(leak: str, most: float, passed: bool, said: str, sound: Bundle) -> None:
    """Of 60 test images 3 are training images; of 60 training images 6 have two labels."""
    data = sound.predicate["data"]
    leakage = {**data["leakage"], "test_images_also_in_train": 3, "two_labels": {"train": 6, "test": 1}}
    rule = ask(changed(sound, data={**data, "leakage": leakage}), {"leakage": {leak: most}})
    assert (rule.passed, rule.measured.startswith(said)) == (passed, True), rule.sentence()


def test_a_leak_that_nobody_counted_fails(sound: Bundle) -> None:
    data = {name: value for name, value in sound.predicate["data"].items() if name != "leakage"}
    before = {**data, "leakage": {"test_images_also_in_train": 0}}
    assert not ask(changed(sound, data=data), {"leakage": {"copies": 1}}).passed
    assert ask(changed(sound, data=before), {"leakage": {"copies": 0}}).passed
    rule = ask(changed(sound, data=before), {"leakage": {"near_copies": 1}})
    assert (rule.passed, "does not say" in rule.measured) == (False, True)


def test_signed_by_whom(sound: Bundle, masters: Masters) -> None:
    signed = open_bundle(masters.signed)
    keys = {name: str(path / "key.pub") for name, path in (("good", masters.trusted), ("other", masters.other))}
    assert ask(sound, {"signed_by": [keys["good"]]}).measured == "unsigned"
    assert ask(signed, {"signed_by": [keys["good"]]}).passed
    assert ask(signed, {"signed_by": [keys["other"], keys["good"]]}).passed
    assert not ask(signed, {"signed_by": [keys["other"]]}).passed
    by_id = {"signed_by": [masters.key_id]}
    rule = ask(signed, by_id)  # an envelope names any key that its maker likes
    assert (rule.passed, "whose key.pub was not given" in rule.measured) == (False, True)
    assert ask(signed, by_id, trusted=[Path(keys["good"])]).passed
    assert not ask(signed, {"signed_by": ["0" * 64]}, trusted=[Path(keys["good"])]).passed
    forged = replace(signed, envelope=signed.envelope and signed.envelope.replace(b'"sig": "', b'"sig": "AAAA', 1))
    assert not ask(forged, {"signed_by": [keys["good"]]}).passed


def baseline(bundle: Bundle, *, rows: bool = True) -> Baseline:
    return Baseline("v1", bundle.statement, bundle if rows else None)


def test_not_worse_in_a_union_is_about_all_its_threats(tmp_path: Path) -> None:
    """The union's own claims say what the paired difference must be; on clean images the two differ otherwise."""
    others = (Threat("l2", 1.0),)
    first = open_bundle(make_bundle(tmp_path / "first", others=others))
    second = open_bundle(make_bundle(tmp_path / "second", others=others, noise=1.5))
    keys = {"setting": "served", "threat": "union", "attack": "all"}
    old, new = (find_claim(item.predicate, "robust_accuracy", **keys) for item in (first, second))
    assert old and new and old["value"] != new["value"]
    rule = ask(second, {"not_worse": {"margin": 50, "threat": "union"}}, baseline(first))
    assert rule.measured.startswith(f"{points(new['value'] - old['value'])} points")
    assert rule.measured.endswith("paired on 60 images")
    clean = ask(second, {"not_worse": {"margin": 50, "metric": "clean_accuracy"}}, baseline(first))
    assert clean.measured.split(" points")[0] != rule.measured.split(" points")[0]
    elsewhere = changed(second, unions=[{"name": "union", "threats": ["l2-1"]}])
    refused = ask(elsewhere, {"not_worse": {"margin": 50, "threat": "union"}}, baseline(first))
    assert not refused.passed and "joins other threats" in refused.measured


def test_not_worse_is_non_inferiority_not_a_missing_difference(sound: Bundle, masters: Masters) -> None:
    """Equal on 60 images still leaves 6 points open; a model that differs by −11.7 points passes no small margin."""
    same = ask(sound, {"not_worse": {"margin": 5}}, baseline(sound))
    assert (same.passed, same.measured) == (False, "+0.0 points [−6.0, +6.0], paired on 60 images")
    assert ask(sound, {"not_worse": {"margin": 6.1}}, baseline(sound)).passed
    second = open_bundle(masters.second)
    worse = ask(second, {"not_worse": {"margin": 20}}, baseline(sound))
    assert (worse.passed, worse.measured.split(" [")[0]) == (False, "−11.7 points")
    assert ask(second, {"not_worse": {"margin": 24}}, baseline(sound)).passed
    assert ask(sound, {"not_worse": {"margin": 2}}, baseline(second)).passed
    clean = {"not_worse": {"margin": 20, "metric": "clean_accuracy"}}
    assert ask(second, clean, baseline(sound)).measured.startswith("−6.7 points")


def test_without_the_baselines_rows_the_interval_is_that_of_two_samples(sound: Bundle, masters: Masters) -> None:
    rule = ask(open_bundle(masters.second), {"not_worse": {"margin": 29}}, baseline(sound, rows=False))
    assert rule.measured.endswith("not paired (n 60 and 60)")
    paired = ask(open_bundle(masters.second), {"not_worse": {"margin": 29}}, baseline(sound))
    lowest = [float(item.measured.split("[−")[1].split(",")[0]) for item in (rule, paired)]
    assert lowest[0] > lowest[1]


def test_other_images_are_not_paired(sound: Bundle, tmp_path: Path) -> None:
    fewer = open_bundle(make_bundle(tmp_path / "fewer", rows=40))
    assert "not paired (n 60 and 40)" in ask(fewer, {"not_worse": {"margin": 50}}, baseline(sound)).measured


def test_a_version_that_met_fewer_or_weaker_attacks_is_not_called_not_worse(sound: Bundle, tmp_path: Path) -> None:
    rule = {"not_worse": {"margin": 90}}
    lazy = open_bundle(make_bundle(tmp_path / "lazy", attacks=("pgd-10",)))
    assert "did not meet margin of the baseline" in ask(lazy, rule, baseline(sound)).measured
    assert ask(sound, rule, baseline(lazy)).passed
    weaker = shutil.copytree(sound.path, tmp_path / "weaker")
    rewrite(weaker, predicate=lambda item: [attack["settings"].update(steps=1) for attack in item["attacks"]])
    for rows in (True, False):
        assert not ask(open_bundle(weaker), rule, baseline(sound, rows=rows)).passed


def test_the_first_release_fails_unless_the_policy_says_otherwise(sound: Bundle) -> None:
    assert not ask(sound, {"not_worse": {"margin": 2}}).passed
    assert ask(sound, {"not_worse": {"margin": 2, "first": "pass"}}).passed


def test_a_threat_that_the_baseline_lacks_fails(sound: Bundle, tmp_path: Path) -> None:
    narrow = open_bundle(make_bundle(tmp_path / "narrow", eps=(16,)))
    rule = {"not_worse": {"margin": 90, "threat": "linf-32"}}
    assert ask(sound, rule, baseline(narrow)).measured == "v1 has no such number"
    assert ask(narrow, rule, baseline(sound)).measured == "this version has no such number"


def test_the_last_release_is_the_newest_tag_before_this_one(masters: Masters, tmp_path: Path, sound: Bundle) -> None:
    """Tags of one second are told apart by their version numbers."""
    third = open_bundle(make_bundle(tmp_path / "third", seed=2, noise=0.3, tier="quick"))
    git("init", "-b", "main")
    for number, bundle in enumerate((sound, open_bundle(masters.second), third), 9):
        commit(bundle.path, f"v{number}")
        git("tag", f"v{number}")
    second = open_bundle(masters.second)
    new = open_bundle(make_bundle(tmp_path / "new", seed=3, noise=0.3, tier="quick"))
    versions = cache(lambda: list_versions([masters.second]))
    names = [
        found and found.name for found in (find_baseline(item, None, versions) for item in (sound, second, third, new))
    ]
    assert names == [None, "v9", "v10", "v11"]
    at_hand = find_baseline(third, None, versions)
    assert at_hand and at_hand.bundle and at_hand.bundle.digest == second.digest
    git_alone = find_baseline(second, None, versions)
    assert git_alone and git_alone.bundle is None


def test_the_command_exits_with_every_rule_or_the_failed_ones(masters: Masters) -> None:
    Path("policy.yaml").write_text(
        "metrics: {metric: clean_accuracy, setting: served, min: 0.8, at: lower}\ntier: standard\nflags: 0\n"
    )
    good = CliRunner().invoke(app, ["gate", str(masters.unsigned), "--policy", "policy.yaml"])
    assert (good.exit_code, good.stderr) == (0, "")
    for part in ("clean_accuracy served", ">= 0.8", "0.8847 (measured 0.9667 [0.8847, 0.9959], n 60)", "3 rules"):
        assert part in good.stdout, part
    narrow = {"COLUMNS": "80"}
    brief = CliRunner().invoke(app, ["gate", str(masters.unsigned), "--policy", "policy.yaml"], env=narrow).stdout
    assert "0.8847 " in brief and "measured" not in brief
    bad = CliRunner().invoke(app, ["gate", str(masters.second), "--policy", "policy.yaml"])
    assert bad.exit_code == 1 and "(measured" in bad.stdout
    assert bad.stderr.count("\n") == 1
    assert "does not meet policy.yaml: clean_accuracy served (lower end of the interval): 0.7949" in bad.stderr
    assert "tier" not in bad.stderr and "FAIL" in bad.stdout
    document = CliRunner().invoke(app, ["gate", str(masters.second), "--policy", "policy.yaml", "--json"])
    assert document.exit_code == 1
    rules = json.loads(document.stdout)["rules"]
    assert [(rule["name"].split()[0], rule["passed"]) for rule in rules] == [
        ("clean_accuracy", False),
        ("tier", True),
        ("flags", True),
    ]
    by_version = CliRunner().invoke(
        app,
        ["gate", open_bundle(masters.unsigned).version, "--bundles", str(masters.unsigned), "--policy", "policy.yaml"],
    )
    assert by_version.exit_code == 0


def test_an_attestation_alone_and_a_bundle_that_does_not_verify_are_refused(masters: Masters, unsigned: Path) -> None:
    """A number that nobody could recompute passes no gate."""
    Path("policy.yaml").write_text("tier: quick\n")
    Path("out/bundle").mkdir(parents=True)
    shutil.copyfile(masters.unsigned / ATTESTATION, f"out/bundle/{ATTESTATION}")
    for name in (open_bundle(masters.unsigned).version, "out/bundle"):
        assert CliRunner().invoke(app, ["gate", name, "--policy", "policy.yaml"]).exit_code == 1
    (unsigned / "model-card.md").write_text("98 % robust\n")
    refused = CliRunner().invoke(app, ["gate", str(unsigned), "--policy", "policy.yaml"])
    assert (refused.exit_code, refused.stderr.startswith("model-card.md: has ")) == (1, True)
