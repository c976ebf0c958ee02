"""A sentence is shown on terminals and in logs, and may have a stranger's words in it."""

from __future__ import annotations

import pytest

from bundle.errors import HallmarkError


@pytest.mark.parametrize(
    ("message", "shown"),
    [
        ("class \x1b[2J\x07 is no class", "class \\x1b[2J\\x07 is no class"),
        ("a\tb\r\x7f\x9b", "a\\tb\\r\\x7f\\x9b"),
        ("x\u202egnp.exe\u2028", "x\\u202egnp.exe\\u2028"),
        ("\ud800", "\\ud800"),
        ("ε = 8/255 ≤ ∞\u00a0%", "ε = 8/255 ≤ ∞\u00a0%"),
        ("one\nTraceback: is no image", "one\\nTraceback: is no image"),
    ],
)
def test_a_sentence_has_no_control_characters(message: str, shown: str) -> None:
    assert str(HallmarkError(message)) == shown
    assert f"{HallmarkError(message)}" == shown


def test_a_sentence_of_several_lines_is_given_line_by_line() -> None:
    assert str(HallmarkError("method.alpha: must be ≥ 0", "seed: must be a\nnumber")) == (
        "method.alpha: must be ≥ 0\nseed: must be a\\nnumber"
    )
