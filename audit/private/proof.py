"""A proof: the rows of a challenge, opened by their owner, and checked by whoever drew it."""

from __future__ import annotations

import base64
import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from audit.private.challenge import Challenge, Opening, check_bundle, check_openings, load_challenge
from audit.private.withholding import open_owned
from bundle.bundle import Bundle
from bundle.digests import canonical_json, sha256_bytes
from bundle.errors import HallmarkError
from bundle.layout import read_bounded
from bundle.numbers.intervals import most_false
from bundle.private import HASH_BYTES, SALT_BYTES, audit_path, image_sets

TYPE = "urn:hallmark:proof:v1"
#: The largest file of opened rows, in bytes; their images are in base64. It is read as a whole, and so are its images.
MOST_BYTES = 256 << 20


@dataclass(frozen=True)
class Extent:
    """The most that a proof of a challenge has: its bytes, and its marks, by which a parser's memory grows."""

    size: int
    marks: int


@dataclass(frozen=True)
class ProofCheck:
    """A proof that holds: what was drawn and replayed, and what it leaves open."""

    challenge: Challenge
    images: int
    different: int
    moved: int
    provider: str

    @property
    def most_false(self) -> int:
        """With 95 % confidence no more rows than these are false."""
        return most_false(self.challenge.of, len(self.challenge.rows))

    def describe(self) -> dict[str, Any]:
        """Everything as one JSON document."""
        return {
            "rowsOpened": len(self.challenge.rows),
            "rows": self.challenge.of,
            "imagesReplayed": self.images,
            "differentImages": self.different,
            "answersMovedWithinTolerance": self.moved,
            "provider": self.provider,
            "drawnFrom": self.challenge.source,
            "confidence": 0.95,
            "mostFalseRows": self.most_false,
            "largestFalseShare": self.most_false / self.challenge.of,
        }

    def sentence(self) -> str:
        """The same for people."""
        opened, of = len(self.challenge.rows), self.challenge.of
        fraction = f"{100 * self.most_false / of:.1f} %"
        repeated = f"; only {self.different} of the images are different" if self.different < opened else ""
        return (
            f"{opened} of {of} rows, drawn from {self.challenge.source}, were opened and are true: "
            f"with 95 % confidence at most {self.most_false} rows ({fraction}) are false{repeated}"
        )


def prove(challenge_path: str | Path, owned_path: str | Path) -> bytes:
    """The bytes of a proof: the challenge's rows with salts, audit paths and images, from the owner's part.

    Raises HallmarkError where the challenge is about another bundle than the owner's part, and what load_challenge() and
    open_owned() raise.
    """
    challenge, owned = load_challenge(challenge_path), open_owned(owned_path)
    if challenge.attestation != sha256_bytes(owned.statement_bytes) or challenge.of != len(owned.outcomes):
        raise HallmarkError(f"{challenge_path}: is about another bundle than {owned_path}")
    check_extent(challenge, owned.statement["predicate"], str(challenge_path))
    leaves, names = owned.leaves(), image_sets(owned.statement["predicate"])
    rows = [
        {
            "row": row,
            "salt": owned.salts[row].tobytes().hex(),
            "path": [item.hex() for item in audit_path(leaves, row)],
            "images": {name: _text(owned.images[name][row].tobytes()) for name in names},
        }
        for row in challenge.rows
    ]
    return _encode(sha256_bytes(challenge.encode()), rows)


def check_extent(challenge: Challenge, predicate: Mapping[str, Any], where: str) -> None:
    """Raises HallmarkError where the proof of a challenge would be larger than one may be: its rows are opened together."""
    if (size := _extent(challenge, predicate).size) > MOST_BYTES:
        rows = f"{len(challenge.rows)} rows with all their images take {size} bytes in a proof"
        raise HallmarkError(f"{where}: {rows}, which may have {MOST_BYTES} at most; draw fewer")


def check_proof(bundle: Bundle, proof_path: str | Path, challenge_path: str | Path, threads: int = 2) -> ProofCheck:
    """Checks a proof against a private bundle and the challenge that the caller drew and kept.

    A proof that brings its own challenge proves nothing, since rows could be drawn until they suit. Raises a
    HallmarkError that names the file, and the row where one is false; what is checked of a row, and what is not, says
    audit.private.challenge.
    """
    if bundle.evidence == "open":
        raise HallmarkError(f"{proof_path}: {bundle.path} holds its images, so there is nothing to prove")
    challenge = load_challenge(challenge_path)
    check_bundle(challenge, bundle, str(challenge_path))
    check_extent(challenge, bundle.predicate, str(challenge_path))
    content = _read(proof_path, _extent(challenge, bundle.predicate))
    openings = _openings(content, str(proof_path), challenge, bundle.predicate)
    try:
        replayed = check_openings(bundle, openings, threads)
    except HallmarkError as error:
        raise HallmarkError(f"{proof_path}: {error}") from None
    return ProofCheck(challenge, replayed.images, replayed.different, replayed.moved, replayed.provider)


def _openings(content: bytes, where: str, challenge: Challenge, predicate: Mapping[str, Any]) -> list[Opening]:
    shape = tuple(predicate["data"]["shape"])
    document = _parse(content, where)
    if document["challenge"] != sha256_bytes(challenge.encode()):
        raise HallmarkError(f"{where}: answers another challenge than the one that it is held against")
    if [item["row"] for item in document["rows"]] != list(challenge.rows):
        raise HallmarkError(f"{where}: must open exactly the challenge's rows, each once and in order")
    return [
        Opening(
            item["row"],
            bytes.fromhex(item["salt"]),
            [bytes.fromhex(part) for part in item["path"]],
            {name: _image(text, shape, f"{where}: row {item['row']}: {name}") for name, text in item["images"].items()},
        )
        for item in document["rows"]
    ]


def _parse(content: bytes, where: str) -> dict[str, Any]:
    """A proof of unknown origin; the form is canonical to the byte, so that a changed byte changes what is read."""
    try:
        document = json.loads(content)
        rows = [
            {
                "row": int(item["row"]),
                "salt": _hexadecimal(item["salt"], SALT_BYTES),
                "path": [_hexadecimal(part, HASH_BYTES) for part in item["path"]],
                "images": {str(name): _text(_bytes(text)) for name, text in item["images"].items()},
            }
            for item in document["rows"]
        ]
        same = _encode(str(document["challenge"]), rows) == content
    except (ValueError, TypeError, KeyError, AttributeError, RecursionError, OverflowError):
        same, document = False, {}
    if not same:
        raise HallmarkError(f"{where}: is not a proof as `hallmark prove` writes it, to the byte")
    return document


def _extent(challenge: Challenge, predicate: Mapping[str, Any]) -> Extent:
    """From the form alone: all rows are as long as the one whose audit path is the longest, but for their number."""
    pixels = base64.b64encode(bytes(math.prod(predicate["data"]["shape"]))).decode()
    row = {
        "row": challenge.of,
        "salt": "0" * 2 * SALT_BYTES,
        "path": ["0" * 2 * HASH_BYTES] * (challenge.of - 1).bit_length(),
        "images": dict.fromkeys(image_sets(predicate), pixels),
    }
    one, two = (_encode("0" * 2 * HASH_BYTES, [row] * count) for count in (1, 2))
    further = len(challenge.rows) - 1
    return Extent(len(one) + further * (len(two) - len(one)), _marks(one) + further * (_marks(two) - _marks(one)))


def _marks(content: bytes) -> int:
    """How often a value, a list or an object may begin: a text inside of quotes counts too, and makes no more."""
    return sum(content.count(mark) for mark in (b"{", b"[", b",", b":"))


def _encode(challenge: str, rows: Sequence[Mapping[str, Any]]) -> bytes:
    return canonical_json({"type": TYPE, "challenge": challenge, "rows": list(rows)})


def _image(text: str, shape: tuple[int, ...], where: str) -> NDArray[np.uint8]:
    content = _bytes(text)
    if len(content) != int(np.prod(shape)):
        raise HallmarkError(f"{where} has {len(content)} bytes, an image of shape {shape} has {int(np.prod(shape))}")
    return np.frombuffer(content, np.uint8).reshape(shape)


def _text(content: bytes) -> str:
    return base64.b64encode(content).decode("ascii")


def _bytes(text: Any) -> bytes:
    return base64.b64decode(str(text).encode("ascii"), validate=True)


def _hexadecimal(text: Any, size: int) -> str:
    """The text of `size` bytes in lower case; anything else would be another spelling."""
    content = bytes.fromhex(str(text))
    if len(content) != size:
        raise ValueError(f"must be {size} bytes")
    return content.hex()


def _read(path: str | Path, most: Extent) -> bytes:
    """A proof's bytes; raises HallmarkError where they are more than its challenge asks for, and HallmarkError."""
    try:
        content = read_bounded(Path(path), most.size)
    except OSError as error:
        raise HallmarkError(f"{path}: cannot be read as a proof ({error.strerror})") from None
    if _marks(content) > most.marks:
        raise HallmarkError(f"{path}: has more values than a proof of this challenge")
    return content
