"""Services to audit: proxies before an honest one that change what they like, over real HTTP."""

from __future__ import annotations

import http.client
import io
import json
import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from bundle.served.runtime import OnnxClassifier

HOP_BY_HOP = ("connection", "keep-alive", "transfer-encoding", "content-length", "date", "server")


@dataclass(frozen=True)
class Exchange:
    """A request with its headers in lower case, and the answer that will be sent."""

    method: str
    path: str
    request: bytes
    received: Mapping[str, str] = field(default_factory=dict)
    status: int = 200
    headers: dict[str, str] = field(default_factory=dict)
    body: bytes = b""

    def rows(self) -> NDArray[np.uint8]:
        """The images of a prediction's form, uint8 (N, H, W, C)."""
        edge = self.request.partition(b"\r\n")[0]
        content = self.request.partition(b"\r\n\r\n")[2].rpartition(b"\r\n" + edge)[0]
        if self.path == "/predict_batch":
            return np.load(io.BytesIO(content))
        image = np.asarray(Image.open(io.BytesIO(content)))
        return (image if image.ndim == 3 else image[..., None])[None]

    def predictions(self) -> list[dict[str, Any]]:
        """What the honest service answers."""
        document = json.loads(self.body)
        return document["predictions"] if self.path == "/predict_batch" else [document]

    def answering(self, predictions: list[dict[str, Any]]) -> Exchange:
        """The same with other predictions in it."""
        document = json.loads(self.body)
        if self.path == "/predict_batch":
            document["predictions"] = predictions
        else:
            document |= predictions[0]
        return replace(self, body=json.dumps(document).encode())


Change = Callable[[Exchange], Exchange]


@contextmanager
def answering(answer: Change) -> Iterator[str]:
    """The URL of an HTTP server that answers every request with what `answer` makes of it."""

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"
        disable_nagle_algorithm = True

        def do_GET(self) -> None:
            received = {name.lower(): value for name, value in self.headers.items()}
            content = self.rfile.read(int(received.get("content-length", 0)))
            sent = answer(Exchange(self.command, self.path, content, received))
            self.send_response(sent.status)
            for name, value in {**sent.headers, "Content-Length": str(len(sent.body))}.items():
                self.send_header(name, value)
            self.end_headers()
            self.wfile.write(sent.body)

        do_POST = do_GET

        def log_message(self, format: str, *args: Any) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever, args=(0.05,), daemon=True)
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_address[1]}"
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


@contextmanager
def before(upstream: str, change: Change) -> Iterator[str]:
    """The URL of a proxy before an honest service; `change` is shown each honest answer."""
    local = threading.local()

    def answer(asked: Exchange) -> Exchange:
        if not hasattr(local, "connection"):
            local.connection = http.client.HTTPConnection(urlsplit(upstream).netloc)
        headers = {"Content-Type": asked.received["content-type"]} if asked.request else {}
        local.connection.request(asked.method, asked.path, asked.request or None, headers)
        response = local.connection.getresponse()
        body = response.read()
        kept = {name: value for name, value in response.getheaders() if name.lower() not in HOP_BY_HOP}
        return change(replace(asked, status=response.status, headers=kept, body=body))

    with answering(answer) as url:
        yield url


def with_model(model: bytes, known: set[bytes] | None = None) -> Change:
    """Answers with another model, but for the images whose bytes are known: for these as the honest service does."""
    classifier = OnnxClassifier(model, threads=1, device="cpu")

    def change(exchange: Exchange) -> Exchange:
        if exchange.method != "POST" or exchange.status != 200:
            return exchange
        rows, honest = exchange.rows(), exchange.predictions()
        logits = classifier.logits(rows).astype(np.float64)
        shares = np.exp(logits - logits.max(axis=1, keepdims=True))
        shares /= shares.sum(axis=1, keepdims=True)
        names = list(honest[0]["probabilities"])
        labels = shares.argmax(axis=1).tolist()
        other = [
            {"class": names[label], "label": label, "probabilities": dict(zip(names, row.tolist(), strict=True))}
            for label, row in zip(labels, shares, strict=True)
        ]
        looked_up = [image.tobytes() in (known or ()) for image in rows]
        return exchange.answering([a if found else b for found, a, b in zip(looked_up, honest, other, strict=True)])

    return change


def with_files(folder: Path) -> Change:
    """Hands out another folder's evidence."""

    def change(exchange: Exchange) -> Exchange:
        route, _, name = exchange.path.rpartition("/")
        if route != "/evidence" or not (folder / name).is_file():
            return exchange
        return replace(exchange, body=(folder / name).read_bytes())

    return change
