"""Many bad requests against a running service, with a good neighbour beside them.

Nothing may be answered with 5xx (503 with Retry-After apart), no worker may end, and the neighbour's answers, which are
checked against the ONNX file, may not change.
"""

from __future__ import annotations

import asyncio
import json
from collections import Counter
from dataclasses import dataclass, field
from typing import Any

from tests.serving.mutations import Sources, request

#: What the HTTP server says itself where a request is no HTTP.
NO_HTTP = b"Invalid HTTP request received."


@dataclass
class Found:
    """Answers by status, what was wrong with answers, and the good neighbour's answers."""

    statuses: Counter[int | str] = field(default_factory=Counter)
    faults: list[str] = field(default_factory=list)
    neighbour: int = 0


async def fuzz(
    port: int, given: Sources, good: bytes, expected: dict[str, Any], *, seed: int, numbers: range, clients: int = 8
) -> Found:
    """Sends the requests of these numbers; `good` is a whole request whose answer must be `expected` every time."""
    found, waiting, ended = Found(), iter(numbers), asyncio.Event()

    async def client() -> None:
        for number in waiting:
            await _attack(port, request(given, seed, number), number, found)

    async def neighbour() -> None:
        while not ended.is_set():
            status, body = await _ask(port, good)
            if status != 200 or not _same(json.loads(body), expected):
                found.faults.append(f"the neighbour was answered with {status}: {body[:200]!r}")
            found.neighbour += 1

    beside = asyncio.create_task(neighbour())
    await asyncio.gather(*(client() for _ in range(clients)))
    ended.set()
    await beside
    return found


async def _attack(port: int, content: bytes, number: int, found: Found) -> None:
    try:
        async with asyncio.timeout(60):
            status, body = await _ask(port, content)
    except TimeoutError:
        found.faults.append(f"request {number} hangs")
        return
    except (ConnectionError, asyncio.IncompleteReadError):
        found.statuses["closed"] += 1  # what was sent was no whole request
        return
    found.statuses[status] += 1
    if fault := _fault(status, body):
        found.faults.append(f"request {number}: {status}, {fault}: {body[:300]!r}")


def _fault(status: int, body: bytes) -> str | None:
    """What is wrong with an answer, or None."""
    if status >= 500 and status != 503:
        return "a failure of the service"
    if status < 400 or not body or body == NO_HTTP:
        return None
    try:
        problem = json.loads(body)
        said = problem["type"].startswith("urn:hallmark:problem:") and problem["status"] == status and problem["detail"]
    except (ValueError, KeyError, TypeError):
        return "no problem document"
    return None if said else "a problem document that does not fit"


async def _ask(port: int, content: bytes) -> tuple[int, bytes]:
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    try:
        writer.write(content)
        head = (await reader.readuntil(b"\r\n\r\n")).lower()
        length = next((line[15:] for line in head.split(b"\r\n") if line.startswith(b"content-length:")), None)
        if content.startswith(b"HEAD"):
            return int(head[9:12]), b""
        return int(head[9:12]), await (reader.read() if length is None else reader.readexactly(int(length)))
    finally:
        writer.close()


def _same(answer: dict[str, Any], expected: dict[str, Any]) -> bool:
    near = all(abs(answer["probabilities"][name] - share) < 1e-5 for name, share in expected["probabilities"].items())
    return answer["class"] == expected["class"] and near
