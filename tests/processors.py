"""The tests that train or compare floating point, under imitated processors: `make test-processors`.

Libraries choose their kernels by the processor, and every kernel sums in another order: the same seeds give other weights.
Environment variables make them choose those of others. What they cannot imitate: ONNX Runtime's own choice, other sizes of
caches, and everything that is not x86.
"""

from __future__ import annotations

import os
import subprocess
import sys
import time
from typing import Annotated

import typer

from bundle.command_line import run_command

PROCESSORS = {
    "SSE4.1, 1 thread": {
        "ATEN_CPU_CAPABILITY": "default",
        "ONEDNN_MAX_CPU_ISA": "SSE41",
        "MKL_CBWR": "COMPATIBLE",
        "OMP_NUM_THREADS": "1",
    },
    "AVX2, 2 threads": {"ATEN_CPU_CAPABILITY": "avx2", "ONEDNN_MAX_CPU_ISA": "AVX2", "OMP_NUM_THREADS": "2"},
    "AVX-512 without bf16, BLAS for Haswell, 1 thread": {
        "ONEDNN_MAX_CPU_ISA": "AVX512_CORE",
        "OPENBLAS_CORETYPE": "Haswell",
        "OMP_NUM_THREADS": "1",
    },
    "this processor, BLAS for Nehalem, 2 threads": {"OPENBLAS_CORETYPE": "Nehalem", "OMP_NUM_THREADS": "2"},
}
#: None of them is taken over from the caller's environment.
CHOICES = {name for settings in PROCESSORS.values() for name in settings}
#: A test that trains, or compares what two kernels, batches or libraries computed, belongs into one of these.
TESTS = [
    *(
        f"tests/pipeline/{room}"
        for room in ("attacks", "certification", "evaluation", "methods", "networks", "training")
    ),
    *(f"tests/pipeline/test_{name}.py" for name in ("evaluate", "reattack", "rerun")),
    "tests/bundle/test_square.py",
    "tests/serving/test_service.py",
    "tests/audit/live/test_judging.py",
    "tests/audit/test_page.py",
    "tests/test_line.py",
]


def try_as(settings: dict[str, str], tests: list[str]) -> subprocess.CompletedProcess[str]:
    """Pytest on these files and folders in a process with these variables."""
    environment = {name: value for name, value in os.environ.items() if name not in CHOICES} | settings
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", *tests]
    return subprocess.run(
        command, env=environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, check=False
    )


def main(
    tests: Annotated[list[str] | None, typer.Argument(help="Files and folders; by default those that compute.")] = None,
) -> None:
    """A line for each processor, what failed before it; exits with 1 where one failed."""
    failed = False
    for name, settings in PROCESSORS.items():
        begun = time.monotonic()
        done = try_as(settings, tests or TESTS)
        if done.returncode:
            failed = True
            print(done.stdout)
        print(f"{name}: {'FAILED' if done.returncode else 'passed'} in {time.monotonic() - begun:.0f} s", flush=True)
    sys.exit(failed)


if __name__ == "__main__":
    run_command(main)
