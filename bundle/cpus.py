"""How many CPUs this process may use, which in a container is fewer than the machine has."""

from __future__ import annotations

import os
from pathlib import Path

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
