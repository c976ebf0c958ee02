"""The HTTP server's parser: h11, which reads on where a client offers to go on in another protocol.

Left alone, uvicorn takes httptools where it is installed. That one stops at an `Upgrade` header, as `curl --http2` and some
languages' clients send it with every request: the body is lost, and its bytes are taken for the next request.
"""

from __future__ import annotations

from urllib.parse import unquote

from starlette.types import Scope
from uvicorn.config import HTTP_PROTOCOLS
from uvicorn.protocols.http.h11_impl import H11Protocol


class PlainHTTP(H11Protocol):
    """HTTP/1.1 and nothing else: every offer to upgrade is passed over, as RFC 9110 §7.8 allows."""

    def _get_upgrade(self) -> bytes | None:
        return None


def choose_parser() -> None:
    """Makes it what uvicorn takes; BentoML lets nobody choose."""
    HTTP_PROTOCOLS["auto"] = f"{PlainHTTP.__module__}:{PlainHTTP.__qualname__}"


def in_origin_form(scope: Scope) -> Scope:
    """A request whose target is a whole URL, as clients send it to a proxy, with the URL's path alone (RFC 9112 §3.2.2)."""
    target = scope.get("raw_path", b"")
    if not target.lower().startswith((b"http://", b"https://")):
        return scope
    path = b"/" + target.split(b"/", 3)[3] if target.count(b"/") > 2 else b"/"
    return {**scope, "path": unquote(path.decode("ascii")), "raw_path": path}
