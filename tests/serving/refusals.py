"""What every refusal looks like."""

from __future__ import annotations

import httpx


def refused(response: httpx.Response, status: int, detail: str) -> None:
    """Asserts that an answer is a problem document with this status and sentence, and nothing more."""
    document = response.json()
    assert (response.status_code, document["detail"]) == (status, detail)
    assert response.headers["content-type"] == "application/problem+json"
    assert document["status"] == status and set(document) == {"type", "title", "status", "detail"}
    assert document["type"].startswith("urn:hallmark:problem:")
