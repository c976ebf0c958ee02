"""A challenge: rows of a bundle with private evidence that its owner is asked to open.

The rows follow from a nonce that the owner could not know when the attestation was made: they are the `count` rows with
the smallest SHA-256("hallmark challenge v1\\0" ‖ nonce ‖ attestation's SHA-256 ‖ row), the row as 8 bytes, the highest
first. The nonce is 32 bytes of the system's entropy, which convinces whoever drew it; or the SHA-256 of a text, such as
a value that a public source of randomness published after the signature, which convinces everybody who trusts the
source. Anybody can draw the rows of a nonce again, so none can be picked by hand.
"""

from __future__ import annotations

import json
import re
import secrets
from dataclasses import asdict, dataclass
from hashlib import sha256
from heapq import nsmallest
from pathlib import Path
from typing import Any

from bundle.bundle import Bundle
from bundle.digests import canonical_json, sha256_bytes
from bundle.errors import HallmarkError
from bundle.layout import ROWS, read_bounded

TYPE = "urn:hallmark:challenge:v1"
DRAWN = b"hallmark challenge v1\0"
SYSTEM = "system entropy"
TEXT = "text: "
NONCE_BYTES = 32
#: The largest file that names every row of a table, in bytes.
MOST_BYTES = 16 << 20


@dataclass(frozen=True)
class Challenge:
    """Which rows are to be opened.

    `attestation` and `model` are the SHA-256 of attestation.json and of model.onnx, `rows` places in the outcome table
    (0 is the first, ascending) out of `of`, `nonce` 64 hexadecimal digits, `source` where it is from: `system entropy`,
    or `text: ` and the text.
    """

    attestation: str
    model: str
    of: int
    rows: tuple[int, ...]
    nonce: str
    source: str

    def encode(self) -> bytes:
        """The bytes of a challenge file: canonical JSON, so that one challenge has one spelling."""
        return canonical_json({"type": TYPE, **asdict(self), "rows": list(self.rows)})


def draw_challenge(bundle: Bundle, count: int, seed_from: str | None = None) -> Challenge:
    """Draws `count` different rows, from the system's entropy or from a text.

    Raises HallmarkError where the bundle has its images, so that there is nothing to ask for, and where `count` is not
    1 to the number of its rows.
    """
    if bundle.evidence == "open":
        raise HallmarkError(f"{bundle.path}: holds its images, so every row can be checked without a challenge")
    size = len(bundle.outcomes)
    if not 1 <= count <= size:
        raise HallmarkError(f"a challenge must name 1 to {size} rows, as many as the bundle has, not {count}")
    nonce = _nonce(seed_from)
    attestation = sha256_bytes(bundle.statement_bytes)
    source = SYSTEM if seed_from is None else f"{TEXT}{seed_from}"
    return Challenge(attestation, bundle.digest, size, drawn_rows(nonce, attestation, size, count), nonce, source)


def drawn_rows(nonce: str, attestation: str, size: int, count: int) -> tuple[int, ...]:
    """The rows that a nonce names, ascending; nonce and attestation are 64 hexadecimal digits."""
    start = DRAWN + bytes.fromhex(nonce) + bytes.fromhex(attestation)
    rows = nsmallest(count, range(size), key=lambda row: sha256(start + row.to_bytes(8, "big")).digest())
    return tuple(sorted(rows))


def read_challenge(content: bytes, where: str) -> Challenge:
    """Parses a challenge file; `where` names it in the messages.

    Raises HallmarkError where it is not canonical to the byte, or its rows are not those of its nonce.
    """
    try:
        challenge = _parse(json.loads(content))
        same = challenge.encode() == content
    except (ValueError, TypeError, KeyError, AttributeError, RecursionError, OverflowError):
        same, challenge = False, None
    if challenge is None or not same:
        raise HallmarkError(f"{where}: is not a challenge as `hallmark challenge` writes it, to the byte")
    if challenge.rows != drawn_rows(challenge.nonce, challenge.attestation, challenge.of, len(challenge.rows)):
        raise HallmarkError(f"{where}: its rows are not those that its nonce names")
    if challenge.source != SYSTEM and _nonce(challenge.source.removeprefix(TEXT)) != challenge.nonce:
        raise HallmarkError(f"{where}: its nonce is not that of its source, {challenge.source}")
    return challenge


def _parse(document: Any) -> Challenge:
    """A challenge of unknown origin; raises ValueError, TypeError, KeyError or AttributeError where it is none."""
    names = ("attestation", "model", "nonce")
    texts = {name: str(document[name]) for name in names}
    source, of = str(document["source"]), int(document["of"])
    if not all(re.fullmatch("[0-9a-f]{64}", text) for text in texts.values()):
        raise ValueError("digests and nonces have 64 hexadecimal digits")
    if not 1 <= len(document["rows"]) <= of <= ROWS or not (source == SYSTEM or source.startswith(TEXT)):
        raise ValueError("no such rows or source")
    return Challenge(of=of, rows=tuple(map(int, document["rows"])), source=source, **texts)


def check_bundle(challenge: Challenge, bundle: Bundle, where: str) -> None:
    """Raises HallmarkError where a challenge is about another bundle than this one."""
    if challenge.attestation != sha256_bytes(bundle.statement_bytes) or challenge.of != len(bundle.outcomes):
        raise HallmarkError(f"{where}: is about attestation {challenge.attestation[:12]}…, not that of {bundle.path}")


def load_challenge(path: str | Path) -> Challenge:
    """Reads a challenge file; raises HallmarkError where it is missing or is none."""
    try:
        return read_challenge(read_bounded(Path(path), MOST_BYTES), str(path))
    except OSError as error:
        raise HallmarkError(f"{path}: cannot be read as a challenge ({error.strerror})") from None


def _nonce(text: str | None) -> str:
    return secrets.token_hex(NONCE_BYTES) if text is None else sha256_bytes(text.encode())
