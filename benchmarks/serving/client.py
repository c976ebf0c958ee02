"""A load generator: HTTP/1.1 over kept connections, little enough work to leave the cores to the services."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from dataclasses import dataclass, field

BOUNDARY = "hallmark-benchmark"


def form(path: str, field_name: str, content: bytes) -> bytes:
    """The bytes of a POST request with one file in a multipart form."""
    head = (
        f'--{BOUNDARY}\r\nContent-Disposition: form-data; name="{field_name}"; filename="file"\r\n'
        "Content-Type: application/octet-stream\r\n\r\n"
    ).encode()
    body = head + content + f"\r\n--{BOUNDARY}--\r\n".encode()
    lines = [
        f"POST {path} HTTP/1.1",
        "Host: 127.0.0.1",
        f"Content-Type: multipart/form-data; boundary={BOUNDARY}",
        f"Content-Length: {len(body)}",
    ]
    return "\r\n".join([*lines, "", ""]).encode() + body


class Connection:
    """One kept connection to 127.0.0.1."""

    def __init__(self, port: int) -> None:
        self._port = port

    async def open(self) -> Connection:
        self._reader, self._writer = await asyncio.open_connection("127.0.0.1", self._port)
        return self

    async def ask(self, request: bytes) -> tuple[int, bytes]:
        """Status and body of the answer."""
        self._writer.write(request)
        head = await self._reader.readuntil(b"\r\n\r\n")
        length = next(int(line[15:]) for line in head.lower().split(b"\r\n") if line.startswith(b"content-length:"))
        return int(head[9:12]), await self._reader.readexactly(length)

    def close(self) -> None:
        self._writer.close()


@dataclass
class Load:
    """What came of many requests: seconds of each that was answered with 200, and how many had which status."""

    seconds: list[float] = field(default_factory=list)
    statuses: dict[int, int] = field(default_factory=dict)
    wall: float = 0.0
    wrong: int = 0


async def load(
    port: int, requests: list[bytes], clients: int, seconds: float, right: Callable[[int, bytes], bool]
) -> Load:
    """Has `clients` ask at once, each the next request as soon as the last is answered, for `seconds`.

    `right` says of a request's number and its answer's body whether it is the one expected.
    """
    found, started = Load(), time.perf_counter()

    async def client(first: int) -> None:
        connection, number = await Connection(port).open(), first
        while time.perf_counter() < started + seconds:
            asked = time.perf_counter()
            status, body = await connection.ask(requests[number])
            found.statuses[status] = found.statuses.get(status, 0) + 1
            if status == 200:
                found.seconds.append(time.perf_counter() - asked)
                found.wrong += not right(number, body)
            else:
                await asyncio.sleep(0.05)  # a client that is told to come back later does
            number = (number + 1) % len(requests)
        connection.close()

    await asyncio.gather(*(client(number % len(requests)) for number in range(clients)))
    found.wall = time.perf_counter() - started
    return found
