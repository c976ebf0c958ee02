"""Whatever a path or an attestation holds, what a command prints cannot steer a terminal."""

from __future__ import annotations

import pytest
from typer.testing import CliRunner

from audit.cli import app
from audit.terminal import print_json, say

STEERING = "a\x1b[31m\x7f\x9b\u202e\r"


def test_json_and_lines_hold_no_raw_control_characters(capsys: pytest.CaptureFixture[str]) -> None:
    print_json({STEERING: [STEERING]})
    say(f"{STEERING}: one\ntwo")
    printed = capsys.readouterr().out
    assert printed.endswith(": one\ntwo\n")
    assert all(char.isprintable() for char in printed.replace("\n", ""))


@pytest.mark.parametrize(
    "command", [["verify", STEERING], ["verify", STEERING, "--json"], ["show", STEERING, "--json"]]
)
def test_refusals_hold_none_either(command: list[str]) -> None:
    done = CliRunner().invoke(app, command)
    assert done.exit_code == 1
    assert all(char.isprintable() for char in done.output.replace("\n", ""))
