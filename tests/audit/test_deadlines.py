"""A service that answers slowly, for ever, or with more than it attests does not hold whoever audits it."""

from __future__ import annotations

import shutil
import socket
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import replace
from pathlib import Path

import pytest

from audit import connection
from audit.client import Client, ClientError
from audit.live.service import fetch_verified
from bundle.bundle import open_bundle
from bundle.digests import canonical_json
from bundle.errors import HallmarkError
from bundle.layout import ATTESTATION, MODEL, WEIGHTS
from tests.audit.conftest import Masters
from tests.audit.services import Exchange, answering
from tests.audit.tampering import rewrite

HEAD = b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\n"


@contextmanager
def sending(pieces: Callable[[], Iterator[bytes]]) -> Iterator[str]:
    """The URL of a server that sends these pieces, one after another, to whoever connects."""
    listener = socket.create_server(("127.0.0.1", 0))

    def serve() -> None:
        with suppress(OSError):
            while True:
                client, _ = listener.accept()
                with client, suppress(OSError):
                    client.recv(65536)
                    for piece in pieces():
                        client.sendall(piece)

    thread = threading.Thread(target=serve, daemon=True)
    thread.start()
    try:
        yield f"http://127.0.0.1:{listener.getsockname()[1]}"
    finally:
        listener.close()


def slow_body() -> Iterator[bytes]:
    yield HEAD + b"Content-Length: 100000\r\n\r\n"
    while True:
        time.sleep(0.1)
        yield b" "


def slow_head() -> Iterator[bytes]:
    yield b"HTTP/1.1 200 OK\r\nX-Slow: "
    while True:
        time.sleep(0.1)
        yield b"a"


def continued() -> Iterator[bytes]:
    while True:
        time.sleep(0.001)
        yield b"HTTP/1.1 100 Continue\r\n\r\n" * 20


def trailers() -> Iterator[bytes]:
    yield HEAD + b"Transfer-Encoding: chunked\r\n\r\n2\r\n{}\r\n0\r\n"
    while True:
        time.sleep(0.001)
        yield b"X-More: 1\r\n" * 20


@pytest.mark.parametrize("pieces", [slow_body, slow_head, continued, trailers])
def test_an_answer_has_a_deadline(pieces: Callable[[], Iterator[bytes]], monkeypatch: pytest.MonkeyPatch) -> None:
    """The longest silence is thirty seconds, and none of these is silent."""
    monkeypatch.setattr(connection, "ANSWER_SECONDS", 0.6)
    with sending(pieces) as url, Client(url) as client:
        started = time.monotonic()
        with pytest.raises(ClientError, match=r"/robustness: took longer than 0\.6 seconds for its answer"):
            client.robustness()
        assert 0.5 < time.monotonic() - started < 10


def test_everything_together_has_a_deadline() -> None:
    with sending(slow_body) as url, Client(url, within=0.6) as client:
        for _ in range(2):
            started = time.monotonic()
            with pytest.raises(ClientError, match=r"did not answer everything within 0\.6 seconds"):
                client.robustness()
            assert time.monotonic() - started < 10


def test_a_busy_service_is_not_awaited_beyond_the_deadline() -> None:
    busy = Exchange("GET", "/", b"", status=503, headers={"Retry-After": "30"})
    with answering(lambda asked: replace(busy, path=asked.path)) as url, Client(url, within=0.5) as client:
        started = time.monotonic()
        with pytest.raises(ClientError, match="did not answer everything within"):
            client.robustness()
        assert time.monotonic() - started < 10


def test_a_file_has_a_second_more_for_its_bytes(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(connection, "ANSWER_SECONDS", 0.1)
    body = b"x" * (256 << 10)

    def pieces() -> Iterator[bytes]:
        named = b"".join(b"X-Model-%s: %s\r\n" % item for item in ((b"Digest", b"0" * 64), (b"Version", b"0" * 12)))
        yield HEAD + named + b"Content-Length: %d\r\n\r\n" % len(body) + body[:-1]
        time.sleep(0.5)
        yield body[-1:]

    with sending(pieces) as url, Client(url) as client:
        assert client.evidence(MODEL, 4 * len(body)) == body
    with sending(pieces) as url, Client(url) as client, pytest.raises(ClientError, match="took longer than"):
        client._connection.get(f"/evidence/{MODEL}", len(body))


@pytest.mark.parametrize(("size", "sentence"), [(10**15, "it may have 2147483648 at most"), (5000, "more than 5000")])
def test_no_more_is_fetched_than_is_attested_and_granted(
    masters: Masters, tmp_path: Path, size: int, sentence: str
) -> None:
    """An endless body behind an attested size: refused before a byte of it, or after the last attested one."""
    folder = shutil.copytree(masters.unsigned, tmp_path / "bundle")
    honest = open_bundle(folder)
    rewrite(folder, predicate=lambda it: next(x for x in it["files"] if x["name"] == WEIGHTS).update(size=size))
    attestation = (folder / ATTESTATION).read_bytes()
    headers = {"X-Model-Digest": honest.digest, "X-Model-Version": honest.version}
    asked: list[str] = []

    def answer(exchange: Exchange) -> Exchange:
        asked.append(exchange.path)
        name = exchange.path.rpartition("/")[2]
        files = {ATTESTATION: attestation, WEIGHTS: b"x" * 50_000, "attestation": canonical_json({"envelope": None})}
        content = files[name] if name in files else (folder / name).read_bytes()
        return replace(exchange, headers=headers, body=content)

    with answering(answer) as url, Client(url) as client, pytest.raises(HallmarkError) as error:
        fetch_verified(client, [], None)
    assert sentence in str(error.value)
    assert any(path.endswith(WEIGHTS) for path in asked) == (size == 5000)
