"""Attestations in git: what out/bundle/attestation.json said at every tag, branch and commit. Only reads."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from bundle.git import run_git
from bundle.layout import ATTESTATION

#: Relative to the folder that is asked about, which need not be the top of the repository.
COMMITTED = f"./out/bundle/{ATTESTATION}"
KINDS = {"refs/tags/": "tag", "refs/heads/": "branch", "refs/remotes/": "branch"}


@dataclass(frozen=True)
class Committed:
    """The bytes of an attestation that a tag, branch or commit holds; `time` of a commit in seconds since 1970."""

    kind: str
    name: str
    content: bytes
    time: int | None = None


def committed_attestations(root: Path) -> list[Committed]:
    """Every tag and branch of the repository around `root` that holds an attestation; newest first.

    Tags of the same second stand by their version numbers, the highest first. Empty where there is no repository, or no
    git.
    """
    sort = ["--sort=-version:refname", "--sort=-creatordate"]  # the last one is the first key
    listed = _git(root, ["for-each-ref", *sort, "--format=%(refname)", *KINDS], b"")
    references = listed.decode("utf-8", "surrogateescape").splitlines()
    found: list[Committed] = []
    for reference, content in zip(references, _attestations(root, references), strict=False):
        prefix = next(prefix for prefix in KINDS if reference.startswith(prefix))
        if content is not None:
            found.append(Committed(KINDS[prefix], reference.removeprefix(prefix), content))
    return found


def attestation_commits(root: Path) -> list[Committed]:
    """Every commit of a branch or tag that changed the attestation, oldest first; those that took it away are left out."""
    wanted = ["--branches", "--tags", "--remotes", "--date-order", "--reverse", "--format=%H %ct", "--", COMMITTED]
    lines = [line.split() for line in _git(root, ["log", *wanted], b"").decode().splitlines()]
    contents = _attestations(root, [commit for commit, _ in lines])
    return [
        Committed("commit", commit[:10], content, int(time))
        for (commit, time), content in zip(lines, contents, strict=False)
        if content is not None
    ]


def _attestations(root: Path, revisions: Sequence[str]) -> list[bytes | None]:
    asked = "".join(f"{revision}:{COMMITTED}\n" for revision in revisions)
    return _contents(_git(root, ["cat-file", "--batch"], asked.encode("utf-8", "surrogateescape")))


def _contents(answers: bytes) -> list[bytes | None]:
    """What `git cat-file --batch` answered to each line: `OID blob SIZE` and the bytes, or one line `… missing`."""
    contents: list[bytes | None] = []
    while answers:
        header, _, answers = answers.partition(b"\n")
        fields = header.split(b" ")
        if fields[-1] == b"missing" or not fields[-1].isdigit():
            contents.append(None)
            continue
        size = int(fields[-1])
        contents.append(answers[:size] if fields[-2] == b"blob" else None)
        answers = answers[size + 1 :]
    return contents


def _git(root: Path, arguments: list[str], stdin: bytes) -> bytes:
    try:
        done = run_git(root, *arguments, stdin=stdin)
    except OSError:
        return b""
    return done.stdout if done.returncode == 0 else b""
