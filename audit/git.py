"""Git, asked: what it prints, or in one sentence why it cannot tell."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Sequence
from pathlib import Path

from bundle.errors import HallmarkError

#: No locks are taken, nothing is fetched in a partial clone, nobody is asked for a password; sentences are English.
QUIET = {"GIT_OPTIONAL_LOCKS": "0", "GIT_NO_LAZY_FETCH": "1", "GIT_TERMINAL_PROMPT": "0", "LC_ALL": "C"}


class GitError(HallmarkError):
    """Git is not there or did not answer; the message says what it said. It is never a sign that there is nothing."""


def run(
    root: Path, arguments: Sequence[str], stdin: bytes = b"", seconds: float | None = None
) -> subprocess.CompletedProcess[bytes]:
    """Runs git in the folder `root`, whatever its exit code; raises GitError where it cannot be run, or takes longer."""
    command = ["git", "-C", str(root), *arguments]
    try:
        return subprocess.run(
            command, input=stdin, capture_output=True, env=os.environ | QUIET, check=False, timeout=seconds
        )
    except OSError as error:
        raise GitError(f"git cannot be run here ({error.strerror})") from None
    except subprocess.TimeoutExpired:
        raise GitError(f"git {arguments[0]}: did not answer in {seconds:g} s") from None


def ask(root: Path, arguments: Sequence[str], seconds: float | None = None) -> bytes:
    """What git prints; raises GitError with what it said where it fails."""
    done = run(root, arguments, seconds=seconds)
    if done.returncode:
        raise GitError(f"git {arguments[0]}: {_said(done.stderr)}")
    return done.stdout


def _said(stderr: bytes) -> str:
    """The line that names the fault; advice and warnings stand around it."""
    lines = [line.strip() for line in stderr.decode("utf-8", "replace").splitlines() if line.strip()]
    faults = [line for line in lines if line.startswith(("fatal: ", "error: "))]
    return (faults or lines or ["failed"])[0].removeprefix("fatal: ").removeprefix("error: ")
