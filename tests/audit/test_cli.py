"""The command `hallmark`: what it prints, its exit codes, its JSON; some of it as a real process."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner, Result

from audit.cli import app
from bundle.digests import sha256_file
from bundle.layout import ATTESTATION, CARD, ENVELOPE, MODEL
from bundle.table.threats import Threat
from tests.audit.conftest import Masters
from tests.audit.tampering import rewrite
from tests.audit.versions.test_versions import git
from tests.bundles import make_bundle


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Every test runs in an empty repository."""
    (tmp_path / "work").mkdir()
    monkeypatch.chdir(tmp_path / "work")
    monkeypatch.setenv("GIT_CEILING_DIRECTORIES", str(tmp_path))
    git("init", "-b", "main")
    return tmp_path / "work"


def run(*arguments: object) -> Result:
    return CliRunner().invoke(app, [str(argument) for argument in arguments])


def run_json(*arguments: object) -> Any:
    result = run(*arguments, "--json")
    return json.loads(result.stdout)


def process(*arguments: object) -> subprocess.CompletedProcess[str]:
    command = [str(Path(sys.executable).with_name("hallmark")), *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True, check=False)


def refused(result: Result) -> str:
    """The one sentence of a refusal."""
    assert result.exit_code == 1
    assert result.stderr.count("\n") == 1
    return result.stderr.strip()


def test_keygen_sign_verify_as_processes(unsigned: Path, folder: Path) -> None:
    made = process("keygen", "keys")
    assert (made.returncode, made.stderr) == (0, "")
    signed = process("sign", unsigned, "--key", "keys/key.pem")
    assert signed.returncode == 0
    assert str(unsigned) in signed.stdout
    verified = process("verify", unsigned, "--trust", "keys/key.pub")
    key_id = made.stdout.split()[1].rstrip(":")
    said = verified.stdout.splitlines()[0].partition(": ")[2]
    assert verified.returncode == 0 and re.fullmatch(rf"signed by {key_id}, \d{{4}}-\d\d-\d\dT[\d:]{{8}}Z", said)
    with (unsigned / MODEL).open("ab") as file:
        file.write(b"\0")
    changed = process("verify", unsigned, "--trust", "keys/key.pub")
    assert (changed.returncode, changed.stdout) == (1, "")
    assert changed.stderr.startswith(f"refused: {MODEL}: SHA-256 is ")
    assert changed.stderr.count("\n") == 1


@pytest.mark.parametrize(
    "arguments", [[], ["verify"], ["sign", "somewhere"], ["nonsense"], ["versions", "--nonsense"], ["keygen", "a", "b"]]
)
def test_wrong_usage_is_exit_2(arguments: list[str]) -> None:
    assert run(*arguments).exit_code == 2


def test_wrong_usage_is_exit_2_as_a_process() -> None:
    done = process("verify")
    assert done.returncode == 2
    assert "Traceback" not in done.stdout + done.stderr


def test_verify_says_consistent_but_unsigned(masters: Masters) -> None:
    found = run("verify", masters.unsigned)
    assert found.exit_code == 0
    assert found.stdout.splitlines()[0].endswith(": consistent but unsigned")
    assert "checked: 9 files, 14 claims, 9 bounds, 300 images" in found.stdout
    asked = refused(run("verify", masters.unsigned, "--trust", masters.trusted / "key.pub"))
    assert asked.startswith("consistent but unsigned: ")
    assert ENVELOPE in asked


def test_verify_names_an_unchecked_key_and_does_not_say_signed_by(masters: Masters) -> None:
    """Without the public key nothing about the signer is known: anybody can write a key's id into an envelope."""
    found = run("verify", masters.signed)
    assert found.exit_code == 0
    assert f"names signing key {masters.key_id}, which you did not ask to trust" in found.stdout
    assert "signed by" not in found.stdout


def test_verify_names_the_key_that_is_not_trusted(masters: Masters) -> None:
    asked = refused(run("verify", masters.signed, "--trust", masters.other / "key.pub"))
    assert asked.startswith(f"refused: {ENVELOPE}: signed by key {masters.key_id}")
    both = ["--trust", masters.other / "key.pub", "--trust", masters.trusted / "key.pub"]
    assert run("verify", masters.signed, *both).exit_code == 0


def test_verify_in_json_has_the_outcome_in_all_cases(masters: Masters, unsigned: Path) -> None:
    assert run_json("verify", unsigned)["outcome"] == "consistent but unsigned"
    trust = ["--trust", masters.trusted / "key.pub"]
    assert run_json("verify", unsigned, *trust)["outcome"] == "consistent but unsigned"
    assert run("verify", unsigned, *trust, "--json").exit_code == 1
    assert run_json("verify", masters.signed)["outcome"] == "signature not checked"
    signed = run_json("verify", masters.signed, *trust)
    assert (signed["outcome"], signed["keyId"]) == ("signed", masters.key_id)
    assert signed["model"] == sha256_file(masters.signed / MODEL)
    assert signed["attestation"] == sha256_file(masters.signed / ATTESTATION)
    (unsigned / CARD).unlink()
    document = run_json("verify", unsigned)
    assert document["outcome"] == "refused"
    assert document["reason"].startswith(f"{CARD}: is missing")


def test_verify_with_data_names_the_row(masters: Masters, tmp_path: Path) -> None:
    (tmp_path / "manifest.json").write_text(json.dumps({"test_images_sha256": ["0" * 64] * 2000}))
    assert "refused: outcomes.parquet: row 0 (index 1200) is not the image" in refused(
        run("verify", masters.unsigned, "--data", tmp_path)
    )


def test_sign_says_what_was_done(unsigned: Path, masters: Masters) -> None:
    key = ["--key", masters.trusted / "key.pem"]
    assert f"signed by {masters.key_id}: {unsigned}" in run("sign", unsigned, *key).stdout
    assert "nothing changed" in run("sign", unsigned, *key).stdout
    assert run_json("sign", unsigned, *key)["written"] is False
    assert "another signature is there" in refused(run("sign", unsigned, "--key", masters.other / "key.pem"))


def test_sign_of_the_pipelines_bundle_makes_a_release(masters: Masters) -> None:
    Path("dvc.yaml").write_text("stages: {}\n")
    shutil.copytree(masters.unsigned, "out/bundle")
    document = run_json("sign", "out/bundle", "--key", masters.trusted / "key.pem")
    assert document["folder"] == f"releases/{document['version']}"
    assert run("verify", document["folder"], "--trust", masters.trusted / "key.pub").exit_code == 0


def test_keygen_refuses_to_overwrite() -> None:
    document = run_json("keygen", "keys")
    assert (len(document["keyId"]), document["private"]) == (64, "keys/key.pem")
    assert "is there already and is not overwritten" in refused(run("keygen", "keys"))


def test_versions_lists_in_words_and_in_json(masters: Masters) -> None:
    assert "No version at hand" in run("versions").stdout
    assert run_json("versions") == {"versions": [], "unseen": None}
    shutil.copytree(masters.signed, "out/bundle")
    shutil.copytree(masters.second, "releases/second")
    Path("releases/second", CARD).write_text("changed\n")
    found = run("versions", "--wide")
    assert found.exit_code == 0
    version = sha256_file(masters.signed / MODEL)[:12]
    shares = ("96.7 % [88.5, 99.6]", "45.0 % [32.1, 58.4]", "at linf-32")
    for text in (version, "out/bundle", "digits", "D²R-CAG", "standard", *shares, "not checked"):
        assert text in found.stdout
    assert f"refused: releases/second: {CARD}: has " in found.stdout
    first, second = run_json("versions")["versions"]
    assert first["headline"]["version"] == version
    assert (first["signature"], first["keyId"]) == ("unchecked", masters.key_id)
    assert second["refusal"].startswith(CARD)


def test_versions_of_other_folders(masters: Masters) -> None:
    found = run_json("versions", "--bundles", masters.unsigned, "--bundles", masters.second, "--releases", "none")
    assert len(found["versions"]) == 2


def test_show_tells_everything(masters: Masters) -> None:
    shutil.copytree(masters.unsigned, "out/bundle")
    digest = sha256_file(masters.unsigned / MODEL)
    for name in (digest[:12], "out/bundle", str(masters.unsigned)):
        text = run("show", name, "--all").stdout
        for part in (
            digest,
            "arXiv 2506.07056",
            "80.0 % [67.7, 89.2] 48/60",
            "linf-32 (eps 32/255)",
            "every attack",
            "upper bound",
            "About the smoothed classifier, in l2",
            "average certified",
            "large_eps",
            "highest PGD-10 accuracy on the validation split",
            "models measured on this test split",
            '"torch": "2.13.0"',
            "common corruptions",
        ):
            assert part in text, part
    document = run_json("show", digest[:12])
    assert document["statement"] == json.loads((masters.unsigned / ATTESTATION).read_bytes())


def test_show_writes_each_radius_in_its_own_unit() -> None:
    balls = (Threat("l2", 0.5), Threat("l1", 2.0))
    make_bundle(Path("out/bundle"), eps=(16,), others=balls, trained=balls[0])
    text = run("show", "out/bundle", "--all").stdout
    for part in ("linf-16 (eps 16/255)", "l2-0.5 (eps 0.5)", "l1-2 (eps 2)"):
        assert part in text, part
    assert "at l2-0.5" in run("versions", "--wide").stdout


def test_show_refuses_what_is_not_there_or_does_not_verify(unsigned: Path) -> None:
    assert "no version at hand has this folder" in refused(run("show", "abcdef"))
    (unsigned / CARD).unlink()
    assert f"{CARD}: is missing" in refused(run("show", unsigned))


def test_a_bundle_cannot_steer_the_terminal(unsigned: Path) -> None:
    """Escapes, markup and line ends in names are shown as text."""
    hostile = "\x1b[2J[bold]red[/bold]\r\n\u202esigned"
    rewrite(unsigned, predicate=lambda item: item["method"].update(title=hostile))
    for arguments in (["show", unsigned], ["show", unsigned, "--all"], ["versions", "--bundles", unsigned, "--wide"]):
        text = run(*arguments).stdout
        assert "\x1b" not in text
        assert "\u202e" not in text
        assert "[bold]red[/bold]" in text
    (unsigned / "a\x1b[31m\nb").write_bytes(b"")
    sentence = refused(run("verify", unsigned))
    assert "\x1b" not in sentence
    assert "a\\x1b[31m\\nb: does not belong to a bundle" in sentence


def test_a_folder_that_may_not_be_written_is_one_sentence(masters: Masters) -> None:
    Path("taken").write_text("a file\n")
    assert "taken" in refused(run("keygen", "taken/keys"))
