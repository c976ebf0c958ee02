"""`hallmark withhold`, `challenge`, `prove` and `verify` as people type them."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest
from typer.testing import CliRunner

from audit.cli import app
from bundle.bundle import open_bundle
from bundle.numbers.intervals import most_false
from tests.audit.private.conftest import ROWS, House


def invoke(*arguments: str) -> tuple[int, str]:
    done = CliRunner().invoke(app, arguments)
    return done.exit_code, done.output


def test_the_commands_as_a_user_types_them(source: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)

    def run(*arguments: str) -> str:
        code, output = invoke(*arguments)
        assert code == 0, output
        return output

    made = run("withhold", str(source), "-o", "handed-out", "--private", "kept", "--secret", "secret")
    assert f"a commitment to {ROWS} rows" in made
    assert f"challenge.json: 10 of {ROWS} rows, drawn from system entropy." in run(
        "challenge", "handed-out", "-k", "10"
    )
    before = Path("challenge.json").read_bytes()
    assert invoke("challenge", "handed-out") == (
        1,
        "challenge.json: is there already; a challenge is drawn once, so give another name with -o\n",
    )
    assert Path("challenge.json").read_bytes() == before
    assert "opens 10 rows" in run("prove", "challenge.json", "--private", "kept", "-o", "proof.json")
    found = run("verify", "handed-out", "--proof", "proof.json", "--challenge", "challenge.json")
    left = most_false(ROWS, 10)
    assert f"at most {left} rows ({100 * left / ROWS:.1f} %) are false" in found
    code, refusal = invoke("verify", "handed-out", "--proof", "proof.json")
    assert (code, "give both --proof and --challenge" in refusal) == (1, True)
    document = json.loads(run("challenge", "handed-out", "-k", "5", "-o", "second.json", "--seed-from", "x", "--json"))
    assert (len(document["rows"]), document["source"], document["mostFalseRows"]) == (5, "text: x", most_false(ROWS, 5))
    assert (
        json.loads(run("prove", "second.json", "--private", "kept", "-o", "second-proof.json", "--json"))["bytes"] > 0
    )


def test_what_needs_images_says_so_in_a_sentence(honest: House, tmp_path: Path) -> None:
    bundle = str(honest.bundle)
    for arguments, sentence in [
        (("verify", bundle, "--data", str(tmp_path)), "has private evidence, whose digests are salted"),
        (
            ("merge", bundle, bundle, "-o", str(tmp_path / "merged")),
            "has private evidence; merge the bundles with images",
        ),
    ]:
        code, output = invoke(*arguments)
        assert code == 1
        assert sentence in output
        assert output.count("\n") == 1
    code, output = invoke("verify", bundle)
    assert (code, "consistent but unsigned" in output) == (0, True)


def test_a_private_bundle_is_signed_and_released_like_any_other(honest: House, tmp_path: Path) -> None:
    """The signed copy beside a pipeline's out/ has exactly the private bundle's files."""
    key = tmp_path / "keys"
    assert invoke("keygen", str(key))[0] == 0
    (tmp_path / "dvc.yaml").write_text("stages: {}\n")
    out = shutil.copytree(honest.bundle, tmp_path / "out" / "bundle")
    assert invoke("sign", str(out), "--key", str(key / "key.pem"))[0] == 0
    release = tmp_path / "releases" / open_bundle(honest.bundle).version
    assert {item.name for item in release.iterdir()} == {*open_bundle(honest.bundle).files, "attestation.dsse.json"}
    code, output = invoke("verify", str(release), "--trust", str(key / "key.pub"))
    assert (code, "signed by" in output) == (0, True)
