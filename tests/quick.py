"""The tests that are over in a moment, in two processes: `make check`.

A new file in a folder of QUICK belongs to them by being there. What takes longer fails, and is then named in SLOW.
"""

from __future__ import annotations

import os
import sys
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).resolve().parents[1]
QUICK = [
    "tests/test_architecture.py",
    "tests/test_habits.py",
    "tests/bundle",
    "tests/hallmark/test_face.py",
    *(
        f"tests/audit/{name}.py"
        for name in (
            "test_client",
            "test_data",
            "test_plain_output",
            "test_documents",
            "test_signing",
            "versions/test_listing",
            "versions/test_show",
            "versions/test_versions",
        )
    ),
    *(
        f"tests/serving/test_{name}.py"
        for name in ("batcher", "explain", "images", "page", "private_evidence", "requests")
    ),
    *(f"tests/pipeline/{room}" for room in ("data", "methods", "networks")),
    *(f"tests/pipeline/attacks/test_{name}.py" for name in ("grid", "pgd", "square_onnx", "threat")),
    *(f"tests/pipeline/experiments/test_{name}.py" for name in ("plan", "published", "result", "tables")),
    "tests/pipeline/test_params.py",
    "tests/pipeline/test_stage.py",
]
#: In folders of QUICK, and not quick.
SLOW = [
    *(
        f"tests/bundle/{name}.py"
        for name in ("pages/test_headline", "test_limits", "served/test_model_file", "test_verification", "test_whole")
    ),
    "tests/pipeline/methods/test_device.py",
    "tests/pipeline/methods/test_ibp.py",
    *(f"tests/pipeline/networks/test_{name}.py" for name in ("external", "networks", "serialisation")),
]
#: CPU seconds that a file may take, several times what the slowest of QUICK takes.
LIMIT = 10.0


class Clock:
    """Counts the CPU seconds of this process, and of those that it waited for, by test file; a worker tells its own."""

    def __init__(self) -> None:
        self.seconds = Counter[str]()

    @pytest.hookimpl(wrapper=True)
    def pytest_runtest_protocol(self, item: pytest.Item) -> Iterator[None]:
        begun = _spent()
        done = yield
        self.seconds[item.path.relative_to(ROOT).as_posix()] += _spent() - begun
        return done

    def pytest_sessionfinish(self, session: pytest.Session) -> None:
        if hasattr(session.config, "workeroutput"):
            session.config.workeroutput["seconds"] = dict(self.seconds)

    @pytest.hookimpl(optionalhook=True)
    def pytest_testnodedown(self, node: Any) -> None:
        self.seconds.update(node.workeroutput.get("seconds", {}))

    def late(self, limit: float = LIMIT) -> list[str]:
        """A sentence for each file that took longer."""
        return [
            f"{name}: took {seconds:.0f} s of CPU, a quick file may take {limit:.0f}: name it in SLOW of tests/quick.py"
            for name, seconds in self.seconds.items()
            if seconds > limit
        ]


def _spent() -> float:
    return sum(os.times()[:4])


CLOCK = Clock()


def pytest_configure(config: pytest.Config) -> None:
    """This module is a plugin of each process."""
    config.pluginmanager.register(CLOCK)


def main() -> None:
    """Runs them; exits with 1 where one failed or took too long. Arguments are pytest's further ones."""
    ignored = [f"--ignore={name}" for name in SLOW]
    two = ["-n", "2", "--dist", "loadfile", "-p", "tests.quick"]
    failed = pytest.main(["-q", *two, *ignored, *sys.argv[1:], *QUICK])
    late = CLOCK.late()
    print(*late, sep="\n", end="\n" if late else "", file=sys.stderr)
    sys.exit(failed or bool(late))


if __name__ == "__main__":
    from tests import quick  # the module that is the plugin

    quick.main()
