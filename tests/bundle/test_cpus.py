"""CPUs of a container: its quota, in both versions of control groups, and the affinity above it."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from bundle.process import available_cpus

CORES = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


@pytest.mark.parametrize(
    ("limit", "cpus"),
    [
        ("max 100000", CORES),
        ("100000 100000", 1),
        ("50000 100000", 1),
        ("150000 100000", min(2, CORES)),
        ("99900000 100000", CORES),
        ("nonsense", CORES),
        ("0 0", CORES),
    ],
)
def test_version_2_says_quota_and_period_in_one_file(tmp_path: Path, limit: str, cpus: int) -> None:
    (tmp_path / "cpu.max").write_text(limit + "\n")
    assert available_cpus(tmp_path) == cpus


@pytest.mark.parametrize(("quota", "cpus"), [("-1", CORES), ("100000", 1), ("1000000000", CORES)])
def test_version_1_says_them_in_two(tmp_path: Path, quota: str, cpus: int) -> None:
    (tmp_path / "cpu").mkdir()
    (tmp_path / "cpu" / "cpu.cfs_quota_us").write_text(quota)
    (tmp_path / "cpu" / "cpu.cfs_period_us").write_text("100000")
    assert available_cpus(tmp_path) == cpus


def test_without_a_control_group_it_is_the_affinity(tmp_path: Path) -> None:
    assert available_cpus(tmp_path) == CORES
