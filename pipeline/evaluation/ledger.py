"""How often the test split was read: the models measured on it, in the order known here.

Each choice that follows a look at the test split weakens the next number. Known are the models that this working copy
has measured and those whose attestations are in git's history; experiments of other copies that nobody committed are
not.
"""

from __future__ import annotations

import fcntl
import json
from pathlib import Path

from bundle.digests import write_whole
from bundle.errors import HallmarkError
from bundle.git import GitError, ask
from bundle.layout import WEIGHTS

LEDGER = Path("checkpoints/test-reads.jsonl")
ATTESTATION = "out/bundle/attestation.json"
RULE = "models measured on this test split, in the order known to this working copy and its git history, up to this one"


def record_test_read(model: str, test: str, ledger: Path = LEDGER) -> None:
    """Notes that the model with this SHA-256 of weights.safetensors is measured on the test split with this SHA-256."""
    ledger.parent.mkdir(parents=True, exist_ok=True)
    with open(ledger.with_suffix(".lock"), "w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)  # several processes may measure at once
        known = _known(ledger)
        if (model, test) not in known:
            known.append((model, test))
            lines = [json.dumps({"model": one, "test": other}) + "\n" for one, other in known]
            write_whole(ledger, "".join(lines).encode())


def count_test_reads(model: str, test: str, ledger: Path = LEDGER) -> int:
    """The place of the model with these weights among those measured on this test split, from 1."""
    models = [one for one, other in _known(ledger) if other == test]
    return models.index(model) + 1 if model in models else len(models) + 1


def history_seen() -> bool:
    """Whether git's history is here, and all of it; else models that were measured before may be unknown."""
    return _git("rev-parse", "--is-shallow-repository").strip() == "false"


def _known(ledger: Path) -> list[tuple[str, str]]:
    """(model, test) pairs, oldest first: the ledger's, then those of the history that it lacks."""
    recorded = []
    if ledger.exists():
        try:
            entries = [json.loads(line) for line in ledger.read_text(encoding="utf-8").splitlines()]
            recorded = [(entry["model"], entry["test"]) for entry in entries]
        except (ValueError, KeyError, TypeError):
            raise HallmarkError(f"{ledger}: has a line that is no record of a test read; take it out") from None
    return list(dict.fromkeys([*recorded, *_history()]))


def _history() -> list[tuple[str, str]]:
    commits = _git("log", "--reverse", "--format=%H", "--", ATTESTATION).split()
    found = []
    for commit in commits:
        try:
            statement = json.loads(_git("cat-file", "blob", f"{commit}:./{ATTESTATION}"))
            test = statement["predicate"]["data"]["splits"]["test"]["sha256"]
            files = {item["name"]: item["sha256"] for item in statement["predicate"]["files"]}
            found.append((files[WEIGHTS], test))
        except (ValueError, KeyError, IndexError):
            continue  # the commit removed the file, or it is of another form
    return found


def _git(*arguments: str) -> str:
    """What git prints; nothing where there is no such file, nor where git cannot tell, which history_seen() says."""
    try:
        return ask(Path(), arguments).decode("utf-8", "replace")
    except GitError:
        return ""
