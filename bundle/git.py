"""Git as every room asks it: nothing of a repository is run, and nothing is fetched.

A repository comes with a configuration of its own, by which whoever made it names programs: to check signatures
(gpg.program), to watch files (core.fsmonitor), hooks, pagers, editors, transports. Git protects its users from
repositories of other owners alone, not from an archive that they unpacked. So what a question could set going is turned
off in each, whatever the configuration says; that a tag of ours is signed is the business of the attestation's envelope.
"""

from __future__ import annotations

import os
import subprocess
from collections.abc import Mapping, Sequence
from pathlib import Path

from bundle.errors import HallmarkError

#: Settings that outrank every file of configuration.
SAFE = {
    "color.ui": "false",
    "core.fsmonitor": "false",
    "core.hooksPath": os.devnull,
    "credential.helper": "",
    "log.follow": "false",
    "log.showSignature": "false",
    "tag.forceSignAnnotated": "false",
    "tag.gpgSign": "false",
}
#: No locks are taken, nobody is asked, and, also in a partial clone, nothing is fetched; sentences are English.
QUIET = {
    "GIT_ALLOW_PROTOCOL": "none",
    "GIT_EDITOR": ":",
    "GIT_NO_LAZY_FETCH": "1",
    "GIT_OPTIONAL_LOCKS": "0",
    "GIT_TERMINAL_PROMPT": "0",
    "LC_ALL": "C",
}


#: Asking a remote: by transports that run nothing but git's own programs and ssh, whatever the configuration names.
REMOTE = {"GIT_ALLOW_PROTOCOL": "file:http:https:ssh", "GIT_ASKPASS": "true", "GIT_SSH_COMMAND": "ssh -oBatchMode=yes"}


class GitError(HallmarkError):
    """Git is not there or did not answer; the message says what it said. It is never a sign that there is nothing."""


def run(
    root: Path, arguments: Sequence[str], stdin: bytes = b"", seconds: float | None = None
) -> subprocess.CompletedProcess[bytes]:
    """Runs one of git's own commands in the folder `root`, which need not be the top of its repository.

    Whatever the exit code; raises GitError where git cannot be run, or takes longer than `seconds`.
    """
    return _run(root, arguments, QUIET, stdin, seconds)


def remote_tags(root: Path, remote: str, seconds: float) -> list[str]:
    """The tags of a remote, which is asked and from which nothing is fetched; raises GitError where it does not tell."""
    asked = ["ls-remote", "--tags", "--refs", "--upload-pack=git-upload-pack", "--", remote]
    lines = _printed(asked, _run(root, asked, QUIET | REMOTE, b"", seconds)).decode("utf-8", "surrogateescape")
    return [line.partition("refs/tags/")[2] for line in lines.splitlines()]


def _run(
    root: Path, arguments: Sequence[str], environment: Mapping[str, str], stdin: bytes, seconds: float | None
) -> subprocess.CompletedProcess[bytes]:
    settings = [part for name, value in SAFE.items() for part in ("-c", f"{name}={value}")]
    command = ["git", "--no-pager", *settings, "-C", str(root), *arguments]
    try:
        return subprocess.run(
            command, input=stdin, capture_output=True, env={**os.environ, **environment}, check=False, timeout=seconds
        )
    except OSError as error:
        raise GitError(f"git cannot be run here ({error.strerror})") from None
    except subprocess.TimeoutExpired:
        raise GitError(f"git {arguments[0]}: did not answer in {seconds:g} s") from None


def ask(root: Path, arguments: Sequence[str], seconds: float | None = None) -> bytes:
    """What git prints; raises GitError with what it said where it fails."""
    return _printed(arguments, run(root, arguments, seconds=seconds))


def _printed(arguments: Sequence[str], done: subprocess.CompletedProcess[bytes]) -> bytes:
    if done.returncode:
        raise GitError(f"git {arguments[0]}: {_said(done.stderr)}")
    return done.stdout


def _said(stderr: bytes) -> str:
    """The line that names the fault; advice and warnings stand around it."""
    lines = [line.strip() for line in stderr.decode("utf-8", "replace").splitlines() if line.strip()]
    faults = [line for line in lines if line.startswith(("fatal: ", "error: "))]
    return (faults or lines or ["failed"])[0].removeprefix("fatal: ").removeprefix("error: ")
