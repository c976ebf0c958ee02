"""`hallmark fetch` and `hallmark show` with an address: whole and verified, or not at all."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from typer.testing import CliRunner

from audit.cli import app
from tests.audit.conftest import Masters
from tests.audit.live.conftest import Honest
from tests.audit.services import Exchange, before


def test_a_bundle_is_fetched_whole_or_not_at_all(honest: Honest, masters: Masters, tmp_path: Path) -> None:
    target = tmp_path / "fetched"
    done = CliRunner().invoke(app, ["fetch", honest.url, str(target), "--trust", str(masters.trusted)])
    assert done.exit_code == 0 and f"signed by {masters.key_id}" in done.stdout
    assert {path.name: path.read_bytes() for path in target.iterdir()} == {
        path.name: path.read_bytes() for path in honest.bundle.path.iterdir()
    }
    again = CliRunner().invoke(app, ["fetch", honest.url, str(target)])
    assert again.exit_code == 1 and "is there already" in again.stderr
    other = CliRunner().invoke(app, ["fetch", honest.url, str(tmp_path / "other"), "--trust", str(masters.other)])
    assert other.exit_code == 1 and other.stderr.count("\n") == 1
    with before(honest.url, evidence_without_a_byte) as url:
        wrong = CliRunner().invoke(app, ["fetch", url, str(tmp_path / "wrong")])
    assert wrong.exit_code == 1 and "model-card.md: " in wrong.stderr
    assert [path.name for path in tmp_path.iterdir()] == ["fetched"]


def evidence_without_a_byte(exchange: Exchange) -> Exchange:
    cut = exchange.path == "/evidence/model-card.md"
    return replace(exchange, body=exchange.body[:-1]) if cut else exchange


def test_a_service_is_shown_and_no_folder(honest: Honest, masters: Masters) -> None:
    said = CliRunner().invoke(app, ["show", honest.url, "--trust", str(masters.trusted)])
    assert said.exit_code == 0 and f"Next: hallmark live {honest.url}" in said.stdout
    assert said.stdout.startswith(f"Version {honest.bundle.version}: ") and "signed by" in said.stdout
    refused = CliRunner().invoke(app, ["verify", honest.url])
    assert refused.exit_code == 1 and f"hallmark fetch {honest.url} DIR" in refused.stderr
