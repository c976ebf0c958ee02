"""Attestations in git: what out/bundle/attestation.json said at every tag, branch and commit. Only reads."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from bundle.git import GitError, ask, run
from bundle.layout import ATTESTATION

#: Relative to the folder that is asked about, which need not be the top of the repository.
COMMITTED = f"./out/bundle/{ATTESTATION}"
#: For what a remote is asked.
REMOTE_SECONDS = 30
KINDS = {"refs/tags/": "tag", "refs/heads/": "branch", "refs/remotes/": "branch"}


@dataclass(frozen=True)
class Committed:
    """The bytes of an attestation that a tag, branch or commit holds; `time` of a commit in seconds since 1970.

    `content` is None where git names the file but does not have its bytes, as in a partial clone.
    """

    kind: str
    name: str
    content: bytes | None
    time: int | None = None


def committed_attestations(root: Path) -> list[Committed]:
    """Every tag and branch of the repository around `root` that holds an attestation; newest first.

    Tags of the same second stand by their version numbers, the highest first. Raises GitError where git cannot tell.
    """
    sort = ["--sort=-version:refname", "--sort=-creatordate"]  # the last one is the first key
    references = _lines(root, ["for-each-ref", *sort, "--format=%(refname)", *KINDS])
    found: list[Committed] = []
    for reference, content in _attestations(root, references):
        prefix = next(prefix for prefix in KINDS if reference.startswith(prefix))
        found.append(Committed(KINDS[prefix], reference.removeprefix(prefix), content))
    return found


def attestation_commits(root: Path) -> list[Committed]:
    """Every commit of a branch or tag that changed the attestation, oldest first; those that took it away are left out.

    Raises GitError where git cannot tell.
    """
    wanted = ["--branches", "--tags", "--remotes", "--date-order", "--reverse", "--format=%H %ct", "--", COMMITTED]
    lines = [line.split() for line in _lines(root, ["log", *wanted])]
    times = {commit: int(time) for commit, time in lines}
    return [
        Committed("commit", commit[:10], content, times[commit]) for commit, content in _attestations(root, list(times))
    ]


def attestation_at(root: Path, commit: str) -> Committed | None:
    """What one commit holds; None where it holds none. Raises GitError where git cannot tell."""
    for _, content in _attestations(root, [commit]):
        if content is None:
            raise GitError(f"git does not have the content of {COMMITTED[2:]} in commit {commit[:10]}")
        return Committed("commit", commit[:10], content)
    return None


def unseen(root: Path) -> str | None:
    """Why git's history around `root` cannot be seen, or not all of it, in one sentence; None where all is there."""
    try:
        shallow = ask(root, ["rev-parse", "--is-shallow-repository"]).strip() == b"true"
    except GitError as error:
        return str(error)
    said = "git: the clone is shallow, so older commits and tags are not here; `git fetch --unshallow --tags`"
    return said if shallow else None


def missing_tags(root: Path) -> str | None:
    """Which tags of the repository's remotes are not here, or that a remote did not tell, in one sentence; else None."""
    try:
        here = {*_lines(root, ["tag", "--list"])}
        for remote in _lines(root, ["remote"]):
            listed = _lines(root, ["ls-remote", "--tags", "--refs", "--", remote], REMOTE_SECONDS)
            if lacking := sorted({line.partition("refs/tags/")[2] for line in listed} - here):
                return f"git: {len(lacking)} tags of {remote} are not here, {lacking[0]} among them; `git fetch --tags`"
    except GitError as error:
        return str(error)
    return None


def _lines(root: Path, arguments: Sequence[str], seconds: float | None = None) -> list[str]:
    return ask(root, arguments, seconds).decode("utf-8", "surrogateescape").splitlines()


def _attestations(root: Path, revisions: Sequence[str]) -> Iterator[tuple[str, bytes | None]]:
    """The revisions that hold an attestation, with its bytes; None for bytes that git does not have.

    One process reads them all. It names what is missing, but not why, and ends where a blob was never fetched: those
    are asked about one by one.
    """
    asked = "".join(f"{revision}:{COMMITTED}\n" for revision in revisions)
    done = run(root, ["cat-file", "--batch"], asked.encode("utf-8", "surrogateescape"))
    contents = _contents(done.stdout) if done.returncode == 0 else [None] * len(revisions)
    for revision, content in zip(revisions, contents, strict=True):
        if content is not None:
            yield revision, content
        elif ask(root, ["ls-tree", revision, "--", COMMITTED]).split()[1:2] == [b"blob"]:
            alone = run(root, ["cat-file", "blob", f"{revision}:{COMMITTED}"])
            yield revision, alone.stdout if alone.returncode == 0 else None


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
