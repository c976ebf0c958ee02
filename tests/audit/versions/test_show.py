"""`hallmark show`: what a person on a terminal is told beside the accuracies."""

from __future__ import annotations

from typing import Any

import pytest

from audit.versions.find import Place, Version
from audit.versions.tables import print_version
from bundle.bundle import open_bundle
from bundle.table.threats import Threat
from tests.bundles import make_bundle


@pytest.fixture(scope="module")
def statement(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    folder = tmp_path_factory.mktemp("show") / "bundle"
    return dict(open_bundle(make_bundle(folder, eps=(32,), others=(Threat("l2", 0.5),))).statement)


def shown(statement: dict[str, Any], capsys: pytest.CaptureFixture[str], **changes: Any) -> str:
    changed = {**statement, "predicate": {**statement["predicate"], **changes}}
    print_version(Version((Place("folder", "out/bundle"),), "0" * 64, changed))
    return capsys.readouterr().out


def test_a_reliable_version(statement: dict[str, Any], capsys: pytest.CaptureFixture[str]) -> None:
    text, predicate = shown(statement, capsys), statement["predicate"]
    assert "UNRELIABLE" not in text and "union of l2-0.5 and linf-32" in text
    union = next(item for item in predicate["claims"] if item.get("threat") == "union" and item["setting"] == "served")
    row = next(line for line in text.splitlines() if "union of" in line)
    assert f"{union['correct']}/{union['sampleSize']}" in row
    worst = next(item for item in predicate["worstClass"] if (item["setting"], item["threat"]) == ("served", "linf-32"))
    assert f"{worst['class']} at linf-32: {100 * worst['value']:.1f} %" in text and "for every class at once" in text
    assert f"{100 * predicate['corruptionAccuracy'][-1]['value']:.1f} % right on average" in text
    assert "cw distance" in text and "60 of 360 test images: every interval" in text
    assert "joined from" not in text
    assert "2 packages, listed in mlbom.cdx.json" in " ".join(text.split()) and "15.0.0" not in text


def test_an_unreliable_version_says_so_first(statement: dict[str, Any], capsys: pytest.CaptureFixture[str]) -> None:
    check = statement["predicate"]["sanity"][0]
    failed = {**check, "check": "planted", "outcome": "fail", "passed": False, "threat": "linf-32"}
    text = shown(statement, capsys, sanity=[{**check, "outcome": "warn"}, failed], reliable=False)
    assert "failed: planted" in text.splitlines()[1] and text.splitlines()[1].startswith("UNRELIABLE")
    rows = [line for line in text.splitlines() if "FAIL" in line or "WARN" in line]
    assert len(rows) == 2 and "planted at linf-32" in rows[1]


def test_sources_and_an_unknown_selection(statement: dict[str, Any], capsys: pytest.CaptureFixture[str]) -> None:
    sources = [{"attestation": "3f" * 32, "tier": "thorough", "seed": 3}]
    selection = {"rule": "as its maker left it", "split": "unknown"}
    text = shown(statement, capsys, merged=sources, selection=selection, corruptions=None, corruptionAccuracy=[])
    assert f"SHA-256 {'3f' * 32} (thorough, seed 3)" in text
    assert "is not known: as its maker left it" in text and "not tried" in text
