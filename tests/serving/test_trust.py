"""Which bundles may be served here: signatures, the operator's policy, and a host that answers as attested."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest

from bundle.bundle import open_bundle
from bundle.errors import HallmarkError
from bundle.layout import ATTESTATION, ENVELOPE
from bundle.signatures import SignatureError, generate_key, read_envelope, sign
from serving.model.trust import check_trust
from serving.served import open_checked
from serving.settings import Settings
from tests.audit.tampering import rewrite, unbreak
from tests.bundles import make_bundle
from tests.serving.conftest import REPOSITORY, free_port


@pytest.fixture(scope="module")
def keys(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("keys")
    for name in ("release", "stranger"):
        generate_key(folder / name)
    return folder


@pytest.fixture(scope="module")
def signed(keys: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A bundle that `release` signed."""
    folder = make_bundle(tmp_path_factory.mktemp("signed") / "bundle")
    envelope = sign((folder / ATTESTATION).read_bytes(), keys / "release" / "key.pem")
    (folder / ENVELOPE).write_bytes(envelope)
    return folder


def _settings(bundle: Path, **given: str) -> Settings:
    return replace(Settings(bundle=bundle, threads=1, device="cpu"), **given)


def test_a_signature_by_a_trusted_key_is_told_by_its_name(signed: Path, keys: Path) -> None:
    trust = os.pathsep.join(str(keys / name / "key.pub") for name in ("stranger", "release"))
    opened = open_checked(_settings(signed, trust=trust, require_signature="yes"))
    told = opened.trust.describe()
    assert told["signed_by"]["name"] == "release" and len(told["signed_by"]["key_id"]) == 64
    assert told["policy"] is None


def test_another_key_and_no_signature_are_refused(signed: Path, keys: Path, folders: Path) -> None:
    with pytest.raises(SignatureError, match=r"not among the trusted keys|not signed by"):
        open_checked(_settings(signed, trust=str(keys / "stranger")))
    with pytest.raises(SignatureError, match=r"attestation.dsse.json: is missing"):
        open_checked(_settings(folders / "bundle", trust=str(keys / "release")))


def test_a_signature_cannot_be_required_of_nobody(signed: Path) -> None:
    with pytest.raises(HallmarkError, match=r"^trust: must name the public keys"):
        _settings(signed, require_signature="yes")


@pytest.mark.parametrize(
    ("policy", "refusal"),
    [
        ("tier: standard\nflags: 0\n", None),
        ("tier: thorough\n", "tier: standard, must be thorough or more"),
        ("metrics: [{metric: clean_accuracy, setting: served, min: 0.999}]\n", "clean_accuracy served: 0."),
        ("not_worse: {margin: 2}\n", "HALLMARK_BASELINE must name the bundle"),
    ],
)
def test_the_operators_policy_decides(signed: Path, tmp_path: Path, policy: str, refusal: str | None) -> None:
    file = tmp_path / "policy.yaml"
    file.write_text(policy)
    settings = _settings(signed, policy=str(file))
    if refusal is None:
        assert open_checked(settings).trust.describe()["policy"]["rules"] == 2
        return
    with pytest.raises(HallmarkError, match=refusal):
        open_checked(settings)


def test_a_policy_may_compare_with_a_baseline(signed: Path, keys: Path, folders: Path, tmp_path: Path) -> None:
    """The keys that a policy names by their id are those of the settings."""
    file = tmp_path / "policy.yaml"
    file.write_text(f"not_worse: {{margin: 50}}\nsigned_by: [{_key_id(signed)}]\n")
    settings = _settings(
        signed, policy=str(file), baseline=str(folders / "releases" / "sound"), trust=str(keys / "release" / "key.pub")
    )
    told = open_checked(settings).trust.describe()
    assert told["policy"]["rules"] == 2


def _key_id(signed: Path) -> str:
    bundle = open_bundle(signed)
    assert bundle.envelope is not None
    return read_envelope(bundle.envelope, bundle.statement_bytes)[0].key_id


def test_a_service_whose_answers_moved_does_not_start(folders: Path, tmp_path: Path) -> None:
    """The attestation is consistent, but says of broken images that the model has them right: it is another's."""
    bundle = shutil.copytree(folders / "bundle", tmp_path / "bundle")
    rewrite(bundle, outcomes=unbreak("served/linf-16/margin", slice(None)))
    ended = subprocess.run(
        [sys.executable, "-m", "serving", "--bundle", bundle, "--device", "cpu", "--port", free_port()],
        cwd=REPOSITORY,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert ended.returncode == 1
    [line] = ended.stderr.splitlines()
    assert line.startswith("self-check: ") and "closest verdicts differ on this host (CPUExecutionProvider)" in line
    with pytest.raises(HallmarkError, match="serve it where it answers as attested"):
        open_checked(_settings(bundle))


def test_another_thread_count_than_the_bundles_is_told_beside_it(folders: Path) -> None:
    opened = open_checked(replace(_settings(folders / "bundle"), threads=3))
    host = opened.host()
    assert (host["threads"], host["attested"]["threads"]) == (3, 2)
    assert host["moved"] <= host["allowed"] and not host["fell_back"]


def test_nothing_is_asked_where_nothing_is_set(signed: Path) -> None:
    opened = open_checked(_settings(signed))
    assert check_trust(_settings(signed), opened.bundle).describe() == {"signed_by": None, "policy": None}
