"""Requests as they are on the wire: offers to upgrade, whole URLs as targets, heads without an end."""

from __future__ import annotations

import re
import shutil
import socket
import subprocess
import time
from pathlib import Path

import httpx
import pytest

from serving.parser import in_origin_form
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
        assert _statuses(answered) == ["415", "200"] and b"not a PNG, JPEG, WebP or BMP file" in answered


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


def test_a_head_that_does_not_end_is_refused(service: httpx.Client) -> None:
    answered = _exchange(service, b"GET /healthz HTTP/1.1\r\nHost: x\r\nX-Long: " + b"a" * 17 * 1024)
    assert _statuses(answered) == ["400"]
    assert service.get("/healthz").status_code == 200
