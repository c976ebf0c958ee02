"""The bearer token: who has it may ask, and nobody else learns more than that the service is up."""

from __future__ import annotations

import hmac

from starlette.types import ASGIApp, Receive, Scope, Send

from bundle.errors import HallmarkError
from serving.problems import Problem

#: Platforms probe these and cannot be expected to know a token; they say nothing but yes or no.
OPEN_PATHS = ("/healthz", "/livez", "/readyz")
TOKEN_LENGTH = 16
_CHALLENGE = {"WWW-Authenticate": 'Bearer realm="hallmark"'}


class AccessError(HallmarkError):
    """The token is not one that can be asked for. The message never has the token in it."""


def check_token(token: str) -> None:
    """Raises AccessError where a token is too short, or has a character that a header cannot carry as it is."""
    if len(token) < TOKEN_LENGTH:
        raise AccessError(f"token: must have at least {TOKEN_LENGTH} characters, has {len(token)}")
    if not all("!" <= character <= "~" for character in token):
        raise AccessError("token: must be of visible ASCII characters, without spaces")


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
