"""Pages of other origins: a browser lets them read the answers only where the settings name their origin."""

from __future__ import annotations

from urllib.parse import urlsplit

from starlette.datastructures import Headers
from starlette.middleware.cors import CORSMiddleware
from starlette.responses import Response
from starlette.types import ASGIApp

from bundle.errors import HallmarkError
from serving.headers import DIGEST_HEADER, REQUEST_HEADER, VERSION_HEADER
from serving.problems import Problem

METHODS = ("GET", "POST")
SENT = ("Authorization", "Content-Type", "If-None-Match", REQUEST_HEADER)
READ = (VERSION_HEADER, DIGEST_HEADER, REQUEST_HEADER, "ETag", "Retry-After")


class OriginError(HallmarkError):
    """A setting names an origin that no browser sends."""


def read_origins(cors: str) -> list[str]:
    """The origins of a setting, separated by spaces; raises OriginError where one is not spelt as browsers spell it."""
    origins = cors.split()
    for origin in origins:
        if origin != "*" and not _is_origin(origin):
            raise OriginError(
                f"cors: {origin} is no origin; write http or https, ://, the host and its port where it is not "
                "the usual one, in small letters, and nothing behind"
            )
    return origins


def _is_origin(text: str) -> bool:
    try:
        parts = urlsplit(text)
        usual = {"http": 80, "https": 443}.get(parts.scheme, parts.port)
        spelt = f"{parts.scheme}://{parts.netloc}"
        return text == spelt == text.lower() and bool(parts.hostname) and "@" not in text and parts.port != usual
    except ValueError:  # a port that is none, or a bracket that is not closed
        return False


class Origins(CORSMiddleware):
    """Answers preflights, and marks the answers that a page of these origins may read. Cookies are never asked for."""

    def __init__(self, app: ASGIApp, origins: list[str]) -> None:
        super().__init__(app, allow_origins=origins, allow_methods=METHODS, allow_headers=SENT, expose_headers=READ)

    def preflight_response(self, request_headers: Headers) -> Response:
        """Starlette's answer; its refusal as a problem document."""
        response = super().preflight_response(request_headers)
        if response.status_code == 200:
            return response
        detail = (
            f"preflight: a page may send {' and '.join(METHODS)} with the headers {', '.join(SENT)}, from the origins "
            "that this service is set to share with."
        )
        return Problem("not-shared", detail, {"Vary": response.headers["vary"]}).response()
