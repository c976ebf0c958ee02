"""Attestations in git: what out/bundle/attestation.json said at every tag, branch and commit. Only reads."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

from bundle.git import GitError, ask, remote_tags, run
from bundle.layout import ATTESTATION, STATEMENT_BYTES

T = TypeVar("T")

#: Relative to the folder that is asked about, which need not be the top of the repository.
COMMITTED = f"./out/bundle/{ATTESTATION}"
#: Bytes of all attestations together that are read from git at once.
HISTORY_BYTES = 512 << 20
LIMITS = f"one may have {STATEMENT_BYTES} at most and all of them together {HISTORY_BYTES}"
#: For what a remote is asked.
REMOTE_SECONDS = 30
KINDS = {"refs/tags/": "tag", "refs/heads/": "branch", "refs/remotes/": "branch"}


@dataclass(frozen=True)
class Committed:
    """The bytes of an attestation that a tag, branch or commit holds; `time` of a commit in seconds since 1970.

    `content` is None where git names the file but does not have its bytes, as in a partial clone, or where it is larger
    than an attestation may be; `refusal` then says so.
    """

    kind: str
    name: str
    content: bytes | None
    time: int | None = None
    refusal: str = ""


def committed_attestations(root: Path) -> list[Committed]:
    """Every tag and branch of the repository around `root` that holds an attestation; newest first.

    Tags of the same second stand by their version numbers, the highest first. Raises GitError where git cannot tell.
    """
    sort = ["--sort=-version:refname", "--sort=-creatordate"]  # the last one is the first key
    references = _lines(root, ["for-each-ref", *sort, "--format=%(refname)", *KINDS])
    found: list[Committed] = []
    for reference, content, refusal in _attestations(root, references):
        prefix = next(prefix for prefix in KINDS if reference.startswith(prefix))
        found.append(Committed(KINDS[prefix], reference.removeprefix(prefix), content, refusal=refusal))
    return found


def attestation_commits(root: Path) -> list[Committed]:
    """Every commit of a branch or tag that changed the attestation, oldest first; those that took it away are left out.

    Raises GitError where git cannot tell.
    """
    wanted = ["--branches", "--tags", "--remotes", "--date-order", "--reverse", "--format=%H %ct", "--", COMMITTED]
    lines = [line.split() for line in _lines(root, ["log", *wanted])]
    times = {commit: int(time) for commit, time in lines}
    return [
        Committed("commit", commit[:10], content, times[commit], refusal)
        for commit, content, refusal in _attestations(root, list(times))
    ]


def attestation_at(root: Path, commit: str) -> Committed | None:
    """What one commit holds; None where it holds none. Raises GitError where git cannot tell."""
    for _, content, refusal in _attestations(root, [commit]):
        if content is None:
            raise GitError(f"commit {commit[:10]}: {refusal}")
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
            if lacking := sorted({*remote_tags(root, remote, REMOTE_SECONDS)} - here):
                return f"git: {len(lacking)} tags of {remote} are not here, {lacking[0]} among them; `git fetch --tags`"
    except GitError as error:
        return str(error)
    return None


def _lines(root: Path, arguments: Sequence[str]) -> list[str]:
    return ask(root, arguments).decode("utf-8", "surrogateescape").splitlines()


def _attestations(root: Path, revisions: Sequence[str]) -> Iterator[tuple[str, bytes | None, str]]:
    """The revisions that hold an attestation, with its bytes; None, and why, where git has no bytes or too many.

    One process tells all sizes and one reads what is small enough. They name what is missing, but not why, and end where
    a blob was never fetched: those are asked about one by one.
    """
    names = [f"{revision}:{COMMITTED}" for revision in revisions]
    sizes = _answered(root, "--batch-check", names, _sizes)
    small = _small(names, sizes)
    contents = dict(zip(small, _answered(root, "--batch", small, _contents), strict=True))
    for revision, name, size in zip(revisions, names, sizes, strict=True):
        if size is not None and name not in contents:
            yield revision, None, f"{COMMITTED[2:]} has {size} bytes there, {LIMITS}"
        elif (content := contents.get(name)) is not None:
            yield revision, content, ""
        elif ask(root, ["ls-tree", revision, "--", COMMITTED]).split()[1:2] == [b"blob"]:
            yield revision, *_one_blob(root, name)


def _answered(root: Path, how: str, names: Sequence[str], read: Callable[[bytes], list[T | None]]) -> list[T | None]:
    """What one process answers to every name; None for all where it does not come to its end."""
    done = run(root, ["cat-file", how], "".join(f"{name}\n" for name in names).encode("utf-8", "surrogateescape"))
    return read(done.stdout) if done.returncode == 0 else [None] * len(names)


def _one_blob(root: Path, name: str) -> tuple[bytes | None, str]:
    """One blob's bytes where git has them."""
    absent = f"git does not have the content of {COMMITTED[2:]} there"
    size = run(root, ["cat-file", "-s", name])
    if size.returncode or int(size.stdout) > STATEMENT_BYTES:
        return None, absent if size.returncode else f"{COMMITTED[2:]} has {int(size.stdout)} bytes there, {LIMITS}"
    found = run(root, ["cat-file", "blob", name])
    return (None, absent) if found.returncode else (found.stdout, "")


def _small(names: Sequence[str], sizes: Sequence[int | None]) -> list[str]:
    """The names of blobs that are no larger than an attestation may be, as far as all of them may take room."""
    found: list[str] = []
    left = HISTORY_BYTES
    for name, size in zip(names, sizes, strict=True):
        if size is not None and size <= min(left, STATEMENT_BYTES):
            found.append(name)
            left -= size
    return found


def _sizes(answers: bytes) -> list[int | None]:
    """What `git cat-file --batch-check` answers to each line: `OID blob SIZE`, or another kind, or `… missing`."""
    lines = [line.rsplit(b" ", 2) for line in answers.splitlines()]
    return [int(line[2]) if line[1:2] == [b"blob"] and line[2].isdigit() else None for line in lines]


def _contents(answers: bytes) -> list[bytes | None]:
    """What `git cat-file --batch` answers to each line about a blob: `OID blob SIZE` and the bytes."""
    contents: list[bytes | None] = []
    place = 0
    while place < len(answers):
        end = answers.index(b"\n", place)
        fields = answers[place:end].rsplit(b" ", 2)
        size = int(fields[2]) if fields[1:2] == [b"blob"] else None
        contents.append(None if size is None else answers[end + 1 : end + 1 + size])
        place = end + 1 if size is None else end + size + 2
    return contents
