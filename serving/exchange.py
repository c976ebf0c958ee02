"""What is noted about one request while it is answered; metrics and access log read it at the end."""

from __future__ import annotations

from collections import Counter
from collections.abc import MutableMapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any

_KEY = "hallmark.exchange"


@dataclass(slots=True)
class Exchange:
    """One request and its answer. What a client chose freely is in `path` alone.

    method : one of HTTP's own, or `other`.
    route : the template of the route, such as /evidence/{file}, or `unmatched`.
    path : what was asked for, percent-encoded and cut off, without the query.
    client : the IP address of the client, None where it is not known.
    request_id : letters, digits and ._~- only.
    began : when the request's head had arrived.
    seconds : until the last byte of the answer was handed on.
    status : of the answer; None where the request was given up before there was one.
    bytes_in, bytes_out : of the bodies that were read and sent.
    rows : images that were asked about, once they passed the checks.
    problem : the kind of the refusal; None where it was none.
    predicted : how often each class was the answer.
    """

    method: str = "other"
    route: str = "unmatched"
    path: str = ""
    client: str | None = None
    request_id: str = ""
    began: datetime = field(default_factory=lambda: datetime.now(UTC))
    seconds: float = 0.0
    status: int | None = None
    bytes_in: int = 0
    bytes_out: int = 0
    rows: int = 0
    problem: str | None = None
    predicted: Counter[str] = field(default_factory=Counter)


def open_exchange(scope: MutableMapping[str, Any], exchange: Exchange) -> None:
    """Ties an exchange to a request."""
    scope[_KEY] = exchange


def exchange_of(scope: MutableMapping[str, Any]) -> Exchange:
    """The exchange of a request; where nobody watches, one that nobody reads."""
    return scope.setdefault(_KEY, Exchange())
