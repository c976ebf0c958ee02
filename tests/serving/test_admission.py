"""Room for bodies: by the bytes that arrived, given back when a request ends, and not for those who keep it waiting."""

from __future__ import annotations

import asyncio
import socket
import time
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path

import httpx
import pytest
from starlette.testclient import TestClient

from serving.exchange import ModelHeaders, Problem
from serving.input import bodies as limits
from serving.input.bodies import GRACE_SECONDS, Admission
from serving.routes import create_app
from serving.served import Served
from tests.serving.conftest import running_service
from tests.serving.pictures import digit, png

PNG = png(digit())


def test_room_is_given_back_when_a_request_ends_whether_well_or_not() -> None:
    admission = Admission(100)
    with admission.room() as first, admission.room() as second:
        first.take(60)
        with pytest.raises(Problem, match="send the request again later") as refusal:
            second.take(41)
        assert refusal.value.status == 503 and refusal.value.headers == {"Retry-After": "1"}
        second.take(40)
    with pytest.raises(RuntimeError), admission.room() as room:
        room.take(100)
        raise RuntimeError("the request failed")
    with admission.room() as first, admission.room() as second:
        first.take(99)
        second.take(1)


def test_a_request_alone_is_let_in_however_large() -> None:
    admission = Admission(10)
    with admission.room() as alone, admission.room() as other:
        alone.take(500)
        alone.take(500)
        with pytest.raises(Problem):
            other.take(1)


def test_a_body_that_has_not_arrived_in_time_makes_room(monkeypatch: pytest.MonkeyPatch) -> None:
    """The one that began first; one that is answered already keeps its room, and so does one that is quick."""
    monkeypatch.setattr(limits, "GRACE_SECONDS", 0.1)
    admission = Admission(100)

    async def arrive(size: int) -> None:
        with admission.room() as room:
            async with room.arriving(30):
                room.take(size)
                await asyncio.sleep(10)

    async def ask() -> BaseException | None:
        with admission.room() as answered, admission.room() as newcomer:
            answered.take(50)
            slow = [asyncio.create_task(arrive(20)) for _ in range(2)]
            await asyncio.sleep(0.05)
            with pytest.raises(Problem, match="as many bodies as it may"):
                newcomer.take(30)
            for room in [*admission._rooms]:
                room._began -= 0.2  # as if time had passed, of which they had enough by their rate
            newcomer.take(30)
            await asyncio.wait(slow, timeout=0.01)
            assert [task.done() for task in slow] == [True, False]
            assert answered.held == 50
            slow[1].cancel()
            return slow[0].exception()

    error = asyncio.run(ask())
    assert isinstance(error, Problem) and error.kind == "slow-body" and "others need its room" in error.detail


@pytest.mark.parametrize(
    ("pieces", "seconds", "detail"),
    [
        ([], 30, "body: arrives too slowly; send at least 1000 bytes per second."),
        ([10, 10, 10, 10], 30, "body: arrives too slowly; send at least 1000 bytes per second."),
        ([100_000], 1, "body: did not arrive within 1 seconds."),
        ([400, 400], 30, None),
    ],
)
def test_a_body_must_keep_a_rate(
    monkeypatch: pytest.MonkeyPatch, pieces: list[int], seconds: int, detail: str | None
) -> None:
    monkeypatch.setattr(limits, "GRACE_SECONDS", 0.3)
    monkeypatch.setattr(limits, "RATE", 1000)

    async def ask() -> None:
        with Admission(1 << 20).room() as room:
            async with room.arriving(seconds):
                for size in pieces:
                    room.take(size)
                    await asyncio.sleep(0.2)
                await asyncio.sleep(10 * (detail is not None))

    if detail is None:
        asyncio.run(ask())
    else:
        with pytest.raises(Problem) as refusal:
            asyncio.run(ask())
        assert (refusal.value.kind, refusal.value.detail) == ("slow-body", detail)


def test_the_service_sends_away_what_it_has_no_room_for(served: Served) -> None:
    """A large body under way takes the room; a small one that comes meanwhile is told when to come again."""
    app = create_app()
    app.state.served = replace(served, admission=Admission(1000))
    with TestClient(ModelHeaders(app, app.state)) as client:
        files = {"image": PNG}
        with app.state.served.admission.room() as room:
            room.take(900)
            refused = client.post("/predict", files=files)
        assert refused.status_code == 503 and refused.headers["retry-after"] == "1"
        assert refused.json()["type"] == "urn:hallmark:problem:busy"
        assert client.post("/predict", files=files).status_code == 200
        assert app.state.served.admission._held == 0


@pytest.fixture
def small(folders: Path, tmp_path: Path) -> Iterator[httpx.Client]:
    """A service with room for a hundred kilobytes."""
    with running_service(folders, tmp_path / "log.txt", HALLMARK_BODY_BYTES="100000") as service:
        yield service


@pytest.mark.parametrize("length", ["Content-Length: 10485760", "Transfer-Encoding: chunked"])
def test_clients_that_only_announce_bodies_take_no_room(small: httpx.Client, length: str) -> None:
    """Nor do they keep their connections; those that send nearly all of a body make room when others need it."""
    head = f"POST /predict HTTP/1.1\r\nHost: x\r\nContent-Type: image/png\r\n{length}\r\n\r\n".encode()
    address = (small.base_url.host, small.base_url.port or 80)
    with ExitStack() as opened:
        idle = [opened.enter_context(socket.create_connection(address, timeout=20)) for _ in range(60)]
        for connection in idle:
            connection.sendall(head)
        began = time.monotonic()
        assert small.post("/predict", files={"image": PNG}).status_code == 200
        for connection in idle:
            assert connection.recv(65536).startswith(b"HTTP/1.1 408")
        assert GRACE_SECONDS - 2 < time.monotonic() - began < GRACE_SECONDS + 10


def test_bodies_that_stop_before_their_end_do_not_keep_the_room(small: httpx.Client) -> None:
    head = b"POST /predict HTTP/1.1\r\nHost: x\r\nContent-Type: image/png\r\nContent-Length: 99950\r\n\r\n"
    address = (small.base_url.host, small.base_url.port or 80)
    with socket.create_connection(address, timeout=20) as full:
        full.sendall(head + bytes(99_900))
        time.sleep(0.5)
        assert small.post("/predict", files={"image": PNG}).status_code == 503
        time.sleep(GRACE_SECONDS)
        assert small.post("/predict", files={"image": PNG}).status_code == 200
        assert b"others need its room" in full.recv(65536) + full.recv(65536)
