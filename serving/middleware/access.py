"""The bearer token: who has it may ask, and nobody else learns more than that the service is up.

Pages of other origins: a browser lets them read the answers only where the settings name their origin.
"""

from __future__ import annotations

import hmac
from urllib.parse import urlsplit

from starlette.datastructures import Headers
from starlette.middleware.cors import CORSMiddleware
from starlette.responses import Response
from starlette.types import ASGIApp, Receive, Scope, Send

from bundle.errors import HallmarkError
from serving.exchange import DIGEST_HEADER, REQUEST_HEADER, VERSION_HEADER
from serving.problems import Problem

#: Platforms probe these and cannot be expected to know a token; they say nothing but yes or no.
OPEN_PATHS = ("/healthz", "/livez", "/readyz")
TOKEN_LENGTH = 16
_CHALLENGE = {"WWW-Authenticate": 'Bearer realm="hallmark"'}


def check_token(token: str) -> None:
    """Raises HallmarkError where a token is too short, or has a character that a header cannot carry as it is."""
    if len(token) < TOKEN_LENGTH:
        raise HallmarkError(f"token: must have at least {TOKEN_LENGTH} characters, has {len(token)}")
    if not all("!" <= character <= "~" for character in token):
        raise HallmarkError("token: must be of visible ASCII characters, without spaces")


class BearerToken:
    """ASGI middleware for HTTP: lets a request through that carries the token, before anything of its body is read."""

    def __init__(self, app: ASGIApp, token: str) -> None:
        self.app = app
        self._token = token.encode("ascii")

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        given = [value for name, value in scope["headers"] if name == b"authorization"]
        if scope["path"] in OPEN_PATHS or (len(given) == 1 and self._is_right(given[0])):
            await self.app(scope, receive, send)
        else:
            await _refusal(len(given)).response()(scope, receive, send)

    def _is_right(self, authorization: bytes) -> bool:
        scheme, _, token = authorization.partition(b" ")
        # In constant time: an answer's delay must not tell how much of a guess is right.
        return scheme.lower() == b"bearer" and hmac.compare_digest(token.strip(b" "), self._token)


def _refusal(given: int) -> Problem:
    if not given:
        return Problem("not-allowed", "Authorization: is missing; send Bearer and this service's token.", _CHALLENGE)
    challenge = {name: f'{value}, error="invalid_token"' for name, value in _CHALLENGE.items()}
    return Problem("not-allowed", "Authorization: is not Bearer and this service's token.", challenge)


METHODS = ("GET", "POST")
SENT = ("Authorization", "Content-Type", "If-None-Match", REQUEST_HEADER)
READ = (VERSION_HEADER, DIGEST_HEADER, REQUEST_HEADER, "ETag", "Retry-After")


def read_origins(cors: str) -> list[str]:
    """The origins of a setting, separated by spaces; raises HallmarkError where one is not spelt as browsers spell it."""
    origins = cors.split()
    for origin in origins:
        if origin != "*" and not _is_origin(origin):
            raise HallmarkError(
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
