"""From one version to the next: two real services, clients that keep asking, and not one request lost."""

from __future__ import annotations

import socket
import threading
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, closing
from pathlib import Path

import httpx

from tests.serving.conftest import running_service
from tests.serving.pictures import digit, png

CLIENTS = 4


class Route:
    """Where requests go, as a load balancer decides it; clients read it anew for each request."""

    def __init__(self, address: str) -> None:
        self.address = address
        self._closed = threading.Event()
        self.answers: list[list[httpx.Response]] = [[] for _ in range(CLIENTS)]
        self._news = threading.Condition()

    def ask(self, number: int) -> None:
        """One client: asks until the route is closed; a failed request raises and ends it."""
        with httpx.Client(timeout=30) as client:
            while not self._closed.is_set():
                answer = client.post(f"{self.address}/predict", files={"image": png(digit())})
                with self._news:
                    self.answers[number].append(answer)
                    self._news.notify_all()

    def close(self) -> None:
        """Ends every client after its request."""
        self._closed.set()

    def wait_until_all_have(self, version: str) -> None:
        """Waits until every client's last answer is of a version."""

        def have() -> bool:
            return all(own and own[-1].headers["X-Model-Version"] == version for own in self.answers)

        with self._news:
            assert self._news.wait_for(have, timeout=60)


class SlowRequest:
    """A request that is under way: its head and half of its body are sent, the rest when finish() is called."""

    def __init__(self, address: httpx.URL) -> None:
        request = httpx.Request("POST", address.join("/predict"), files={"image": png(digit())})
        body = request.read()
        head = "".join(f"{name}: {value}\r\n" for name, value in request.headers.items())
        self._rest = body[len(body) // 2 :]
        self._connection = socket.create_connection((address.host, address.port or 80), timeout=30)
        self._connection.sendall(f"POST /predict HTTP/1.1\r\n{head}\r\n".encode() + body[: len(body) // 2])

    def finish(self) -> bytes:
        """Sends the rest and returns the answer, to the end of the connection."""
        with self._connection as connection:
            connection.sendall(self._rest)
            return b"".join(iter(lambda: connection.recv(65536), b""))


def test_no_request_is_lost_between_two_versions(folders: Path, tmp_path: Path) -> None:
    successor = tmp_path / "new"
    successor.mkdir()
    (successor / "bundle").symlink_to(folders / "releases" / "sound")
    with (
        running_service(successor, tmp_path / "new.txt") as new,
        ExitStack() as first,
        ThreadPoolExecutor(CLIENTS + 1) as pool,
    ):
        old = first.enter_context(running_service(folders, tmp_path / "old.txt"))
        versions = [client.get("/readyz").headers["X-Model-Version"] for client in (old, new)]
        route = Route(str(old.base_url))
        asking = [pool.submit(route.ask, number) for number in range(CLIENTS)]
        with closing(route):
            route.wait_until_all_have(versions[0])
            unused = socket.create_connection((old.base_url.host, old.base_url.port or 80), timeout=30)
            slow = [SlowRequest(old.base_url) for _ in range(3)]
            route.address = str(new.base_url)
            route.wait_until_all_have(versions[1])  # which is what preStop's sleep is for
            ending = pool.submit(first.close)  # sends SIGTERM and waits
            with unused:
                assert unused.recv(1) == b""  # the old service has begun to end
            late = [request.finish() for request in slow]
        for future in (ending, *asking):
            future.result(timeout=60)
    for answer in late:
        assert answer.startswith(b"HTTP/1.1 200 OK") and f"x-model-version: {versions[0]}".encode() in answer
    for own in route.answers:
        assert {answer.status_code for answer in own} == {200}
        found = [answer.headers["X-Model-Version"] for answer in own]
        assert found == sorted(found, key=versions.index)
