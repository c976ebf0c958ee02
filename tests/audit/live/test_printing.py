"""How an inspection is printed: on one screen, or set by set."""

from __future__ import annotations

from dataclasses import replace

import pytest

from audit.live.printing import CHANGED, print_report
from audit.live.report import Check, LiveAccuracy, Report
from audit.verification import SignatureState

SETS = ("clean", "linf-32/pgd-10", "linf-32/margin")


def claim(correct: int) -> dict[str, object]:
    return {"value": correct / 40, "correct": correct, "sampleSize": 40, "interval": [0.1, 0.9]}


@pytest.fixture
def report() -> Report:
    ways = ("png", "npy")
    checks = [Check(name, way, "attestation", 40, 0, 1) for name in SETS for way in ways]
    checks += [Check(name + CHANGED, way, "model.onnx", 40, 0, 0) for name in SETS for way in ways]
    checks += [Check("fresh", way, "model.onnx", 30, 0, 2) for way in ways]
    accuracies = [LiveAccuracy(way, "clean_accuracy", None, claim(39), claim(39)) for way in ways]
    accuracies += [LiveAccuracy("png", "robust_accuracy", "linf-32", claim(10), claim(12))]
    signature = SignatureState("unsigned", None, None)
    return Report("http://host", "0" * 64, signature, 7, 500, [], [], checks, accuracies, [], [], [], None, None, [])


def cells(printed: str) -> list[list[str]]:
    return [
        line.rsplit(maxsplit=4) for line in printed.splitlines() if " model.onnx " in line or " attestation " in line
    ]


def test_sets_of_the_evidence_and_both_ways_are_summed(report: Report, capsys: pytest.CaptureFixture[str]) -> None:
    print_report(report)
    printed = capsys.readouterr().out
    assert cells(printed) == [
        ["the evidence", "attestation", "240", "0", "6"],
        ["the evidence, one level changed", "model.onnx", "240", "0", "0"],
        ["fresh", "model.onnx", "60", "0", "4"],
    ]
    assert "Accuracies from the answers: 2 of 3 are the attested ones\n- linf-32, all attacks (png): 25.0 %" in printed
    assert len(printed.splitlines()) < 30


def test_what_contradicts_stands_by_itself(report: Report, capsys: pytest.CaptureFixture[str]) -> None:
    wrong = Check("linf-32/margin", "npy", "attestation", 40, 3, 0)
    print_report(replace(report, checks=[*report.checks, wrong]))
    rows = cells(capsys.readouterr().out)
    assert rows[0] == ["the evidence", "attestation", "280", "3", "6"]
    assert rows[-1] == ["linf-32/margin (npy)", "attestation", "40", "3", "0"]


def test_everything_is_a_line_for_each_set_and_way(report: Report, capsys: pytest.CaptureFixture[str]) -> None:
    print_report(report, everything=True)
    printed = capsys.readouterr().out
    assert ["clean (png)", "attestation", "40", "0", "1"] in cells(printed)
    assert "39/40" in printed and "12/40" in printed
