"""What Hallmark is built from: the locks, known weaknesses of what they name, and its licences."""

from __future__ import annotations

from pathlib import Path

from packaging.utils import canonicalize_name
from pip_requirements_parser import RequirementsFile

ROOT = Path(__file__).parents[2]
#: What `make` installs, and what a bento installs on a CPU and with CUDA.
LOCKS = ("requirements.lock", "deploy/cpu.txt", "deploy/cuda.txt")


def locked(*locks: str) -> list[tuple[str, str]]:
    """Every (name, version) that these locks name, for whatever machine; raises ValueError for a line that is no pin."""
    found: set[tuple[str, str]] = set()
    for lock in locks or LOCKS:
        parsed = RequirementsFile.from_file(str(ROOT / lock))
        loose = [item.name for item in parsed.requirements if not item.is_pinned]
        if parsed.invalid_lines or loose:
            raise ValueError(f"{lock}: every line must be NAME==VERSION, look at {loose or parsed.invalid_lines[0]}")
        found |= {(canonicalize_name(item.name), item.get_pinned_version) for item in parsed.requirements}
    return sorted(found)
