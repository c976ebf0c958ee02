"""Files that are sent as they are, and bodies that are too long, too short or never end."""

from __future__ import annotations

import asyncio
import gzip
import json
import socket
from collections.abc import Awaitable, Callable
from dataclasses import replace
from typing import Any

import httpx
import numpy as np
import pytest
from PIL import Image
from starlette.testclient import TestClient

from bundle.images.container import FORMATS
from serving.input.requests import ARRAY_TYPES, IMAGE_TYPES, QUICK_BYTES
from serving.routes import create_app
from serving.served import Served
from tests.serving.pictures import digit, encoded, multipart, npy, png, with_chunk
from tests.serving.refusals import refused

PNG = png(digit())
ROWS = np.stack([digit(number)[..., None] for number in (1200, 1201, 1202)])
ARRAY = npy(ROWS)
FORM, FORM_TYPE = multipart("image", PNG)
RULE = {"shorterSide": 8, "filter": "bicubic", "crop": "centre"}
OTHERS = [("WEBP", {"lossless": True}), *((kind, {}) for kind in ("JPEG", "MPO", "BMP", "GIF", "TIFF", "PPM"))]
TOO_LARGE = "body: is larger than 100000 bytes, the most that this route takes."


def _post(client: httpx.Client | TestClient, path: str, content: bytes, kind: str, **headers: str) -> httpx.Response:
    return client.post(path, content=content, headers={"Content-Type": kind, **headers})


@pytest.mark.parametrize("kind", [*IMAGE_TYPES, "IMAGE/PNG; name=x"])
def test_an_image_as_it_is_gets_the_answer_of_the_form(client: TestClient, kind: str) -> None:
    """The bytes decide what it is: one PNG under every name."""
    answer = _post(client, "/predict", PNG, kind)
    assert answer.status_code == 200, answer.text
    assert answer.json() == client.post("/predict", files={"image": PNG}).json()


@pytest.mark.parametrize("kind", ARRAY_TYPES)
def test_an_array_as_it_is_gets_the_answer_of_the_form(client: TestClient, kind: str) -> None:
    answer = _post(client, "/predict_batch", ARRAY, kind)
    assert answer.json() == client.post("/predict_batch", files={"images": ARRAY}).json()
    assert len(answer.json()["predictions"]) == 3


@pytest.mark.parametrize(
    ("kind", "options"),
    [(kind, {}) for kind in ("JPEG", "MPO", "BMP", "GIF", "TIFF", "PPM")] + [("WEBP", {"lossless": True})],
)
def test_the_other_formats_are_taken_too(client: TestClient, kind: str, options: dict[str, Any]) -> None:
    content = encoded(Image.fromarray(digit()), kind, **options)
    raw, form = _post(client, "/predict", content, "image/png"), client.post("/predict", files={"image": content})
    assert raw.status_code == 200 and raw.json() == form.json()


def test_a_large_file_is_decoded_beside_the_event_loop(client: TestClient) -> None:
    """The answers are the same on either way."""
    content = with_chunk(PNG, b"tEXt", bytes(QUICK_BYTES))
    assert _post(client, "/predict", content, "image/png").json() == _post(client, "/predict", PNG, "image/png").json()
    refused(
        _post(client, "/predict", content[:-1], "image/png"), 422, "image: is damaged or cut off; send the whole file."
    )


def test_each_route_says_which_types_it_takes(client: TestClient) -> None:
    wanted = "multipart/form-data, or the file itself as application/octet-stream, application/x-npy or application/npy"
    refused(_post(client, "/predict_batch", PNG, "image/png"), 415, f"Content-Type: is image/png; send {wanted}.")
    refused(client.post("/predict_batch"), 415, f"Content-Type: is missing; send {wanted}.")
    answer = _post(client, "/predict", ARRAY, "application/octet-stream")
    refused(answer, 415, f"image: is not an image of a known format; send a {FORMATS} file.")
    answer = _post(client, "/predict_batch", PNG, "application/octet-stream")
    refused(answer, 415, "images: is not a .npy file; numpy.save writes one.")
    refused(_post(client, "/predict", b"", "image/png"), 422, "image: is empty; send the whole file.")


def test_the_limits_are_those_of_the_settings(client: TestClient) -> None:
    at_limit = PNG + bytes(100_000 - len(PNG))
    assert _post(client, "/predict", at_limit, "image/png").status_code == 200
    refused(_post(client, "/predict", at_limit + b"\0", "image/png"), 413, TOO_LARGE)
    pieces = iter([at_limit, b"\0"])  # without a length
    refused(client.post("/predict", content=pieces, headers={"Content-Type": "image/png"}), 413, TOO_LARGE)
    limit = 100 * 64 + 4096
    answer = _post(client, "/predict_batch", bytes(limit + 1), "application/npy")
    refused(answer, 413, f"body: is larger than {limit} bytes, the most that this route takes.")


def _part(name: str, coding: str) -> bytes:
    """A form whose file says in a header of its own how it is packed."""
    return FORM.replace(b"\r\n\r\n", f"\r\n{name}: {coding}\r\n\r\n".encode(), 1)


@pytest.mark.parametrize("path", ["/predict", "/predict_batch"])
@pytest.mark.parametrize("coding", ["gzip", "GZIP", "br", "zstd", "identity, gzip", "x-unknown"])
def test_a_packed_body_is_refused_by_name(client: TestClient, path: str, coding: str) -> None:
    """However it is sent: its bytes are never taken for the file's."""
    detail = f"Content-Encoding: is {coding}; send the file as it is, without this header."
    for content, kind in ((gzip.compress(PNG), "application/octet-stream"), (gzip.compress(FORM), FORM_TYPE)):
        answer = _post(client, path, content, kind, **{"Content-Encoding": coding})
        refused(answer, 415, detail)
        assert answer.headers["accept-encoding"] == "identity"


@pytest.mark.parametrize(
    ("name", "coding"),
    [("Content-Encoding", "gzip"), ("Content-Transfer-Encoding", "base64"), ("content-encoding", "br")],
)
def test_a_packed_part_of_a_form_is_refused_by_name(client: TestClient, name: str, coding: str) -> None:
    answer = _post(client, "/predict", _part(name, coding), FORM_TYPE)
    canonical = "-".join(word.capitalize() for word in name.split("-"))
    refused(answer, 415, f"image: {canonical}: is {coding}; send the file as it is, without this header.")


def test_a_body_that_says_that_it_is_not_packed_is_taken(client: TestClient) -> None:
    assert _post(client, "/predict", PNG, "image/png", **{"Content-Encoding": "identity"}).status_code == 200
    for coding in ("binary", "8bit", "7BIT"):
        assert _post(client, "/predict", _part("Content-Transfer-Encoding", coding), FORM_TYPE).status_code == 200


def test_where_the_bundle_has_a_rule_the_answer_says_that_it_resized(served: Served) -> None:
    app = create_app()
    app.state.served = replace(served, resize=RULE)
    client = TestClient(app)
    large = Image.fromarray(digit()).resize((40, 32), Image.Resampling.NEAREST)
    resized = large.resize((10, 8), Image.Resampling.BICUBIC).crop((1, 0, 9, 8))
    answer, expected = (_post(client, "/predict", encoded(image), "image/png").json() for image in (large, resized))
    assert (answer.pop("resized"), expected.pop("resized")) == (True, False)
    assert answer == expected
    refused(
        _post(client, "/predict", encoded(large.convert("F"), "TIFF"), "image/tiff"),
        422,
        "image: has the colour mode F; send greyscale or RGB with 8 bits a channel.",
    )


Receive = Callable[[], Awaitable[Any]]


def _answer(served: Served, receive: Receive, **headers: str) -> tuple[int, str]:
    """Status and detail of an answer to messages of the HTTP server, which may be ones that no client library sends."""
    app = create_app()
    app.state.served = replace(served, settings=replace(served.settings, seconds=1))
    scope = {"type": "http", "method": "POST", "path": "/predict", "query_string": b""}
    given = [(name.replace("_", "-").encode(), value.encode()) for name, value in headers.items()]
    sent: list[Any] = []

    async def send(message: Any) -> None:
        sent.append(message)

    asyncio.run(app({**scope, "headers": given}, receive, send))
    return sent[0]["status"], json.loads(sent[1]["body"])["detail"]


@pytest.mark.parametrize("kind", ["image/png", "multipart/form-data; boundary=edge"])
def test_a_body_that_does_not_arrive_is_given_up(served: Served, kind: str) -> None:
    async def receive() -> Any:
        await asyncio.sleep(60)

    assert _answer(served, receive, content_type=kind) == (408, "body: did not arrive within 1 seconds.")


@pytest.mark.parametrize(
    ("begun", "kind"), [(b"", "image/png"), (PNG[:40], "image/png"), (b"", FORM_TYPE), (FORM[:200], FORM_TYPE)]
)
def test_a_client_that_leaves_before_the_end_is_no_failure(served: Served, begun: bytes, kind: str) -> None:
    messages = iter([{"type": "http.request", "body": begun, "more_body": True}, {"type": "http.disconnect"}])

    async def receive() -> Any:
        return next(messages)

    assert _answer(served, receive, content_type=kind) == (400, "body: ended before its end.")


def test_a_body_that_is_too_large_is_read_on_so_that_its_client_sees_the_answer(served: Served) -> None:
    read: list[int] = []

    async def receive() -> Any:
        read.append(50_000)
        return {"type": "http.request", "body": bytes(50_000), "more_body": len(read) < 10}

    assert _answer(served, receive, content_type="image/png") == (413, TOO_LARGE)
    assert len(read) == 10
    assert _answer(served, receive, content_type="image/png", content_length="500000") == (413, TOO_LARGE)


@pytest.mark.parametrize("declared", ["1000000000000", "-1", "many", "٣"])
def test_a_declared_length_is_never_believed_to_be_small(served: Served, declared: str) -> None:
    """The HTTP server refuses most of these; where one gets through, the bytes are counted."""
    left = [{"type": "http.request", "body": bytes(200_000), "more_body": False}]

    async def receive() -> Any:
        return left.pop()

    assert _answer(served, receive, content_type="image/png", content_length=declared) == (413, TOO_LARGE)


def test_wrong_lengths_on_the_wire_harm_nobody(service: httpx.Client) -> None:
    """Fewer bytes than declared: the client leaves. More: the rest is the start of a next request, which is none."""
    address = (service.base_url.host, service.base_url.port or 80)
    for declared, content in ((len(PNG) + 100, PNG), (20, PNG)):
        head = f"POST /predict HTTP/1.1\r\nHost: x\r\nContent-Type: image/png\r\nContent-Length: {declared}\r\n\r\n"
        with socket.create_connection(address, timeout=20) as connection:
            connection.sendall(head.encode() + content)
            connection.shutdown(socket.SHUT_WR)
            answered = connection.makefile("rb").read()
        assert answered[:13] in (b"", b"HTTP/1.1 400 ", b"HTTP/1.1 422 ")
    assert _post(service, "/predict", PNG, "image/png").status_code == 200


def test_a_large_body_through_the_whole_service(service: httpx.Client) -> None:
    answer = _post(service, "/predict", bytes(12 * 1024 * 1024), "image/bmp")
    refused(answer, 413, "body: is larger than 10485760 bytes, the most that this route takes.")
    body, kind = multipart("image", PNG)
    assert _post(service, "/predict", body, kind).json() == _post(service, "/predict", PNG, "image/png").json()
