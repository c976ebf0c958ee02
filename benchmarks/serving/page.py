"""The page of the numbers."""

from __future__ import annotations

import statistics
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from benchmarks.serving.__main__ import Crowd

MEBIBYTE = 1 << 20


def render(
    batches: Mapping[str, Sequence[float]],
    singles: Mapping[str, Sequence[float]],
    crowds: Mapping[str, Crowd],
    *,
    seconds: int,
    clients: int,
    batch: int,
    threads: int,
    machine: str,
    onnxruntime: str,
) -> str:
    """Markdown: images per second, milliseconds of single requests, and the crowd."""
    return f"""# The service beside a plain one and a bare loop

One run, the same ONNX file for all, {threads} threads of ONNX Runtime {onnxruntime} on a CPU ({machine}); services, bare
loop and clients share the same cores. {len(next(iter(batches.values())))} rounds, their order alternating. FastAPI is the
plainest service that one would write (benchmarks/serving/plain.py): it checks nothing.

## Batches of {batch}: preact_resnet18 of width 64, 32 × 32 × 3, one client

| what | images/s, median | range | of the bare loop, median | range |
|---|---:|---:|---:|---:|
{_ratios(batches)}

## Single PNG files: the digits model, one client

| what | median of a request | range over rounds | above the bare call |
|---|---:|---:|---:|
{_above(singles)}

## {clients} clients at once for {seconds} s: the digits model, one PNG a request

| what | answers/s | median | 99 % | other than 200 | wrong rows | memory, second quarter | last quarter |
|---|---:|---:|---:|---|---:|---:|---:|
{_crowds(crowds)}

A row is wrong where its class is not the bare session's, or a probability differs from it by 0.00001 or more.

`python -m benchmarks.serving`
"""


def _ratios(found: Mapping[str, Sequence[float]]) -> str:
    bare = next(iter(found.values()))
    return "\n".join(
        f"| {name} | {statistics.median(values):.1f} | {_range(values, 1)} | {statistics.median(shares):.3f} | "
        f"{_range(shares, 3)} |"
        for name, values, shares in ((name, values, _shares(values, bare)) for name, values in found.items())
    )


def _shares(values: Sequence[float], bare: Sequence[float]) -> list[float]:
    return [value / other for value, other in zip(values, bare, strict=True)]


def _above(found: Mapping[str, Sequence[float]]) -> str:
    bare = next(iter(found.values()))
    return "\n".join(
        f"| {name} | {statistics.median(values):.2f} ms | {_range(values, 2)} ms | "
        f"{statistics.median([value - other for value, other in zip(values, bare, strict=True)]):.2f} ms |"
        for name, values in found.items()
    )


def _crowds(found: Mapping[str, Crowd]) -> str:
    return "\n".join(_crowd(name, crowd) for name, crowd in found.items())


def _crowd(name: str, crowd: Crowd) -> str:
    load, quarter = crowd.load, len(crowd.memory) // 4
    others = ", ".join(f"{count} × {status}" for status, count in sorted(load.statuses.items()) if status != 200)
    early, late = crowd.memory[quarter : 2 * quarter], crowd.memory[-quarter:]
    cells: list[Any] = [
        name,
        f"{len(load.seconds) / load.wall:.0f}",
        f"{1000 * np.median(load.seconds):.0f} ms",
        f"{1000 * np.quantile(load.seconds, 0.99):.0f} ms",
        others or "none",
        load.wrong,
        f"{statistics.median(early) / MEBIBYTE:.1f} MiB",
        f"{statistics.median(late) / MEBIBYTE:.1f} MiB",
    ]
    return f"| {' | '.join(map(str, cells))} |"


def _range(values: Sequence[float], digits: int) -> str:
    return f"{min(values):.{digits}f} to {max(values):.{digits}f}"
