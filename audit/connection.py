"""One keep-alive HTTP connection to a service: bounded answers, verified TLS, no redirects, failures in one sentence."""

from __future__ import annotations

import http.client
import socket
import ssl
import threading
import time
from collections.abc import Generator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from urllib.parse import SplitResult, urlsplit

from bundle.errors import HallmarkError

#: Answers that ask to come back later, how often one does, and the longest wait between, in seconds.
BUSY = (429, 503)
TRIES = 8
LONGEST_WAIT = 30.0
CHUNK_BYTES = 1 << 20
#: Seconds that one answer may take, and bytes of a file that give it a second more.
ANSWER_SECONDS = 60.0
BYTES_A_SECOND = 256 << 10


class ClientError(HallmarkError):
    """The service cannot be reached, refuses, or is not the one that it should be."""


@dataclass(frozen=True)
class Response:
    """An HTTP answer: its status, its headers by name in lower case, and its whole body."""

    status: int
    headers: dict[str, str]
    body: bytes


@dataclass(frozen=True)
class _Request:
    method: str
    path: str
    body: bytes | None
    headers: dict[str, str]
    limit: int
    seconds: float


class Connection:
    """A connection to the host of a URL; requests go below the URL's own path.

    Parameters: `url` is http:// or https:// with a host and perhaps a port and a path; `token` is sent as
    `Authorization: Bearer`; `timeout` is the longest silence, `within` the time from now in which everything is asked and
    answered (None: as long as it takes), both in seconds. Raises ClientError where they cannot be.
    """

    def __init__(self, url: str, token: str | None, timeout: float, within: float | None = None) -> None:
        parts = _split(url)
        self._within = within
        self._end = float("inf") if within is None else time.monotonic() + within
        self.url = url.rstrip("/")
        self._prefix = parts.path.rstrip("/")
        self._headers = {"Accept-Encoding": "identity"}
        if token is not None:
            if not token.isascii() or not token.isprintable() or not token or " " in token:
                raise ClientError("token: must be printable ASCII characters without a space")
            self._headers["Authorization"] = f"Bearer {token}"
        make = http.client.HTTPSConnection if parts.scheme == "https" else http.client.HTTPConnection
        self._http = make(parts.hostname or "", parts.port, timeout=timeout)

    def close(self) -> None:
        """Ends the connection; another request would open it again."""
        self._http.close()

    def get(self, path: str, limit: int, size: int = 0) -> Response:
        """GET; raises ClientError where the body is larger than `limit` bytes.

        An answer may take ANSWER_SECONDS, and longer where `size` bytes are awaited.
        """
        seconds = ANSWER_SECONDS + size / BYTES_A_SECOND
        return self._patiently(_Request("GET", path, None, self._headers, limit, seconds))

    def post(self, path: str, body: bytes, content_type: str, limit: int) -> Response:
        """POST; the same."""
        headers = self._headers | {"Content-Type": content_type}
        return self._patiently(_Request("POST", path, body, headers, limit, ANSWER_SECONDS))

    def _patiently(self, request: _Request) -> Response:
        """Asks again where the service is busy, after as long as it says, TRIES times in all."""
        where = f"{self.url}{request.path}"
        answer = self._send(request)
        for _ in range(TRIES - 1):
            if answer.status not in BUSY:
                break
            time.sleep(max(0.0, min(_wait(answer), self._end - time.monotonic())))
            answer = self._send(request)
        if answer.status in BUSY:
            raise ClientError(f"{where}: is busy ({answer.status}), {TRIES} times in a row; try again later")
        if 300 <= answer.status < 400:
            target = answer.headers.get("location", "nowhere")
            raise ClientError(f"{where}: redirects to {target}, which is not followed; give that address")
        return answer

    def _send(self, request: _Request) -> Response:
        reused = self._http.sock is not None
        end = min(time.monotonic() + request.seconds, self._end)
        try:
            return self._ask(request, end)
        except (OSError, http.client.HTTPException) as error:
            self.close()
            if time.monotonic() >= end:
                raise self._late(request) from None
            if reused and isinstance(
                error, ConnectionError
            ):  # closed while it lay idle; every route can be asked twice
                return self._send(request)
            raise self._failed(error) from None

    def _ask(self, request: _Request, end: float) -> Response:
        if time.monotonic() >= end:
            raise self._late(request)
        if self._http.sock is None:
            self._http.connect()
        assert self._http.sock is not None
        with _ended(self._http.sock, end):
            self._http.request(request.method, self._prefix + request.path, request.body, request.headers)
            response = self._http.getresponse()
            content = self._read(response, request)
        if time.monotonic() >= end:  # an end that was forced may look like the answer's own
            self.close()
            raise self._late(request)
        return Response(response.status, {name.lower(): value for name, value in response.getheaders()}, content)

    def _late(self, request: _Request) -> ClientError:
        if time.monotonic() >= self._end:
            return ClientError(f"{self.url}: did not answer everything within {self._within:g} seconds")
        return ClientError(f"{self.url}{request.path}: took longer than {request.seconds:g} seconds for its answer")

    def _read(self, response: http.client.HTTPResponse, request: _Request) -> bytes:
        declared, content = response.length, bytearray()
        while chunk := response.read(min(CHUNK_BYTES, request.limit + 1 - len(content))):
            content += chunk
            if len(content) > request.limit:
                self.close()  # the rest of it is still on its way
                raise ClientError(f"{self.url}{request.path}: answers with more than {request.limit} bytes")
        if declared is not None and len(content) < declared:
            raise http.client.IncompleteRead(bytes(content), declared - len(content))
        return bytes(content)

    def _failed(self, error: Exception) -> ClientError:
        if isinstance(error, ssl.SSLCertVerificationError):
            return ClientError(f"{self.url}: its certificate is not trusted ({error.verify_message})")
        if isinstance(error, ssl.SSLError):
            return ClientError(f"{self.url}: no TLS connection ({error.reason or error}); is it http:// instead?")
        if isinstance(error, TimeoutError):
            return ClientError(f"{self.url}: gave no answer within {self._http.timeout:g} seconds")
        if isinstance(error, http.client.RemoteDisconnected | http.client.IncompleteRead):
            return ClientError(f"{self.url}: broke off before the end of its answer")
        if isinstance(error, http.client.HTTPException):
            return ClientError(f"{self.url}: does not answer as HTTP says ({type(error).__name__}); is it https://?")
        reason = getattr(error, "strerror", None) or str(error) or type(error).__name__
        return ClientError(f"{self.url}: cannot be reached ({reason})")


@contextmanager
def _ended(sock: socket.socket, end: float) -> Generator[None]:
    """Shuts a socket down at `end`, since a timeout is about one silence and knows nothing of the whole."""
    timer = threading.Timer(min(max(end - time.monotonic(), 0.0), threading.TIMEOUT_MAX), _shut, [sock])
    timer.daemon = True
    timer.start()
    try:
        yield
    finally:
        timer.cancel()


def _shut(sock: socket.socket) -> None:
    with suppress(OSError):
        # Not SSLSocket's own, which takes the TLS session away from under whoever reads.
        socket.socket.shutdown(sock, socket.SHUT_RDWR)


def _split(url: str) -> SplitResult:
    wanted = "must be like http://host:3000 or https://host/path"
    try:
        parts = urlsplit(url)
        good = parts.scheme in ("http", "https") and bool(parts.hostname) and parts.port != 0
    except ValueError:
        raise ClientError(f"{url}: is no URL; it {wanted}") from None
    if not good or parts.query or parts.fragment or not url.isascii() or not url.isprintable() or " " in url:
        raise ClientError(f"{url}: is no URL of a service; it {wanted}")
    if parts.username is not None:
        raise ClientError("URL: must not hold a name or a password; a token goes by itself")
    return parts


def _wait(answer: Response) -> float:
    """The seconds of Retry-After, 1 where it says none, at most LONGEST_WAIT."""
    said = answer.headers.get("retry-after", "")
    return min(float(said), LONGEST_WAIT) if said.isdecimal() else 1.0
