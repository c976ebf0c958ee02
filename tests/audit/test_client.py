"""The client: what it sends and reads over real HTTP, and what it refuses, each in one sentence."""

from __future__ import annotations

import itertools
import json
import ssl
from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from http.server import BaseHTTPRequestHandler, HTTPServer
from ipaddress import ip_address
from pathlib import Path
from threading import Thread
from typing import Any

import numpy as np
import pytest
from cryptography import x509
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat
from numpy.typing import NDArray
from PIL import Image

from audit import connection
from audit.client import Client, ClientError
from tests.audit.services import Exchange, answering

DIGEST = "ab" * 32
MODEL = {"model_digest": DIGEST, "model_version": DIGEST[:12]}
HEADERS = {"X-Model-Digest": DIGEST, "X-Model-Version": DIGEST[:12]}


def prediction(image: NDArray[np.uint8]) -> dict[str, Any]:
    """Of two classes: `dark` where the first level is 0."""
    dark = not image.flat[0]
    return {
        "class": "dark" if dark else "light",
        "label": int(not dark),
        "probabilities": {"dark": 0.75, "light": 0.25},
    }


def answer(asked: Exchange) -> Exchange:
    """A small service; it keeps to what the client may rely on."""
    if asked.path == "/predict":
        document = prediction(asked.rows()[0])
    elif asked.path == "/predict_batch":
        document = {"predictions": [prediction(image) for image in asked.rows()]}
    elif asked.path == "/versions":
        document = {"versions": [{"version": "1"}]}
    elif asked.path.startswith("/evidence/"):
        return replace(asked, headers=HEADERS, body=asked.path.encode())
    else:
        document = {"path": asked.path}
    return replace(asked, headers=HEADERS, body=json.dumps({**document, **MODEL}).encode())


def refused(url: str, ask: Callable[[Client], object] = Client.robustness, **options: Any) -> str:
    """The one sentence of a refusal."""
    with pytest.raises(ClientError) as raised, Client(url, **options) as client:
        ask(client)
    assert "\n" not in str(raised.value)
    return str(raised.value)


def test_everything_that_can_be_asked(tmp_path: Path) -> None:
    images = np.array([0, 9], np.uint8)[:, None, None, None] * np.ones((1, 4, 4, 1), np.uint8)
    Image.fromarray(images[1, ..., 0]).save(tmp_path / "light.png")
    with answering(answer) as url, Client(url + "/") as client:
        assert client.predict(images[0]).name == client.predict(images[0, ..., 0]).name == "dark"
        assert client.predict(tmp_path / "light.png").label == 1
        assert client.predict(str(tmp_path / "light.png")) == client.predict((tmp_path / "light.png").read_bytes())
        assert [item.label for item in client.predict_batch(images)] == [0, 1]
        assert client.predict_batch(images)[0].probabilities == {"dark": 0.75, "light": 0.25}
        assert client.predict_batch(images[:0]) == []
        assert client.robustness()["path"] == "/robustness"
        assert client.attestation()["path"] == "/attestation"
        assert client.versions() == [{"version": "1"}]
        assert client.evidence("../a b") == b"/evidence/..%2Fa%20b"
        assert client.digest == DIGEST and client.answers == 11


def test_colours_are_sent_as_they_are() -> None:
    seen: list[NDArray[np.uint8]] = []
    image = np.arange(48, dtype=np.uint8).reshape(4, 4, 3)
    with answering(lambda asked: seen.append(asked.rows()[0]) or answer(asked)) as url, Client(url) as client:
        client.predict(image)
    assert np.array_equal(seen[0], image)


def test_requests_go_below_the_path_of_the_url_with_the_token() -> None:
    seen: list[tuple[str, str | None]] = []

    def note(asked: Exchange) -> Exchange:
        seen.append((asked.path, asked.received.get("authorization")))
        return answer(asked)

    with answering(note) as url, Client(f"{url}/models/digits/", "a.b-c") as client:
        client.robustness()
    assert seen == [("/models/digits/robustness", "Bearer a.b-c")]
    assert "token: must be printable" in refused("http://127.0.0.1:1", token="a\nb")


def test_batches_are_split_until_the_service_takes_them() -> None:
    sizes: list[int] = []

    def small(asked: Exchange) -> Exchange:
        sizes.append(len(asked.rows()))
        return answer(asked) if sizes[-1] <= 40 else replace(asked, status=413)

    rows = np.random.default_rng(0).integers(0, 2, (300, 2, 2, 1), np.uint8)
    with answering(small) as url, Client(url) as client:
        found = [item.label for item in client.predict_batch(rows)]
    assert found == (rows[:, 0, 0, 0] != 0).tolist()
    assert sizes == [256, 128, 64, *[32] * 9, 12]


@pytest.mark.parametrize("status", [429, 503])
def test_a_busy_service_is_asked_again_after_as_long_as_it_says(status: int, monkeypatch: pytest.MonkeyPatch) -> None:
    waits, asked_before = [], itertools.count()
    monkeypatch.setattr(connection.time, "sleep", waits.append)

    def busy(asked: Exchange) -> Exchange:
        again = next(asked_before)
        after = ["3", "soon", "9999"][again : again + 1]
        return replace(asked, status=status, headers={"Retry-After": after[0]}) if after else answer(asked)

    with answering(busy) as url, Client(url) as client:
        client.robustness()
    assert waits == [3, 1, connection.LONGEST_WAIT]
    waits.clear()
    with answering(lambda asked: replace(asked, status=status)) as url:
        assert f"is busy ({status}), {connection.TRIES} times in a row" in refused(url)
    assert len(waits) == connection.TRIES - 1


@pytest.mark.parametrize("where", ["headers", "body"])
def test_another_model_is_refused_or_told(where: str) -> None:
    def other(asked: Exchange) -> Exchange:
        sent = answer(asked)
        if asked.path == "/attestation":
            return sent
        if where == "headers":
            return replace(sent, headers={**HEADERS, "X-Model-Version": "1"})
        return replace(sent, body=sent.body.replace(DIGEST.encode(), b"f" * 64))

    with answering(other) as url:
        with Client(url) as client:
            client.attestation()
            with pytest.raises(ClientError, match=f"/robustness: the {where} name model .*, not {DIGEST[:12]}"):
                client.robustness()
        told: list[str] = []
        with Client(url, on_mismatch=told.append) as client:
            client.attestation()
            client.robustness()
        assert len(told) == 1
    with answering(answer) as url:
        assert "not 000000000000" in refused(url, digest="0" * 64)


@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        ({"headers": {}}, "does not say which model answers; is it a Hallmark service?"),
        ({"body": b"<html>"}, "does not answer with a JSON object; is it a Hallmark service?"),
        ({"body": b"[]"}, "does not answer with a JSON object; is it a Hallmark service?"),
        ({"body": b"[" * 100_000}, "does not answer with a JSON object; is it a Hallmark service?"),
        ({"status": 404, "body": b"nothing"}, "answers 404: without saying why; is it a Hallmark service?"),
        ({"status": 401, "body": b'{"detail":"token: is missing."}'}, "answers 401: token: is missing."),
        (
            {"status": 302, "headers": {"Location": "http://other/"}},
            "redirects to http://other/, which is not followed",
        ),
    ],
)
def test_what_is_no_answer_of_a_service(change: dict[str, Any], sentence: str) -> None:
    with answering(lambda asked: replace(answer(asked), **change)) as url:
        assert f"{url}/robustness: {sentence}" in refused(url)


def test_predictions_that_are_none_are_refused(tmp_path: Path) -> None:
    image = np.zeros((2, 2, 1), np.uint8)
    with answering(lambda asked: replace(answer(asked), body=json.dumps({**MODEL, "class": "a"}).encode())) as url:
        assert "gives no class with probabilities" in refused(url, lambda client: client.predict(image))
        assert "does not give one prediction a row" in refused(url, lambda client: client.predict_batch(image[None]))
        assert "has no list of versions" in refused(url, Client.versions)
        assert "must be uint8 (H, W)" in refused(url, lambda client: client.predict(image.astype(float)))
        assert "cannot be read (No such file" in refused(url, lambda client: client.predict(tmp_path / "none.png"))


def test_answers_are_bounded() -> None:
    with answering(lambda asked: replace(answer(asked), body=bytes(1001))) as url, Client(url) as client:
        assert len(client.evidence("file", 1001)) == 1001
        with pytest.raises(ClientError, match="answers with more than 1000 bytes"):
            client.evidence("file", 1000)
        assert len(client.evidence("file", 1001)) == 1001


class Raw(BaseHTTPRequestHandler):
    """Answers with bytes that a test chose, and closes."""

    content = b""

    def handle(self) -> None:
        self.rfile.readline()
        self.wfile.write(self.content)


def raw(content: bytes, context: ssl.SSLContext | None = None) -> tuple[HTTPServer, int]:
    server = HTTPServer(("127.0.0.1", 0), type("Handler", (Raw,), {"content": content}))
    if context is not None:
        server.socket = context.wrap_socket(server.socket, server_side=True)
    Thread(target=server.serve_forever, args=(0.05,), daemon=True).start()
    return server, server.server_address[1]


@pytest.mark.parametrize(
    ("content", "sentence"),
    [
        (b"hello\r\n", "does not answer as HTTP says (BadStatusLine); is it https://?"),
        (b"HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\nshort", "broke off before the end of its answer"),
        (b"", "broke off before the end of its answer"),
    ],
)
def test_a_server_that_breaks_off(content: bytes, sentence: str) -> None:
    server, port = raw(content)
    try:
        assert sentence in refused(f"http://127.0.0.1:{port}")
    finally:
        server.shutdown()
        server.server_close()


def test_a_kept_connection_that_was_closed_is_opened_again() -> None:
    body = json.dumps(MODEL).encode()
    head = "".join(f"{name}: {value}\r\n" for name, value in {**HEADERS, "Content-Length": len(body)}.items())
    server, port = raw(f"HTTP/1.1 200 OK\r\n{head}\r\n".encode() + body)
    try:
        with Client(f"http://127.0.0.1:{port}") as client:
            assert client.robustness() == client.robustness() == MODEL
    finally:
        server.shutdown()
        server.server_close()


def self_signed(folder: Path) -> ssl.SSLContext:
    """A server's context with a certificate that nobody trusts."""
    key, name = Ed25519PrivateKey.generate(), x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "127.0.0.1")])
    now = datetime.now(UTC)
    made = x509.CertificateBuilder(name, name, key.public_key(), x509.random_serial_number(), now, now + timedelta(1))
    signed = made.add_extension(x509.SubjectAlternativeName([x509.IPAddress(ip_address("127.0.0.1"))]), False)
    private = key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
    (folder / "both.pem").write_bytes(private + signed.sign(key, None).public_bytes(Encoding.PEM))
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(folder / "both.pem")
    return context


def test_https_needs_a_trusted_certificate(tmp_path: Path) -> None:
    server, port = raw(b"", self_signed(tmp_path))
    try:
        assert "its certificate is not trusted (self-signed certificate)" in refused(f"https://127.0.0.1:{port}")
    finally:
        server.shutdown()
        server.server_close()
    server, port = raw(b"HTTP/1.1 400 Bad Request\r\n\r\n")
    try:
        assert "no TLS connection" in refused(f"https://127.0.0.1:{port}")
    finally:
        server.shutdown()
        server.server_close()


@pytest.mark.parametrize(
    ("url", "sentence"),
    [
        ("127.0.0.1:3000", "is no URL of a service; it must be like http://host:3000"),
        ("ftp://127.0.0.1", "is no URL of a service"),
        ("http://", "is no URL of a service"),
        ("http://127.0.0.1:99999", "is no URL; it must be like"),
        ("http://127.0.0.1/?a=b", "is no URL of a service"),
        ("http://127.0.0.1/a b", "is no URL of a service"),
        ("http://127.0.0.1/\u00e9", "is no URL of a service"),
        ("http://name:secret@127.0.0.1", "must not hold a name or a password"),
        ("http://127.0.0.1:1", "http://127.0.0.1:1: cannot be reached (Connection refused)"),
    ],
)
def test_a_url_that_leads_nowhere(url: str, sentence: str) -> None:
    said = refused(url)
    assert sentence in said and "secret" not in said
