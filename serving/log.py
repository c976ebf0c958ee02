"""The access log: one line of JSON a request, of which no client can make two."""

from __future__ import annotations

import contextlib
import json
from typing import Any, TextIO

from serving.exchange import Exchange


class AccessLog:
    """Writes lines to a stream. There is no image, no token and no query in them, and no header but X-Request-Id."""

    def __init__(self, stream: TextIO) -> None:
        self._stream = stream

    def write(self, exchange: Exchange, version: str) -> None:
        """One line about a request that is over; `version` is the model's. A stream that fails harms no request."""
        with contextlib.suppress(OSError):
            self._stream.write(json.dumps(_line(exchange, version)) + "\n")  # which escapes line breaks
            self._stream.flush()


def _line(exchange: Exchange, version: str) -> dict[str, Any]:
    return {
        "time": exchange.began.isoformat(timespec="milliseconds"),
        "method": exchange.method,
        "route": exchange.route,
        "path": exchange.path,
        "status": exchange.status,
        "seconds": round(exchange.seconds, 6),
        "bytes_in": exchange.bytes_in,
        "bytes_out": exchange.bytes_out,
        "rows": exchange.rows,
        "problem": exchange.problem,
        "version": version,
        "request_id": exchange.request_id,
        "client": exchange.client,
    }
