"""Commands as a user runs them, in a session of their own, so that nothing of them is lost sight of; and their end by force."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO

ROOT = Path(__file__).resolve().parents[2]
#: Seconds that a command has to end in after a signal, and its children after it.
GRACE = 30.0
#: In turn: kill -9 of the process group, `kill` of the command alone as a supervisor does, Ctrl-C of a terminal.
SIGNALS = ("SIGKILL to the group", "SIGTERM", "SIGINT to the group")


class Fault(AssertionError):
    """Something did not hold; the message says what."""


@dataclass(frozen=True)
class Command:
    """A Python module, or `-c` and code, with its arguments; the folder that it runs in; a home of its own below `home`."""

    arguments: Sequence[str]
    folder: Path
    home: Path = field(kw_only=True)

    def environment(self) -> dict[str, str]:
        kept = {name: value for name, value in os.environ.items() if not name.startswith(("PYTHON", "DVC", "BENTOML"))}
        who = {f"GIT_{role}_{name}": "chaos" for role in ("AUTHOR", "COMMITTER") for name in ("NAME", "EMAIL")}
        places = {"BENTOML_HOME": str(self.home / "bentoml"), "TMPDIR": str(self.home / "tmp")}
        path = f"{Path(sys.executable).parent}{os.pathsep}{kept.get('PATH', '')}"
        return kept | who | places | {"PATH": path, "OMP_WAIT_POLICY": "PASSIVE", "GIT_CONFIG_GLOBAL": os.devnull}

    def start(self) -> Running:
        (self.home / "tmp").mkdir(parents=True, exist_ok=True)
        said = tempfile.TemporaryFile()  # noqa: SIM115  # closed when the command has ended
        command = [sys.executable, *(["-m"] if self.arguments[0] != "-c" else []), *self.arguments]
        process = subprocess.Popen(
            command, cwd=self.folder, env=self.environment(), stdin=subprocess.DEVNULL, stdout=said, stderr=said,
            start_new_session=True, preexec_fn=_hear_interrupts,
        )  # fmt: skip
        return Running(self, process, said)

    def run(self, code: int | None = 0) -> Ended:
        """Runs it to its end; raises Fault where it leaves a process behind, or its exit code is another."""
        ended = self.start().wait()
        if code is not None and ended.code != code:
            raise Fault(f"{self}: exit {ended.code} in place of {code}: {ended.said[-3000:]}")
        return ended

    def __str__(self) -> str:
        return " ".join(self.arguments if self.arguments[0] != "-c" else ["-c …", *self.arguments[2:]])


@dataclass(frozen=True)
class Ended:
    """Exit code, everything that was said, seconds."""

    code: int
    said: str
    seconds: float

    def sentence(self) -> str:
        """The one line that a refusal is; raises Fault where there is a traceback, or no refusal."""
        lines = [line for line in self.said.splitlines() if line.strip()]
        if "Traceback" in self.said or self.code != 1 or not lines:
            raise Fault(f"exit {self.code} and no sentence: {self.said[-3000:]}")
        return lines[-1]


@dataclass
class Running:
    """A command that was started."""

    command: Command
    process: subprocess.Popen[bytes]
    said: IO[bytes]
    begun: float = field(default_factory=time.monotonic)

    def wait(self) -> Ended:
        """Until it ends, and nothing of it is left; raises Fault where a process outlives it."""
        code = self.process.wait()
        seconds = time.monotonic() - self.begun
        if left := outliving(self.process.pid):
            for number in left:
                os.kill(number, signal.SIGKILL)
            raise Fault(f"{self.command}: left processes {left} behind")
        self.said.seek(0)
        text = self.said.read().decode("utf-8", "replace")
        self.said.close()
        return Ended(code, text, seconds)

    def end_after(self, seconds: float, how: str) -> bool:
        """Whether it still ran by then, and was ended; raises Fault where it does not end, or leaves a process."""
        try:
            self.process.wait(seconds)
        except subprocess.TimeoutExpired:
            _send(self.process.pid, how)
            try:
                self.process.wait(GRACE)
            except subprocess.TimeoutExpired:
                os.killpg(self.process.pid, signal.SIGKILL)
                raise Fault(f"{self.command}: still runs {GRACE:.0f} s after {how}") from None
            return True
        return False


def _hear_interrupts() -> None:
    """A shell has what it runs in the background ignore Ctrl-C."""
    signal.signal(signal.SIGINT, signal.SIG_DFL)


def _send(number: int, how: str) -> None:
    kind = signal.Signals[how.split()[0]]
    (os.killpg if how.endswith("group") else os.kill)(number, kind)


def outliving(session: int, seconds: float = GRACE) -> list[int]:
    """The processes of a session that still run, by number, after at most so many seconds."""
    until = time.monotonic() + seconds
    while (left := in_session(session)) and time.monotonic() < until:
        time.sleep(0.05)
    return left


def in_session(session: int) -> list[int]:
    """The processes of a session by number, without those that only wait to be noticed."""
    found: list[int] = []
    for path in Path("/proc").glob("[0-9]*/stat"):
        try:
            state, _, _, own = path.read_text().rpartition(")")[2].split()[:4]
        except (OSError, ValueError):  # ended meanwhile
            continue
        if int(own) == session and state != "Z":
            found.append(int(path.parent.name))
    return found
