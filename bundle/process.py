"""What every process of ours sets up before it works: its output, usage reports, compiled code, its end.

And how many CPUs it may use, which in a container is fewer than the machine has.

Output takes every character: what its encoding lacks is written in plain ones. Redirected output has the system's encoding,
on Windows cp1252 for one, which holds no ∞ and no −.

Usage reports of the libraries underneath are all off. Each of them reads its variable when it is imported or first used, so
every room's __init__ says so before it imports anything else. A variable that is set already stays as it is.
"""

from __future__ import annotations

import codecs
import contextlib
import ctypes
import io
import os
import re
import shutil
import signal
import sys
import unicodedata
from pathlib import Path

PLAIN = {
    **{"∞": "inf", "−": "-", "–": "-", "—": "-", "×": "x", "·": "*", "±": "+/-", "‖": "||", "…": "...", "√": "sqrt"},
    **{"≥": ">=", "≤": "<=", "≠": "!=", "≈": "~", "→": "->", "←": "<-", "█": "#", "░": ".", "⚑": "!", "•": "*"},
    **{"‘": "'", "’": "'", "“": '"', "”": '"', "\N{NO-BREAK SPACE}": " ", "⁻": "-", "\N{COMBINING TILDE}": "~"},
    "\N{COMBINING CIRCUMFLEX ACCENT}": "^",
}
GREEK = re.compile(r"GREEK (SMALL|CAPITAL) LETTER (\w+)")


def plain_streams() -> None:
    """Has standard output and error write what spelled() says where their encoding lacks a character; nothing raises.

    Every command calls it first.
    """
    codecs.register_error("spelled", _spell)
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="spelled")


def spelled(char: str) -> str:
    """One character in ASCII: `>=` for ≥, `epsilon` for ε, `2` for ², `e` for é; else Python's escape, such as `\\u72ac`."""
    if char in PLAIN:
        return PLAIN[char]
    if greek := GREEK.fullmatch(unicodedata.name(char, "")):
        return greek[2].capitalize() if greek[1] == "CAPITAL" else greek[2].lower()
    parts = unicodedata.normalize("NFKD", char)
    bare = "".join(part for part in parts if unicodedata.category(part) != "Mn")
    # An accent may go; a sign's stroke is its meaning.
    if bare.isascii() and bare.isalnum() and unicodedata.category(char)[0] in "LN":
        return bare
    return char.encode("ascii", "backslashreplace").decode("ascii")


def plain(value: object) -> str:
    """Text that cannot steer a terminal: what is not printable is shown as an escape. Bundles may come from anybody."""
    return "".join(char if char.isprintable() else ascii(char)[1:-1] for char in str(value))


def _spell(error: UnicodeError) -> tuple[str, int]:
    if not isinstance(error, UnicodeEncodeError):
        raise error
    return "".join(map(spelled, error.object[error.start : error.end])), error.end


OFF = {
    "ORT_DISABLE_TELEMETRY": "1",  # ONNX Runtime: an id of the device, the model's names and hashes, errors
    "BENTOML_DO_NOT_TRACK": "True",  # BentoML: commands, the machine, how long a service runs
    "DVC_NO_ANALYTICS": "1",  # DVC: commands; .dvc/config has its look for a newer version off as well
}


def set_up() -> None:
    """What every room's __init__ does first: usage reports off, and no compiled code on a full disk."""
    turn_off()
    spare_full_disk()


def turn_off() -> None:
    """Sets the variables, for this process and those that it starts."""
    for variable, value in OFF.items():
        os.environ[variable] = os.environ.get(variable) or value


#: Bytes free below which no compiled code is written; that of all rooms takes less.
SPARE = 16_000_000


def spare_full_disk() -> None:
    """Has this process write no compiled code where the disk that this code is on is nearly full.

    CPython before 3.12.8 and 3.13.1 keeps a compiled file that a full disk cut off (its issue 126606): every later start,
    with room too, would end in `EOFError: marshal data too short`.
    """
    try:
        free = shutil.disk_usage(Path(__file__).parent).free
    except OSError:
        return
    if free < SPARE:
        sys.dont_write_bytecode = True


#: Linux's prctl option that a process is sent a signal when its parent ends.
PR_SET_PDEATHSIG = 1


def end_with(parent: int) -> None:
    """This process is killed when its parent is; raises SystemExit where that has ended already."""
    if sys.platform == "linux":
        with contextlib.suppress(OSError):
            ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGKILL)
    if os.getppid() != parent:
        raise SystemExit(1)


def end_with_dvc() -> None:
    """A stage that DVC runs ends with it: the next `dvc repro` would be refused until the orphan is through."""
    if "DVC_STAGE" in os.environ:
        end_with(os.getppid())


#: Where a container's own control group is mounted.
CGROUP = Path("/sys/fs/cgroup")


def available_cpus(cgroup: Path = CGROUP) -> int:
    """Whole CPUs that this process may use, ≥ 1: the smaller of its affinity and its control group's quota.

    A quota of part of a CPU counts as a whole one: 2.5 CPUs are 3 threads, which the scheduler holds to 2.5.
    """
    quota = _quota(cgroup)
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    return cores if quota is None else max(1, min(cores, quota))


def _quota(cgroup: Path) -> int | None:
    """CPUs of the quota, rounded up; None where there is none. Version 2 has one file, version 1 two."""
    try:
        limit, period = (cgroup / "cpu.max").read_text().split()
    except (OSError, ValueError):
        try:
            limit, period = ((cgroup / "cpu" / name).read_text() for name in ("cpu.cfs_quota_us", "cpu.cfs_period_us"))
        except OSError:
            return None
    try:
        return -(-int(limit) // int(period)) if int(limit) > 0 else None
    except (ValueError, ZeroDivisionError):  # "max"
        return None
