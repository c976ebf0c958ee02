"""Private evidence: a bundle that commits to its test images without holding them.

Where images must stay with their owner, the bundle has no images.npz. Its predicate has `privateEvidence` instead, the
root of a Merkle tree (bundle.private) with one leaf a row of the outcome table, in the table's order:

    salt(row)  = HMAC-SHA256(key: the owner's secret, 32 bytes; "hallmark private evidence v1\0" ‖ index)
    leaf(row)  = SHA-256(0x00 ‖ salt(row) ‖ encoding(row))
    encoding   = length of the header ‖ header ‖ pixels of the clean image ‖ pixels of every adversarial image

`index` is the row's image in the test split; it and the length are 8 bytes, the highest first. The header is canonical
JSON (bundle.digests) with `columns` (the row's value in every column of the outcome table, by name: whole numbers, truth
values and texts as JSON has them, other numbers as the text that Python's float.hex gives), `images` (the names of the
images in the order in which they follow: `clean`, then THREAT/ATTACK in the predicate's order) and `shape` [H, W, C].
Pixels are uint8 in C order.

`image_sha256` would let anybody try images against it, so here it is HMAC-SHA256(key: salt(row), clean pixels). The
salts are by index, so two bundles that were made with one secret have equal digests for the same image and can be
compared image by image.

What remains in the table is what the model answered. The model is public, so a number with many digits would be as good
as a digest to somebody who has a guess: margins are rounded to two significant digits, confidences to two decimals,
distances of minimum-norm attacks are rounded up and proved radii down to two significant digits (`coarse`). Claims are
computed from the table as it then stands. Labels, answers and these digits stay public: a guess that is right will agree
with its row, and so will some that are wrong. It has no loss surface, since it is of one image.

The Merkle tree of RFC 6962, section 2.1: one SHA-256 that stands for a list, and short proofs for each entry.

A leaf is SHA-256(0x00 ‖ entry), a node SHA-256(0x01 ‖ left ‖ right): no node can be passed off as a leaf. A list is
split at the largest power of two below its length, so no entry is repeated and every length has its own shape.
"""

from __future__ import annotations

import hmac
import re
from collections.abc import Iterator, Mapping, Sequence
from decimal import ROUND_CEILING, ROUND_FLOOR, ROUND_HALF_EVEN, Context
from hashlib import sha256
from typing import Any, Never

import numpy as np
from numpy.typing import NDArray

from bundle.digests import canonical_json
from bundle.errors import HallmarkError
from bundle.layout import ATTESTATION, IMAGES, OUTCOMES
from bundle.table.outcomes import DISTANCES, Outcomes

#: Bytes of a hash.
HASH_BYTES = 32


def leaf_hash(entry: bytes) -> bytes:
    """The hash of one entry, 32 bytes."""
    return sha256(b"\x00" + entry).digest()


def node_hash(left: bytes, right: bytes) -> bytes:
    """The hash over two hashes of 32 bytes, 32 bytes."""
    return sha256(b"\x01" + left + right).digest()


def tree_root(leaves: Sequence[bytes]) -> bytes:
    """The root over leaf hashes, 32 bytes; one leaf is its own root. Raises ValueError where there is none."""
    if not leaves:
        raise ValueError("a tree needs at least one leaf")
    level = list(leaves)
    while len(level) > 1:
        level = _parents(level)
    return level[0]


def audit_path(leaves: Sequence[bytes], place: int) -> list[bytes]:
    """The hashes that lead from leaf `place` (0 is the first) to the root, the leaf's neighbour first.

    Raises ValueError where the tree has no such leaf.
    """
    if not 0 <= place < len(leaves):
        raise ValueError(f"leaf {place}: the tree has leaves 0 to {len(leaves) - 1}")
    path: list[bytes] = []
    level = list(leaves)
    while len(level) > 1:
        if (neighbour := place ^ 1) < len(level):
            path.append(level[neighbour])
        level, place = _parents(level), place // 2
    return path


def path_root(leaf: bytes, place: int, size: int, path: Sequence[bytes]) -> bytes:
    """The root that a leaf hash at `place` has in a tree of `size` leaves with this audit path.

    Raises ValueError where `place` is not of the tree, or the path is longer or shorter than that of its leaf.
    """
    sides = list(_sides(place, size))
    if len(path) != len(sides):
        raise ValueError(f"leaf {place} of {size}: its audit path has {len(sides)} hashes, not {len(path)}")
    found = leaf
    for on_the_left, neighbour in zip(sides, path, strict=True):
        found = node_hash(neighbour, found) if on_the_left else node_hash(found, neighbour)
    return found


def _parents(level: Sequence[bytes]) -> list[bytes]:
    """Pairs from the left; an odd last one moves up as it is, which gives the RFC's split at a power of two."""
    pairs = [node_hash(level[place], level[place + 1]) for place in range(0, len(level) - 1, 2)]
    return pairs + list(level[len(pairs) * 2 :])


def _sides(place: int, size: int) -> Iterator[bool]:
    """For each hash of an audit path, from the leaf up, whether it stands to the left."""
    if not 0 <= place < size:
        raise ValueError(f"leaf {place}: the tree has leaves 0 to {size - 1}")
    while size > 1:
        if place ^ 1 < size:
            yield place % 2 == 1
        place, size = place // 2, (size + 1) // 2


#: The predicate's field, there exactly in bundles with private evidence.
FIELD = "privateEvidence"
SCHEME = "salted-merkle-v1"
CLEAN = "clean"
#: Bytes of the owner's secret and of a salt.
SECRET_BYTES = SALT_BYTES = HASH_BYTES
SALTED = b"hallmark private evidence v1\0"
#: Digits that margins, distances and proved radii keep, and decimals that confidences keep.
DIGITS = DECIMALS = 2
PROVED = "proved/"


class Withheld(Mapping[str, NDArray[np.uint8]]):
    """Stands for the images of a bundle that has none: empty, and asking for one raises HallmarkError."""

    def __getitem__(self, name: str) -> Never:
        raise HallmarkError(
            f"{IMAGES}: is withheld: this bundle has private evidence, whose images stay with their owner; "
            "`hallmark challenge` asks for some of them"
        )

    def __iter__(self) -> Iterator[str]:
        return iter(())

    def __len__(self) -> int:
        return 0


def is_private(predicate: Mapping[str, Any]) -> bool:
    """Whether a predicate is of a bundle with private evidence."""
    return FIELD in predicate


def record(root: bytes) -> dict[str, Any]:
    """What the predicate says of private evidence with this root of 32 bytes."""
    return {"scheme": SCHEME, "root": root.hex()}


def image_sets(predicate: Mapping[str, Any]) -> list[str]:
    """The names of a row's images: `clean`, then `THREAT/ATTACK` for every attack of the predicate, in its order."""
    return [CLEAN, *(f"{item['threat']}/{item['name']}" for item in predicate["attacks"])]


def row_salt(secret: bytes, index: int) -> bytes:
    """The salt, 32 bytes, of the row whose image has this index in the test split; the secret is 32 random bytes."""
    if len(secret) != SECRET_BYTES:
        raise HallmarkError(f"secret: must be {SECRET_BYTES} bytes, got {len(secret)}")
    return hmac.digest(secret, SALTED + index.to_bytes(8, "big"), "sha256")


def salted_digest(salt: bytes, image: NDArray[np.uint8]) -> str:
    """What stands in `image_sha256` of a private bundle: HMAC-SHA256 of a clean image (H, W, C), 64 digits."""
    return hmac.digest(salt, np.ascontiguousarray(image).tobytes(), "sha256").hex()


def row_leaf(salt: bytes, outcomes: Outcomes, row: int, names: Sequence[str], images: Sequence[NDArray[Any]]) -> bytes:
    """The leaf hash, 32 bytes, of one row.

    `names` are those of image_sets(), `images` uint8 (H, W, C), one for each name.
    """
    columns = {name: _plain(values[row]) for name, values in outcomes.columns.items()}
    header = canonical_json({"columns": columns, "images": list(names), "shape": list(images[0].shape)})
    pixels = b"".join(np.ascontiguousarray(image).tobytes() for image in images)
    return leaf_hash(salt + len(header).to_bytes(8, "big") + header + pixels)


def _plain(value: Any) -> bool | int | str:
    if isinstance(value, np.floating):
        return float(value).hex()
    return value.item() if isinstance(value, np.generic) else str(value)


def coarse(outcomes: Outcomes) -> Outcomes:
    """The table with no more digits of what a model answered than its claims need; verdicts stay as they are."""
    return outcomes.with_columns(
        {name: found for name, values in outcomes.columns.items() if (found := _coarse(name, values)) is not None}
    )


def _coarse(name: str, values: NDArray[Any]) -> NDArray[Any] | None:
    """A column with fewer digits: margins to the nearest, distances up, proved radii down; None: it stays."""
    if name.startswith(DISTANCES):
        return _rounded(values, ROUND_CEILING)
    if name.startswith(PROVED) and values.dtype.kind == "f":
        return _rounded(values, ROUND_FLOOR)
    if name.endswith("/margin"):
        return _rounded(values, ROUND_HALF_EVEN)
    return np.round(values, DECIMALS) if name.endswith("/confidence") else None


def _rounded(values: NDArray[Any], rounding: str) -> NDArray[Any]:
    """In decimals, so that it is the same on every host and again; infinite and undefined values stay."""
    context = Context(prec=DIGITS, rounding=rounding)
    found = [float(context.create_decimal(str(value))) for value in values]  # the shortest text that is the value
    return np.array(found, dtype=values.dtype)


def check_private(predicate: Mapping[str, Any], outcomes: Outcomes) -> None:
    """Raises HallmarkError that names what cannot be in a bundle with private evidence.

    Digests must be of 64 digits, the numbers coarse, and a surface absent.
    """
    if predicate["surface"] is not None:
        raise HallmarkError(f"{ATTESTATION}: surface must be null, as its losses are of one image")
    for row, digest in enumerate(outcomes["image_sha256"]):
        if not re.fullmatch("[0-9a-f]{64}", digest):
            raise HallmarkError(f"{OUTCOMES}: image_sha256 row {row} must be 64 hexadecimal digits")
    for name, values in coarse(outcomes).columns.items():
        if values.dtype.kind == "f" and not np.array_equal(values, outcomes[name], equal_nan=True):
            raise HallmarkError(f"{OUTCOMES}: {name} has more digits than private evidence may show")
