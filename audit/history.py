"""Attestations in git: what out/bundle/attestation.json said at every tag and branch. Only reads."""

from __future__ import annotations

import os
import subprocess
from dataclasses import dataclass
from pathlib import Path

from bundle.layout import ATTESTATION

#: Relative to the folder that is asked about, which need not be the top of the repository.
COMMITTED = f"./out/bundle/{ATTESTATION}"
KINDS = {"refs/tags/": "tag", "refs/heads/": "branch", "refs/remotes/": "branch"}


@dataclass(frozen=True)
class Committed:
    """The bytes of an attestation that a tag or branch holds."""

    kind: str
    name: str
    content: bytes


def committed_attestations(root: Path) -> list[Committed]:
    """Every tag and branch of the repository around `root` that holds an attestation; newest first.

    Empty where there is no repository, or no git.
    """
    listed = _git(root, ["for-each-ref", "--sort=-creatordate", "--format=%(refname)", *KINDS], b"")
    references = listed.decode("utf-8", "surrogateescape").splitlines()
    asked = "".join(f"{reference}:{COMMITTED}\n" for reference in references)
    answers = _git(root, ["cat-file", "--batch"], asked.encode("utf-8", "surrogateescape"))
    found: list[Committed] = []
    for reference, content in zip(references, _contents(answers), strict=False):
        prefix = next(prefix for prefix in KINDS if reference.startswith(prefix))
        if content is not None:
            found.append(Committed(KINDS[prefix], reference.removeprefix(prefix), content))
    return found


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
    # No locks are taken and, in a partial clone, nothing is fetched.
    quiet = {"GIT_OPTIONAL_LOCKS": "0", "GIT_NO_LAZY_FETCH": "1", "GIT_TERMINAL_PROMPT": "0"}
    try:
        done = subprocess.run(
            ["git", "-C", str(root), *arguments], input=stdin, capture_output=True, env=os.environ | quiet, check=False
        )
    except OSError:
        return b""
    return done.stdout if done.returncode == 0 else b""
