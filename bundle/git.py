"""Git as every room asks it: nothing of a repository is run, and nothing is fetched.

A repository comes with a configuration of its own, by which whoever made it names programs: to check signatures
(gpg.program), to watch files (core.fsmonitor), hooks, pagers, editors, transports. Git protects its users from
repositories of other owners alone, not from an archive that they unpacked. So what a question could set going is turned
off in each, whatever the configuration says; that a tag of ours is signed is the business of the attestation's envelope.
"""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

#: Settings that outrank every file of configuration.
SAFE = {
    "color.ui": "false",
    "core.fsmonitor": "false",
    "core.hooksPath": os.devnull,
    "log.follow": "false",
    "log.showSignature": "false",
    "tag.forceSignAnnotated": "false",
    "tag.gpgSign": "false",
}
#: No locks are taken, nobody is asked, and, also in a partial clone, nothing is fetched.
QUIET = {
    "GIT_ALLOW_PROTOCOL": "none",
    "GIT_EDITOR": ":",
    "GIT_NO_LAZY_FETCH": "1",
    "GIT_OPTIONAL_LOCKS": "0",
    "GIT_TERMINAL_PROMPT": "0",
}


def run_git(root: Path, *arguments: str, stdin: bytes = b"") -> subprocess.CompletedProcess[bytes]:
    """Runs one of git's own commands in the folder `root`, which need not be the top of its repository.

    Returns what it printed and its exit code; raises OSError where git is not there.
    """
    settings = [part for name, value in SAFE.items() for part in ("-c", f"{name}={value}")]
    command = ["git", "--no-pager", *settings, "-C", str(root), *arguments]
    return subprocess.run(command, input=stdin, capture_output=True, env=os.environ | QUIET, check=False)
