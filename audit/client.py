"""A client of a Hallmark service, with the standard library alone.

    with Client("http://127.0.0.1:3000") as client:
        print(client.predict("digit.png").name, client.robustness()["robust"][0]["value"])

Every answer must be by one model: the first that answered, or the one whose SHA-256 is given.
"""

from __future__ import annotations

import io
import json
import secrets
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any, cast
from urllib.parse import quote

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from audit.connection import ClientError, Connection, Response
from bundle.layout import VERSION_DIGITS, most_bytes

__all__ = ["Client", "ClientError", "Prediction"]

DIGEST_HEADER, VERSION_HEADER = "x-model-digest", "x-model-version"
#: The largest document, and the largest answer with predictions, in bytes.
JSON_BYTES, PREDICTION_BYTES = 64 << 20, 16 << 20
#: Rows of one request to begin with; fewer where the service takes fewer.
ROWS = 256


@dataclass(frozen=True)
class Prediction:
    """One answer: the class's name and number, and the probability of every class by name."""

    name: str
    label: int
    probabilities: Mapping[str, float]


class Client:
    """Asks a service, and checks on every answer which model gave it.

    Parameters
    ----------
    url : the service's address, http:// or https:// (whose certificate must be trusted by this machine).
    token : what `Authorization: Bearer` carries, where the service asks for one.
    timeout : the longest silence of the service, in seconds.
    within : seconds from now in which everything must be asked and answered; None is without end. Each answer has a
        minute, and a file a second more for every 256 KiB.
    digest : the SHA-256 of the model.onnx that must answer; where it is not given, the first answer's.
    on_mismatch : is told in one sentence of each answer by another model; without it such an answer raises ClientError.

    Notes
    -----
    A busy service (429, 503) is asked again, a bounded number of times. Redirects are not followed. Every method raises
    ClientError in one sentence: the service cannot be reached, refuses (with its own reason), or is no Hallmark service.
    """

    def __init__(
        self,
        url: str,
        token: str | None = None,
        timeout: float = 30.0,
        *,
        within: float | None = None,
        digest: str | None = None,
        on_mismatch: Callable[[str], None] | None = None,
    ) -> None:
        self._connection = Connection(url, token, timeout, within)
        self._on_mismatch = on_mismatch
        self._rows = ROWS
        #: The SHA-256 of the model that must answer; None before the first answer.
        self.digest = digest
        #: Answers so far whose model was checked.
        self.answers = 0

    @property
    def url(self) -> str:
        return self._connection.url

    def __repr__(self) -> str:
        return f"Client({self.url}, model {self.digest[:VERSION_DIGITS] if self.digest else 'not asked yet'})"

    def __enter__(self) -> Client:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Ends the connection."""
        self._connection.close()

    def predict(self, image: str | Path | bytes | NDArray[np.uint8]) -> Prediction:
        """The answer to one image: a PNG or JPEG file, its bytes, or uint8 (H, W) or (H, W, C), which is sent as PNG."""
        if isinstance(image, np.ndarray):
            content = encode_png(image)
        else:
            content = image if isinstance(image, bytes) else _read(Path(image))
        return self._prediction("/predict", self._post("/predict", "image", content))

    def predict_batch(self, rows: NDArray[np.uint8]) -> list[Prediction]:
        """One answer per row of uint8 (N, H, W, C); sent in as many requests as the service's limit asks for."""
        found: list[Prediction] = []
        while len(found) < len(rows):
            part = rows[len(found) : len(found) + self._rows]
            found += self._batch(part)
        return found

    def robustness(self) -> dict[str, Any]:
        """What the service says was measured for its model."""
        return self._get("/robustness")

    def attestation(self) -> dict[str, Any]:
        """The statement, the SHA-256 of its exact bytes, and its envelope; evidence() has the exact bytes."""
        return self._get("/attestation")

    def versions(self) -> list[dict[str, Any]]:
        """Every version that the service has at hand."""
        listed: Any = self._get("/versions").get("versions")
        if not isinstance(listed, list):
            raise ClientError(f"{self.url}/versions: has no list of versions; is it a Hallmark service?")
        return cast("list[dict[str, Any]]", listed)

    def evidence(self, name: str, limit: int | None = None) -> bytes:
        """A file of the served bundle, by its name (`outcomes.parquet`).

        Refused where it has more than `limit` bytes, by default the most that such a file may have.
        """
        path, limit = f"/evidence/{quote(name, safe='')}", most_bytes(name) if limit is None else limit
        answer = self._connection.get(path, limit, limit)
        self._check(path, answer)
        return answer.body

    def _batch(self, rows: NDArray[np.uint8]) -> list[Prediction]:
        """One request; of no rows where it was too large, and then the next will be half as large."""
        buffer = io.BytesIO()
        np.save(buffer, rows)
        path = "/predict_batch"
        body, kind = _multipart("images", buffer.getvalue())
        answer = self._connection.post(path, body, kind, PREDICTION_BYTES)
        if answer.status == 413 and len(rows) > 1:
            self._rows = len(rows) // 2
            return []
        listed: Any = self._document(path, answer).get("predictions")
        if not isinstance(listed, list) or len(cast("list[Any]", listed)) != len(rows):
            raise ClientError(f"{self.url}{path}: does not give one prediction a row; is it a Hallmark service?")
        return [self._prediction(path, item) for item in cast("list[Any]", listed)]

    def _post(self, path: str, field: str, content: bytes) -> dict[str, Any]:
        body, kind = _multipart(field, content)
        return self._document(path, self._connection.post(path, body, kind, PREDICTION_BYTES))

    def _get(self, path: str) -> dict[str, Any]:
        return self._document(path, self._connection.get(path, JSON_BYTES))

    def _document(self, path: str, answer: Response) -> dict[str, Any]:
        """The JSON object of an answer; the model that it names inside must be the one of its headers."""
        self._check(path, answer)
        document = _json(answer.body)
        if document is None:
            raise ClientError(f"{self.url}{path}: does not answer with a JSON object; is it a Hallmark service?")
        self._check_model(path, "body", document.get("model_digest"), document.get("model_version"))
        return document

    def _check(self, path: str, answer: Response) -> None:
        """Raises ClientError for a refusal; checks which model the headers of every other answer name."""
        self.answers += 1
        model = answer.headers.get(DIGEST_HEADER), answer.headers.get(VERSION_HEADER)
        if answer.status != 200:
            said = (_json(answer.body) or {}).get("detail")
            reason = said if isinstance(said, str) else "without saying why; is it a Hallmark service?"
            raise ClientError(f"{self.url}{path}: answers {answer.status}: {reason}")
        if self.digest is None:
            self.digest = model[0]
        if self.digest is None:
            raise ClientError(f"{self.url}{path}: does not say which model answers; is it a Hallmark service?")
        self._check_model(path, "headers", *model)

    def _check_model(self, path: str, where: str, digest: object, version: object) -> None:
        assert self.digest is not None
        if (digest, version) == (self.digest, self.digest[:VERSION_DIGITS]):
            return
        named = f"model {digest!s:.12} (version {version!s:.12})"
        sentence = f"{self.url}{path}: the {where} name {named}, not {self.digest[:VERSION_DIGITS]}"
        if self._on_mismatch is None:
            raise ClientError(sentence)
        self._on_mismatch(sentence)

    def _prediction(self, path: str, item: Any) -> Prediction:
        try:
            probabilities = {str(name): float(value) for name, value in item["probabilities"].items()}
            return Prediction(str(item["class"]), int(item["label"]), probabilities)
        except (TypeError, ValueError, KeyError, AttributeError, OverflowError):
            raise ClientError(
                f"{self.url}{path}: gives no class with probabilities; is it a Hallmark service?"
            ) from None


def encode_png(image: NDArray[np.uint8]) -> bytes:
    """A PNG file of uint8 (H, W), (H, W, 1) or (H, W, 3); raises ClientError for another array."""
    if image.dtype != np.uint8 or image.ndim not in (2, 3) or (image.ndim == 3 and image.shape[2] not in (1, 3)):
        raise ClientError(f"image: must be uint8 (H, W), (H, W, 1) or (H, W, 3), is {image.dtype} {image.shape}")
    pixels = image[..., 0] if image.ndim == 3 and image.shape[2] == 1 else image
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, format="PNG")
    return buffer.getvalue()


def _read(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError as error:
        raise ClientError(f"{path}: cannot be read ({error.strerror})") from None


def _multipart(field: str, content: bytes) -> tuple[bytes, str]:
    """A form with one file, and its content type."""
    edge = secrets.token_hex(16)
    head = f'--{edge}\r\nContent-Disposition: form-data; name="{field}"; filename="{field}"\r\n\r\n'
    return head.encode() + content + f"\r\n--{edge}--\r\n".encode(), f"multipart/form-data; boundary={edge}"


def _json(body: bytes) -> dict[str, Any] | None:
    try:
        document: Any = json.loads(body)
    except (ValueError, RecursionError):
        return None
    return cast("dict[str, Any]", document) if isinstance(document, dict) else None
