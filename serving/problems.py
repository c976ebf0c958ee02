"""Refusals: every one is a 4xx or 5xx with a problem document (RFC 9457) whose detail is one sentence."""

from __future__ import annotations

from collections.abc import Mapping

from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import JSONResponse, Response

MEDIA_TYPE = "application/problem+json"

#: Kind of a problem → status and title. The kind is the end of the document's `type`.
KINDS: dict[str, tuple[int, str]] = {
    "bad-form": (400, "The request's form cannot be read"),
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
        super().__init__(detail)
        self.kind, self.detail, self.headers = kind, detail, dict(headers or {})
        self.status, self.title = KINDS[kind]

    def response(self) -> Response:
        """The problem document."""
        document = {
            "type": f"urn:hallmark:problem:{self.kind}",
            "title": self.title,
            "status": self.status,
            "detail": self.detail,
        }
        return JSONResponse(document, self.status, self.headers, media_type=MEDIA_TYPE)


async def answer_problem(request: Request, error: Exception) -> Response:
    """Starlette's handler of a Problem."""
    assert isinstance(error, Problem)
    return error.response()


async def answer_routing_error(request: Request, error: Exception) -> Response:
    """Starlette's handler of its own 404 and 405."""
    assert isinstance(error, HTTPException)
    if error.status_code == 405:
        allowed = (error.headers or {}).get("Allow", "")
        detail = f"{request.url.path}: does not take {request.method}; use {allowed.replace(', ', ' or ')}."
        return Problem("wrong-method", detail, error.headers).response()
    return Problem("not-found", f"{request.url.path}: there is no such route; GET / shows them.").response()


async def answer_failure(request: Request, error: Exception) -> Response:
    """Starlette's handler of everything unforeseen; the error itself goes to the log."""
    return Problem("failed", f"{request.url.path}: failed inside the service; its log says why.").response()
