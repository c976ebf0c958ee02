"""Refusals: every one is a 4xx or 5xx with a problem document (RFC 9457) whose detail is one sentence."""

from __future__ import annotations

import json
from collections.abc import Mapping

from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.types import Receive, Scope, Send

from bundle.errors import escaped
from serving.exchange import exchange_of

MEDIA_TYPE = "application/problem+json"
#: Goes with every `busy`: in how many seconds to ask again.
RETRY = {"Retry-After": "1"}

#: Kind of a problem → status and title. The kind is the end of the document's `type`.
KINDS: dict[str, tuple[int, str]] = {
    "bad-form": (400, "The request's form cannot be read"),
    "bad-query": (400, "The query asks for something that is not known"),
    "not-allowed": (401, "The token is missing or wrong"),
    "not-shared": (403, "A page of another origin may not do this"),
    "not-found": (404, "There is no such thing here"),
    "wrong-method": (405, "This route takes another method"),
    "slow-body": (408, "The request took too long to arrive"),
    "too-large": (413, "The request is too large"),
    "wrong-type": (415, "The request has the wrong type"),
    "broken-file": (422, "The file cannot be read"),
    "wrong-pixels": (422, "The pixels are not what the model takes"),
    "wrong-shape": (422, "The shape is not what the model takes"),
    "failed": (500, "The service failed"),
    "busy": (503, "The service is busy"),
}


class Problem(Exception):
    """A refusal; `detail` is one sentence that says what is wrong, where, and what would be right."""

    def __init__(self, kind: str, detail: str, headers: Mapping[str, str] | None = None) -> None:
        self.kind, self.detail, self.headers = kind, escaped(detail), dict(headers or {})
        super().__init__(self.detail)
        self.status, self.title = KINDS[kind]

    def response(self) -> Response:
        """The problem document."""
        document = {
            "type": f"urn:hallmark:problem:{self.kind}",
            "title": self.title,
            "status": self.status,
            "detail": self.detail,
        }
        return _ProblemResponse(self.kind, document, self.status, self.headers)


class _ProblemResponse(JSONResponse):
    """Notes its kind when it is sent, so that whoever refuses is counted once."""

    media_type = MEDIA_TYPE

    def __init__(self, kind: str, document: Mapping[str, object], status: int, headers: Mapping[str, str]) -> None:
        super().__init__(document, status, headers)
        self._kind = kind

    def render(self, content: object) -> bytes:
        """As JSON in UTF-8; what no encoding has, half a surrogate pair in a client's word, as JSON's escape."""
        return json.dumps(content, ensure_ascii=False, separators=(",", ":")).encode("utf-8", "backslashreplace")

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        exchange_of(scope).problem = self._kind
        await super().__call__(scope, receive, send)


async def answer_problem(request: Request, error: Exception) -> Response:
    """Starlette's handler of a Problem."""
    assert isinstance(error, Problem)
    return error.response()


async def answer_routing_error(request: Request, error: Exception) -> Response:
    """Starlette's handler of its own 404 and 405."""
    assert isinstance(error, HTTPException)
    if error.status_code == 405:
        allowed = (error.headers or {}).get("Allow", "")
        detail = f"{request.url.path}: does not take {request.method}; use {' or '.join(sorted(allowed.split(', ')))}."
        return Problem("wrong-method", detail, error.headers).response()
    return Problem("not-found", f"{request.url.path}: there is no such route; GET / shows them.").response()


async def answer_failure(request: Request, error: Exception) -> Response:
    """Starlette's handler of everything unforeseen; the error itself goes to the log."""
    return Problem("failed", f"{request.url.path}: failed inside the service; its log says why.").response()
