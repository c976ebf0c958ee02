"""How often a test split was read: in the ledger, and in git's history."""

from __future__ import annotations

import json
import subprocess
from pathlib import Path

import pytest

from bundle.errors import HallmarkError
from pipeline.evaluation.ledger import ATTESTATION, LEDGER, count_test_reads, history_seen, record_test_read

TEST, OTHER = "a" * 64, "b" * 64


def model(number: int) -> str:
    return f"{number:064x}"


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder that git does not look beyond."""
    monkeypatch.chdir(tmp_path)
    for name in ("GIT_DIR", "GIT_WORK_TREE", "GIT_INDEX_FILE"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("GIT_CEILING_DIRECTORIES", str(tmp_path.parent))
    return tmp_path


def git(*arguments: str) -> None:
    identity = ["-c", "user.name=t", "-c", "user.email=t@example.org", "-c", "commit.gpgsign=false"]
    subprocess.run(["git", *identity, *arguments], check=True, capture_output=True)


def commit_attestation(content: str) -> None:
    path = Path(ATTESTATION)
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(content)
    git("add", "-f", ATTESTATION)
    git("commit", "-m", "a model")


def statement(number: int, test: str = TEST) -> str:
    files = [{"name": "weights.safetensors", "sha256": model(number)}, {"name": "network.json", "sha256": "0" * 64}]
    return json.dumps({"predicate": {"data": {"splits": {"test": {"sha256": test}}}, "files": files}})


def test_the_first_model_is_the_first_without_ledger_or_git():
    assert count_test_reads(model(1), TEST) == 1


def test_models_count_in_the_order_in_which_they_were_measured():
    for number in (5, 3, 8):
        record_test_read(model(number), TEST)
    assert [count_test_reads(model(number), TEST) for number in (5, 3, 8)] == [1, 2, 3]
    assert count_test_reads(model(9), TEST) == 4, "one that is not recorded would be the next"


def test_measuring_the_same_model_again_does_not_count():
    for _ in range(3):
        record_test_read(model(1), TEST)
        record_test_read(model(2), TEST)
    assert (count_test_reads(model(1), TEST), count_test_reads(model(2), TEST)) == (1, 2)
    assert len(Path("checkpoints/test-reads.jsonl").read_text().splitlines()) == 2


def test_another_test_split_counts_by_itself():
    record_test_read(model(1), TEST)
    record_test_read(model(1), OTHER)
    record_test_read(model(2), OTHER)
    assert count_test_reads(model(2), OTHER) == 2 and count_test_reads(model(2), TEST) == 2
    assert count_test_reads(model(1), OTHER) == 1


def test_models_of_gits_history_count_oldest_first():
    git("init", "-q")
    commit_attestation(statement(1))
    commit_attestation(statement(2))
    commit_attestation(statement(7, OTHER))
    assert count_test_reads(model(1), TEST) == 1
    assert count_test_reads(model(2), TEST) == 2
    assert count_test_reads(model(3), TEST) == 3
    assert count_test_reads(model(7), OTHER) == 1


def test_ledger_and_history_are_put_together_without_counting_twice():
    git("init", "-q")
    commit_attestation(statement(1))
    record_test_read(model(1), TEST)
    record_test_read(model(2), TEST)
    commit_attestation(statement(2))
    commit_attestation(statement(3))
    assert [count_test_reads(model(number), TEST) for number in (1, 2, 3, 4)] == [1, 2, 3, 4]
    Path("checkpoints/test-reads.jsonl").unlink()
    assert [count_test_reads(model(number), TEST) for number in (1, 2, 3, 4)] == [1, 2, 3, 4]


def test_a_place_once_given_stays_when_others_follow():
    record_test_read(model(1), TEST)
    before = count_test_reads(model(1), TEST)
    record_test_read(model(2), TEST)
    assert count_test_reads(model(1), TEST) == before == 1


def test_commits_that_removed_or_broke_the_file_are_passed_over():
    git("init", "-q")
    commit_attestation(statement(1))
    commit_attestation("not json")
    commit_attestation('{"predicate": {}}')
    git("rm", "-q", ATTESTATION)
    git("commit", "-m", "removed")
    commit_attestation(statement(2))
    assert count_test_reads(model(2), TEST) == 2


def test_a_history_that_is_not_all_here_is_not_taken_for_empty(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    assert not history_seen(), "no repository"
    git("init", "-q")
    assert history_seen(), "one without a commit"
    commit_attestation(statement(1))
    commit_attestation(statement(2))
    assert history_seen()
    git("clone", "-q", "--depth", "1", tmp_path.as_uri(), "shallow")
    monkeypatch.chdir("shallow")
    assert (count_test_reads(model(2), TEST), history_seen()) == (1, False)
    monkeypatch.setenv("PATH", "")
    assert not history_seen(), "no git"


def test_a_damaged_ledger_is_one_sentence():
    LEDGER.parent.mkdir(parents=True, exist_ok=True)
    LEDGER.write_text('{"model": 1')
    with pytest.raises(HallmarkError, match=r"test-reads\.jsonl: has a line that is no record of a test read"):
        count_test_reads(model(1), TEST)
