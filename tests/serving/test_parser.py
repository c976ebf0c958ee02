"""Requests as they are on the wire: offers to upgrade, whole URLs as targets, heads without an end."""

from __future__ import annotations

import re
import shutil
import socket
import subprocess
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from pathlib import Path
from types import SimpleNamespace

import httpx
import pytest

from serving.parser import HEAD_BYTES, HEAD_SECONDS, UNREAD_SECONDS, PlainHTTP, in_origin_form
from tests.serving.conftest import running_service
from tests.serving.pictures import digit, multipart, png

PNG = png(digit())
BODY, KIND = multipart("image", PNG)
#: What curl --http2 and standard clients send to a plain-text address, and what a browser's script does.
OFFERS = {
    "h2c": ["Connection: Upgrade, HTTP2-Settings", "Upgrade: h2c", "HTTP2-Settings: AAMAAABkAAQCAAAAAAIAAAAA"],
    "websocket": ["Connection: keep-alive, Upgrade", "Upgrade: websocket", "Sec-WebSocket-Version: 13"],
    "several": ["Connection: upgrade", "Upgrade: h2c, websocket, IRC/6.9"],
}
CURL = [path for path in (shutil.which("curl"),) if path]


def _request(*headers: str, target: str = "/predict", body: bytes = BODY, kind: str = KIND) -> bytes:
    lines = [f"POST {target} HTTP/1.1", "Host: x", *headers, f"Content-Type: {kind}", f"Content-Length: {len(body)}"]
    return "\r\n".join([*lines, "", ""]).encode() + body


def _exchange(service: httpx.Client, *pieces: bytes) -> bytes:
    """What comes back on one connection until the service closes it, with a pause between the pieces that are sent."""
    address = (service.base_url.host, service.base_url.port or 80)
    with socket.create_connection(address, timeout=20) as connection:
        for number, piece in enumerate(pieces):
            time.sleep(0.2 * bool(number))
            connection.sendall(piece)
        return connection.makefile("rb").read()


#: A plain request, after which the service closes the connection.
LAST = _request("Connection: close")


def _statuses(answers: bytes) -> list[str]:
    return [status.decode() for status in re.findall(rb"HTTP/1\.1 (\d{3}) ", answers)]


@pytest.mark.parametrize("offer", OFFERS)
def test_an_offer_to_upgrade_is_passed_over(service: httpx.Client, offer: str) -> None:
    expected = service.post("/predict", files={"image": PNG}).content
    answered = _exchange(service, _request(*OFFERS[offer]), LAST)
    assert _statuses(answered) == ["200", "200"]
    assert answered.count(expected) == 2 and b"upgrade" not in answered.lower()


@pytest.mark.parametrize("offer", OFFERS)
def test_a_body_behind_an_offer_is_never_taken_for_a_request(service: httpx.Client, offer: str) -> None:
    """The body is a whole request by itself, which a proxy in front has not seen as one."""
    hidden = b"GET /attestation HTTP/1.1\r\nHost: x\r\n\r\n"
    request = _request(*OFFERS[offer], body=hidden, kind="image/png")
    for pieces in ((request,), (request[: -len(hidden)], hidden)):
        answered = _exchange(service, *pieces, LAST)
        assert _statuses(answered) == ["415", "200"] and b"not an image of a known format" in answered


def test_a_body_in_chunks_behind_an_offer_is_read(service: httpx.Client) -> None:
    head = "\r\n".join(
        ["POST /predict HTTP/1.1", "Host: x", *OFFERS["h2c"], f"Content-Type: {KIND}", "Transfer-Encoding: chunked"]
    )
    chunks = [b"%x\r\n%s\r\n" % (len(part), part) for part in (BODY[:50], BODY[50:])]
    assert _statuses(_exchange(service, head.encode() + b"\r\n\r\n", *chunks, b"0\r\n\r\n", LAST)) == ["200", "200"]


@pytest.mark.parametrize("curl", CURL)
@pytest.mark.parametrize("version", ["--http2", "--http1.1", "--http1.0"])
def test_curl_gets_the_same_answer_whatever_it_offers(
    service: httpx.Client, curl: str, version: str, tmp_path: Path
) -> None:
    file = tmp_path / "digit.png"
    file.write_bytes(PNG)
    command = [curl, "--silent", "--noproxy", "*", version, "-F", f"image=@{file}", f"{service.base_url}/predict"]
    answered = subprocess.run(command, capture_output=True, timeout=30, check=False)
    assert answered.stdout == service.post("/predict", files={"image": PNG}).content


def test_a_whole_url_is_the_path_in_it(service: httpx.Client) -> None:
    address = f"http://{service.base_url.netloc.decode()}"
    requests = [_request(target=target) for target in (f"{address}/predict", "HTTP://x/predict?explain=no")]
    page = f"GET {address} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n".encode()
    answered = _exchange(service, *requests, page)
    assert _statuses(answered) == ["200", "400", "200"] and b"bad-query" in answered


@pytest.mark.parametrize(
    ("target", "path"),
    [
        ("http://x/a%20b/c", "/a b/c"),
        ("https://x", "/"),
        ("http://x/", "/"),
        ("/http://x/a", "/http://x/a"),
        ("*", "*"),
    ],
)
def test_a_path_is_taken_out_of_a_target(target: str, path: str) -> None:
    assert in_origin_form({"path": target, "raw_path": target.encode()})["path"] == path


@pytest.mark.parametrize("line", ["CONNECT x:443", "OPTIONS *"])
def test_a_target_that_is_no_path_gets_a_problem(service: httpx.Client, line: str) -> None:
    answered = _exchange(service, f"{line} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n".encode())
    assert _statuses(answered) == ["404"] and b"application/problem+json" in answered
    assert b"x-model-version" in answered


@pytest.mark.parametrize(
    "head",
    [
        b"X-Long: " + b"a" * 17 * 1024,
        b"X-Long: " + b"a" * 700 * 1024,
        b"X: y\r\n" * 4000 + b"\r\n",
        b"X-Long: " + b"a" * HEAD_BYTES + b"\r\n\r\n",
    ],
    ids=["no end", "large without end", "many lines", "one line"],
)
def test_a_head_that_is_too_long_is_refused_however_it_comes(service: httpx.Client, head: bytes) -> None:
    """At once and in pieces; the client gets to see the answer."""
    start = b"GET /healthz HTTP/1.1\r\nHost: x\r\n"
    for pieces in ((start + head,), (start, head[:9000], head[9000:])):
        answered = _exchange(service, *pieces)
        assert _statuses(answered) == ["431"] and answered.endswith(b"head is larger than 16384 bytes.")
    assert service.get("/healthz").status_code == 200


def test_a_head_up_to_the_limit_is_taken(service: httpx.Client) -> None:
    start = b"GET /healthz HTTP/1.1\r\nHost: x\r\nConnection: close\r\nX-Long: "
    assert _statuses(_exchange(service, start + b"a" * (HEAD_BYTES - len(start) - 4) + b"\r\n\r\n")) == ["200"]


def _dribble(connection: socket.socket, seconds: float) -> bytes:
    """Sends a byte every half second and returns what came back when the service closed, or after some seconds."""
    answered, end = b"", time.monotonic() + seconds
    connection.settimeout(0.5)
    while time.monotonic() < end:
        try:
            connection.sendall(b"a")
            answered += (piece := connection.recv(65536))
            if not piece:
                return answered
        except TimeoutError:
            continue
        except ConnectionError:
            return answered
    raise AssertionError("the connection is still open")


def test_whoever_owes_something_for_too_long_is_closed_and_disturbs_nobody(service: httpx.Client) -> None:
    """No byte, a slow head, the rest of a body that is answered already, a slow second head; each on many connections."""
    address = (service.base_url.host, service.base_url.port or 80)
    second = b"GET /healthz HTTP/1.1\r\nHost: x\r\n\r\nGET / HTTP/1.1\r\nX-Slow: "
    begun = {
        b"GET / HTTP/1.1\r\nX-Slow: ": ["408"],
        b"POST /robustness HTTP/1.1\r\nHost: x\r\nContent-Length: 100000000\r\n\r\n": ["405"],
        second: ["200", "408"],
    }
    with ExitStack() as opened, ThreadPoolExecutor(len(begun)) as pool:
        silent = [opened.enter_context(socket.create_connection(address, timeout=20)) for _ in range(300)]
        slow = []
        for start in begun:
            slow.append(opened.enter_context(socket.create_connection(address, timeout=20)))
            slow[-1].sendall(start)
        ended = list(pool.map(lambda connection: _dribble(connection, HEAD_SECONDS + 10), slow))
        assert [_statuses(answered) for answered in ended] == list(begun.values())
        assert {connection.recv(1) for connection in silent} == {b""}
    assert service.post("/predict", files={"image": PNG}).status_code == 200


def test_a_body_that_stops_being_http_after_its_answer_is_no_failure(folders: Path, tmp_path: Path) -> None:
    log = tmp_path / "log.txt"
    request = b"POST /robustness HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n"
    with running_service(folders, log) as service:
        assert _statuses(_exchange(service, request, b"no chunk\r\n")) == ["405"]
    assert "Traceback" not in log.read_text()


@pytest.mark.parametrize(("takes", "aborted"), [(1000, False), (0, True)])
def test_an_answer_that_nobody_takes_is_given_up(takes: int, aborted: bool) -> None:
    """A transport says how much waits; from one look to the next some of it must have gone."""
    protocol, calls, left = PlainHTTP.__new__(PlainHTTP), [], [5000]
    protocol.loop = SimpleNamespace(call_later=lambda *later: calls.append(later))  # type: ignore[assignment]
    transport = SimpleNamespace(get_write_buffer_size=lambda: left[0], abort=lambda: calls.append("aborted"))
    protocol.transport = transport  # type: ignore[assignment]
    protocol._watch_answer()
    seconds, look, before = calls.pop()
    left[0] -= takes
    look(before)
    assert (seconds, before) == (UNREAD_SECONDS, 5000) and ("aborted" in calls) is aborted
