"""Who may ask: the token, other origins, and what a browser may do with an answer."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest
from starlette.testclient import TestClient

from bundle.errors import HallmarkError
from serving.middleware import OPEN_PATHS, BearerToken, check_token, read_origins
from serving.served import Served
from serving.settings import Settings
from tests.serving.conftest import running_service
from tests.serving.enclosed import enclosed
from tests.serving.pictures import digit, png

TOKEN = "k7/+~secret-of-24-letters"
RIGHT = {"Authorization": f"Bearer {TOKEN}"}
PAGE = "https://page.example"
PREFLIGHT = {"Origin": PAGE, "Access-Control-Request-Method": "POST", "Access-Control-Request-Headers": "authorization"}


@pytest.mark.parametrize(
    ("token", "message"),
    [
        ("fifteen-letters", "token: must have at least 16 characters, has 15"),
        ("with a space in the midst", "token: must be of visible ASCII characters, without spaces"),
        ("with-a-line-break\n", "token: must be of visible ASCII characters, without spaces"),
        ("with-a-bell-in-it\x07", "token: must be of visible ASCII characters, without spaces"),
        ("mit-einem-schönen-Umlaut", "token: must be of visible ASCII characters, without spaces"),
    ],
)
def test_a_token_that_cannot_be_asked_for_is_refused_without_being_shown(token: str, message: str) -> None:
    with pytest.raises(HallmarkError) as refused:
        check_token(token)
    assert str(refused.value) == message and token not in message


def test_a_good_token_is_taken_and_not_shown() -> None:
    check_token(TOKEN)
    assert TOKEN not in repr(Settings(token=TOKEN))


@pytest.fixture(scope="module")
def guarded(served: Served) -> Iterator[TestClient]:
    with enclosed(served, token=TOKEN, cors=f"{PAGE} http://localhost:8080") as client:
        yield client


@pytest.mark.parametrize("path", ["/", "/robustness", "/metrics", "/evidence/model.onnx", "/nothing", "/healthz/"])
def test_without_the_token_nothing_is_told(guarded: TestClient, path: str) -> None:
    response = guarded.get(path)
    assert (response.status_code, response.headers["www-authenticate"]) == (401, 'Bearer realm="hallmark"')
    assert response.json()["detail"] == "Authorization: is missing; send Bearer and this service's token."
    assert response.json()["type"] == "urn:hallmark:problem:not-allowed"


@pytest.mark.parametrize(
    "given",
    [
        "",
        TOKEN,
        "Bearer",
        "Bearer ",
        f"Bearer {TOKEN[:-1]}",
        f"Bearer {TOKEN}x",
        f"Bearer {TOKEN.upper()}",
        f"Basic {TOKEN}",
        f"Bearer {TOKEN}, Bearer {TOKEN}",
        "Bearer \xff\xfe",
    ],
)
def test_a_wrong_token_is_refused_and_not_repeated(guarded: TestClient, given: str) -> None:
    response = guarded.get("/robustness", headers={"Authorization": given.encode("latin-1")})
    assert response.status_code == 401
    assert response.headers["www-authenticate"] == 'Bearer realm="hallmark", error="invalid_token"'
    assert response.json()["detail"] == "Authorization: is not Bearer and this service's token."


def test_two_authorizations_are_refused_even_if_both_are_right(guarded: TestClient) -> None:
    twice = [("Authorization", RIGHT["Authorization"])] * 2
    assert guarded.get("/robustness", headers=httpx.Headers(twice)).status_code == 401


@pytest.mark.parametrize("scheme", ["Bearer", "bearer", "BEARER"])
def test_the_token_opens_every_route(guarded: TestClient, scheme: str) -> None:
    headers = {"Authorization": f"{scheme} {TOKEN}"}
    assert guarded.get("/metrics", headers=headers).status_code == 200
    assert guarded.post("/predict", files={"image": png(digit())}, headers=headers).status_code == 200
    assert guarded.get("/nothing", headers=headers).status_code == 404


def test_the_body_is_not_read_before_the_token(served: Served) -> None:
    async def unreachable(*arguments: Any) -> None:
        raise AssertionError("asked without a token")

    sent: list[Any] = []

    async def send(message: Any) -> None:
        sent.append(message)

    scope = {"type": "http", "method": "POST", "path": "/predict", "headers": [(b"authorization", b"Bearer wrong")]}
    asyncio.run(BearerToken(unreachable, TOKEN)(scope, unreachable, send))
    assert sent[0]["status"] == 401


@pytest.mark.parametrize(
    "cors",
    [
        "page.example",
        "https://page.example/",
        "https://Page.example",
        "https://page.example:443",
        "http://page.example:80",
        "https://me@page.example",
        "https://",
        "ftp://page.example",
        "https://page.example:port",
        "https://[::1",
        "null",
        "*.example",
    ],
)
def test_what_no_browser_sends_is_no_origin(cors: str) -> None:
    with pytest.raises(HallmarkError, match=r"^cors: .* is no origin; write"):
        read_origins(f"{PAGE} {cors}")


def test_origins_are_separated_by_spaces() -> None:
    assert read_origins("") == []
    assert read_origins(f"*  {PAGE} http://[::1]:3000") == ["*", PAGE, "http://[::1]:3000"]


def test_a_preflight_of_a_named_origin_is_answered_without_the_token(guarded: TestClient) -> None:
    response = guarded.options("/predict", headers=PREFLIGHT)
    assert (response.status_code, response.headers["access-control-allow-origin"]) == (200, PAGE)
    assert response.headers["access-control-allow-methods"] == "GET, POST"
    assert "Authorization" in response.headers["access-control-allow-headers"]


@pytest.mark.parametrize(
    "change",
    [
        {"Origin": "https://other.example"},
        {"Origin": "https://page.example.evil"},
        {"Origin": "null"},
        {"Access-Control-Request-Method": "DELETE"},
        {"Access-Control-Request-Headers": "x-other"},
    ],
)
def test_another_preflight_is_refused_with_a_problem(guarded: TestClient, change: dict[str, str]) -> None:
    response = guarded.options("/predict", headers={**PREFLIGHT, **change})
    assert (response.status_code, response.json()["type"]) == (403, "urn:hallmark:problem:not-shared")
    assert "access-control-allow-origin" not in response.headers
    assert "Origin" in response.headers["vary"]


@pytest.mark.parametrize(("path", "headers"), [("/robustness", RIGHT), ("/robustness", {}), ("/nothing", RIGHT)])
def test_a_page_of_a_named_origin_may_read_answers_and_refusals(
    guarded: TestClient, path: str, headers: dict[str, str]
) -> None:
    response = guarded.get(path, headers={**headers, "Origin": PAGE})
    assert response.headers["access-control-allow-origin"] == PAGE
    assert {"X-Model-Version", "X-Model-Digest"} <= set(response.headers["access-control-expose-headers"].split(", "))
    assert "access-control-allow-credentials" not in response.headers
    other = guarded.get(path, headers={**headers, "Origin": "https://other.example"})
    assert "access-control-allow-origin" not in other.headers


def test_other_origins_may_read_nothing_unless_it_is_set(served: Served) -> None:
    with enclosed(served) as client:
        response = client.get("/robustness", headers={"Origin": PAGE})
        assert response.status_code == 200
        assert not [name for name in response.headers if name.startswith("access-control")]
        assert client.options("/predict", headers=PREFLIGHT).status_code == 405
    with enclosed(served, cors="*") as client:
        assert client.get("/robustness", headers={"Origin": PAGE}).headers["access-control-allow-origin"] == "*"


def test_every_answer_tells_browsers_what_they_may_do(guarded: TestClient) -> None:
    answers = [guarded.get(path, headers=RIGHT) for path in ("/", "/robustness", "/static/page.js", "/nothing")]
    answers += [guarded.get("/"), guarded.options("/", headers=PREFLIGHT), guarded.delete("/healthz")]
    for answer in answers:
        assert "frame-ancestors 'none'" in answer.headers["content-security-policy"]
        assert answer.headers["x-content-type-options"] == "nosniff"
        assert answer.headers["referrer-policy"] == "no-referrer"
        assert answer.headers["cross-origin-opener-policy"] == "same-origin"
        assert answer.headers["cross-origin-resource-policy"] == "same-origin"
        assert "camera=()" in answer.headers["permissions-policy"]


def test_the_sandboxed_report_has_no_opener_policy(guarded: TestClient) -> None:
    """HTML's standard makes a page that has both a network error."""
    report = guarded.get("/evidence/report.html", headers=RIGHT)
    assert "sandbox" in report.headers["content-security-policy"]
    assert "cross-origin-opener-policy" not in report.headers


def test_a_real_service_keeps_its_token(folders: Path, tmp_path: Path) -> None:
    """BentoML's own routes too; and the token is in no answer, no log and no command line."""
    log = tmp_path / "log.txt"
    environment = {"HALLMARK_TOKEN": TOKEN, "HALLMARK_CORS": PAGE}
    with running_service(folders, log, **environment) as service:
        assert [service.get(path).status_code for path in OPEN_PATHS] == [200, 200, 200]
        closed = ["/", "/metrics", "/robustness", "/schema.json", "/docs.json", "/nothing", "/healthz%0a", "//healthz"]
        answers = [service.get(path) for path in closed]
        assert [answer.status_code for answer in answers] == [401] * len(closed)
        wrong = service.post("/predict", files={"image": bytes(200_000)}, headers={"Authorization": f"Bearer {TOKEN}x"})
        assert wrong.status_code == 401 and TOKEN not in wrong.text
        assert service.get("/metrics", headers=RIGHT).status_code == 200
        assert service.options("/predict", headers=PREFLIGHT).headers["access-control-allow-origin"] == PAGE
        for command in Path("/proc").glob("[0-9]*/cmdline"):
            assert TOKEN.encode() not in _content(command)
    assert TOKEN not in log.read_text()


def _content(file: Path) -> bytes:
    try:
        return file.read_bytes()
    except OSError:  # the process has ended
        return b""
