"""Which requests are answered and which are refused, with which status and sentence."""

from __future__ import annotations

import asyncio
import json
import time
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image
from starlette.testclient import TestClient

from bundle.images.container import FORMATS
from serving.exchange import Problem
from serving.model.batcher import Batcher
from serving.routes import create_app
from serving.served import Served
from tests.serving.pictures import digit, encoded, multipart, npy, png
from tests.serving.refusals import refused

PNG = png(digit())


def _row(number: int = 1200) -> NDArray[np.uint8]:
    return digit(number)[None, ..., None]


def _npy_header(text: str) -> bytes:
    header = text.encode().ljust(117) + b"\n"
    return b"\x93NUMPY\x01\x00" + len(header).to_bytes(2, "little") + header


ROWS = np.concatenate([_row(number) for number in (1200, 1201, 1202)])
BAD_ARRAYS: dict[str, tuple[bytes, int, str]] = {
    "empty": (b"", 415, "images: is not a .npy file; numpy.save writes one."),
    "npz": (b"PK\3\4", 415, "images: is not a .npy file; numpy.save writes one."),
    "floats": (npy(ROWS / 255.0), 422, "images: is of type float64; send uint8, levels 0 to 255."),
    "pickle": (
        npy(np.array([{"a": 1}], dtype=object), allow_pickle=True),
        422,
        "images: is of type object; send uint8, levels 0 to 255.",
    ),
    "channels first": (
        npy(ROWS.transpose(0, 3, 1, 2)),
        422,
        "images: has the shape (3, 1, 8, 8); this model takes (N, 8, 8, 1).",
    ),
    "one image": (npy(ROWS[0]), 422, "images: has the shape (8, 8, 1); this model takes (N, 8, 8, 1)."),
    "no rows": (npy(ROWS[:0]), 422, "images: has no rows; send at least one."),
    "too many rows": (
        npy(np.zeros((101, 8, 8, 1), np.uint8)),
        413,
        "images: has 101 rows, at most 100 are taken; send several requests.",
    ),
    "more rows said than sent": (
        npy(ROWS)[:-1],
        422,
        "images: has 191 bytes of data where its shape needs 192; send the whole file.",
    ),
    "rows after the end": (
        npy(ROWS) + b"\0",
        422,
        "images: has 193 bytes of data where its shape needs 192; send the whole file.",
    ),
    "huge by header": (
        _npy_header(f"{{'descr': '|u1', 'fortran_order': False, 'shape': ({10**15}, 8, 8, 1), }}"),
        413,
        f"images: has {10**15} rows, at most 100 are taken; send several requests.",
    ),
    "negative by header": (
        _npy_header("{'descr': '|u1', 'fortran_order': False, 'shape': (-1, 8, 8, 1), }"),
        422,
        "images: has no rows; send at least one.",
    ),
    "code in the header": (
        _npy_header("__import__('os').abort()"),
        422,
        "images: has a .npy header that cannot be read.",
    ),
    "deep header": (_npy_header("(" * 110), 422, "images: has a .npy header that cannot be read."),
    "another version": (b"\x93NUMPY\x09\x00" + b"\0" * 200, 422, "images: has a .npy header that cannot be read."),
    "only magic": (b"\x93NUMPY", 422, "images: has a .npy header that cannot be read."),
}


@pytest.mark.parametrize(
    ("content", "status", "detail"),
    [
        (b"", 422, "image: is empty; send the whole file."),
        (b"hello", 415, f"image: is not an image of a known format; send a {FORMATS} file."),
        (PNG[:-20], 422, "image: is damaged or cut off; send the whole file."),
        (PNG + b"\0" * 170_000, 413, "body: is larger than 165536 bytes, the most that this route takes."),
    ],
)
def test_a_bad_image_is_refused_with_one_sentence(client: TestClient, content: bytes, status: int, detail: str) -> None:
    """What each kind of file gets is in test_images.py."""
    refused(client.post("/predict", files={"image": content}), status, detail)


def test_an_image_and_its_row_get_the_same_answer(client: TestClient) -> None:
    answer = client.post("/predict", files={"image": ("x.png", PNG)})
    expected = client.post("/predict_batch", files={"images": npy(_row())}).json()["predictions"][0]
    assert answer.status_code == 200, answer.text
    assert answer.json() == {**answer.json(), **expected, "resized": False}


@pytest.mark.parametrize("name", BAD_ARRAYS)
def test_bad_array_is_refused_with_one_sentence(client: TestClient, name: str) -> None:
    content, status, detail = BAD_ARRAYS[name]
    refused(client.post("/predict_batch", files={"images": content}), status, detail)


def test_fortran_order_is_read_as_the_same_rows(client: TestClient) -> None:
    ordered = npy(np.asfortranarray(ROWS))
    assert b"'fortran_order': True" in ordered
    plain = client.post("/predict_batch", files={"images": npy(ROWS)}).json()
    assert client.post("/predict_batch", files={"images": ordered}).json() == plain


IMAGES = (
    "image/png, image/jpeg, image/jpg, image/pjpeg, image/webp, image/bmp, image/x-ms-bmp, image/gif, image/tiff, "
    "image/x-portable-anymap, image/x-portable-bitmap, image/x-portable-graymap, image/x-portable-pixmap "
    "or application/octet-stream"
)
TYPES = f"multipart/form-data, or the file itself as {IMAGES}"
FORMS: dict[str, tuple[dict[str, Any], int, str]] = {
    "no body": ({}, 415, f"Content-Type: is missing; send {TYPES}."),
    "JSON": ({"json": {"image": 1}}, 415, f"Content-Type: is application/json; send {TYPES}."),
    "HEIC": (
        {"content": PNG, "headers": {"Content-Type": "image/heic"}},
        415,
        f"Content-Type: is image/heic; send {TYPES}.",
    ),
    "URL-encoded": (
        {"data": {"image": "x"}},
        415,
        f"Content-Type: is application/x-www-form-urlencoded; send {TYPES}.",
    ),
    "another field": (
        {"files": {"file": PNG}},
        400,
        "form: must have exactly one field, image, with one file; got file.",
    ),
    "the field twice": (
        {"files": [("image", PNG), ("image", PNG)]},
        400,
        "form: must have exactly one field, image, with one file; got image, image.",
    ),
    "one field more": (
        {"files": {"image": PNG}, "data": {"a": "b"}},
        400,
        "form: must have exactly one field, image, with one file; got a, image.",
    ),
    "text": (
        {"files": {"image": (None, b"x")}},
        400,
        "image: is text; send it as a file, with a filename.",
    ),
    "declared as text": (
        {"files": {"image": ("x.txt", PNG, "text/plain")}},
        415,
        f"image: is declared as text/plain; send {IMAGES}.",
    ),
    "another charset": (
        {
            "content": multipart("image", PNG)[0],
            "headers": {"Content-Type": multipart("", b"")[1] + "; charset=undefined"},
        },
        400,
        "form: declares the charset undefined; send the names of fields in UTF-8.",
    ),
    "no boundary": (
        {"content": b"x", "headers": {"Content-Type": "multipart/form-data"}},
        400,
        "form: Missing boundary in multipart.",
    ),
    "not the boundary": (
        {"content": b"hello", "headers": {"Content-Type": "multipart/form-data; boundary=edge"}},
        400,
        "form: Invalid multipart data.",
    ),
    "no end": (
        {"content": multipart("image", PNG)[0][:-12], "headers": {"Content-Type": multipart("image", PNG)[1]}},
        400,
        "form: must have exactly one field, image, with one file; got none.",
    ),
}


@pytest.mark.parametrize("name", FORMS)
def test_bad_form_is_refused_with_one_sentence(client: TestClient, name: str) -> None:
    request, status, detail = FORMS[name]
    refused(client.post("/predict", **request), status, detail)


def test_a_body_without_a_length_is_cut_off_at_the_limit(client: TestClient) -> None:
    body, kind = multipart("image", b"\0" * 200_000)
    pieces = (body[start : start + 1000] for start in range(0, len(body), 1000))
    response = client.post("/predict", content=pieces, headers={"Content-Type": kind})
    refused(response, 413, "body: is larger than 165536 bytes, the most that this route takes.")


def _client(served: Served, **changes: Any) -> TestClient:
    app = create_app()
    app.state.served = replace(served, **changes)
    return TestClient(app)


def test_a_full_queue_is_a_503_that_says_when_to_come_back(served: Served) -> None:
    full = Batcher(lambda rows: np.zeros((len(rows), 10), np.float32), batch_rows=1, queue_rows=0)
    response = _client(served, batcher=full).post("/predict", files={"image": PNG})
    refused(response, 503, "queue: is full; send the request again later.")
    assert response.headers["retry-after"] == "1"


def test_a_model_that_takes_too_long_is_a_503(served: Served) -> None:
    slow = Batcher(lambda rows: time.sleep(1.5) or np.zeros((1, 10), np.float32), batch_rows=1, queue_rows=9)
    client = _client(served, batcher=slow, settings=replace(served.settings, seconds=1))
    refused(client.post("/predict", files={"image": PNG}), 503, "model: gave no answer within 1 seconds.")


def test_a_body_that_does_not_arrive_is_given_up(served: Served) -> None:
    app = create_app()
    app.state.served = replace(served, settings=replace(served.settings, seconds=1))
    scope = {
        "type": "http",
        "method": "POST",
        "path": "/predict",
        "query_string": b"",
        "headers": [(b"content-type", b"multipart/form-data; boundary=edge")],
    }
    sent: list[Any] = []

    async def receive() -> Any:
        await asyncio.sleep(60)

    async def send(message: Any) -> None:
        sent.append(message)

    asyncio.run(app(scope, receive, send))
    assert sent[0]["status"] == 408
    assert json.loads(sent[1]["body"])["detail"] == "body: did not arrive within 1 seconds."


def test_unknown_routes_and_methods_are_problems_too(client: TestClient) -> None:
    refused(client.get("/nothing"), 404, "/nothing: there is no such route; GET / shows them.")
    response = client.get("/predict")
    refused(response, 405, "/predict: does not take GET; use POST.")
    assert response.headers["allow"] == "POST"
    refused(client.post("/metrics"), 405, "/metrics: does not take POST; use GET or HEAD.")


@pytest.mark.parametrize(("kind", "end"), [("PNG", 12), ("JPEG", 2), ("WEBP", 1), ("BMP", 1)])
def test_a_file_without_its_end_mark_is_refused(client: TestClient, kind: str, end: int) -> None:
    """However complete its pixels are: IEND, EOI, and the lengths that RIFF and BMP begin with."""
    whole = encoded(Image.fromarray(digit()), kind, **({"lossless": True} if kind == "WEBP" else {}))
    assert client.post("/predict", files={"image": whole}).status_code == 200
    answer = client.post("/predict", files={"image": whole[:-end]})
    refused(answer, 422, "image: is damaged or cut off; send the whole file.")


def test_a_failure_inside_is_a_problem_that_tells_nothing(client: TestClient, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("serving.routes.document", lambda: 1 / 0)
    response = client.get("/openapi.json")
    refused(response, 500, "/openapi.json: failed inside the service; its log says why.")
    assert "division" not in response.text


@pytest.mark.parametrize("charset", ["unicode_escape", "raw_unicode_escape", "utf-7", "utf-16-le", "idna", "\xe9"])
def test_only_a_common_charset_decodes_the_names_of_fields(client: TestClient, charset: str) -> None:
    """Half a surrogate pair, which other charsets can spell, fits in no answer."""
    body, kind = multipart("\\ud800", PNG)
    answer = client.post(
        "/predict", content=body, headers={"Content-Type": f"{kind}; charset={charset}".encode("latin-1")}
    )
    assert (answer.status_code, answer.json()["type"]) == (400, "urn:hallmark:problem:bad-form")
    body, kind = multipart("image", PNG)
    for common in ("UTF-8", "us-ascii", "ISO-8859-1"):
        answer = client.post("/predict", content=body, headers={"Content-Type": f"{kind}; charset={common}"})
        assert answer.status_code == 200, answer.text


def _npy_side(shape: str) -> bytes:
    return _npy_header(f"{{'descr': '|u1', 'fortran_order': False, 'shape': {shape}, }}")


MANY = "7" * 5000
FORM, FORM_TYPE = multipart("image", PNG)
NUMBERS = {
    "a sample": ("GET", f"/samples/{MANY}.png", b"", ""),
    "a sample below nothing": ("GET", "/samples/-1.png", b"", ""),
    "a sample in other digits": ("GET", "/samples/\u0663.png", b"", ""),
    "a version": ("GET", f"/versions/{MANY}", b"", ""),
    "a form's boundary": ("POST", "/predict", b"", f"multipart/form-data; boundary=edge; edge*{MANY}=1"),
    "a form's field": (
        "POST",
        "/predict",
        FORM.replace(b'name="', b"name*" + MANY.encode() + b'=1; name="', 1),
        FORM_TYPE,
    ),
    "a side of an array": ("POST", "/predict_batch", _npy_side(f"(0x{'f' * 3900}, 8, 8, 1)"), "application/npy"),
    "a side below nothing": ("POST", "/predict_batch", _npy_side(f"(-0x{'f' * 3900}, 8, 8, 1)"), "application/npy"),
}


@pytest.mark.parametrize("place", NUMBERS)
def test_a_number_of_thousands_of_digits_is_no_failure(client: TestClient, place: str) -> None:
    """Python refuses to read, or to write, more than 4,300."""
    method, path, body, kind = NUMBERS[place]
    answer = client.request(method, path, content=body, headers={"Content-Type": kind})
    assert 400 <= answer.status_code < 500, answer.text
    assert answer.json()["type"].startswith("urn:hallmark:problem:")


def test_a_declared_length_of_thousands_of_digits_is_no_failure(client: TestClient) -> None:
    headers = {"Content-Type": "image/png", "Content-Length": MANY}
    assert client.post("/predict", content=PNG, headers=headers).status_code == 200  # the server refuses it before that


def test_a_word_that_no_encoding_has_can_be_answered() -> None:
    answer = Problem("bad-query", "query: \ud800\x1b\xe9 is no parameter.").response()
    assert json.loads(bytes(answer.body))["detail"] == "query: \\ud800\\x1b\xe9 is no parameter."
