"""The Merkle tree of RFC 6962, section 2.1: one SHA-256 that stands for a list, and short proofs for each entry.

A leaf is SHA-256(0x00 ‖ entry), a node SHA-256(0x01 ‖ left ‖ right): no node can be passed off as a leaf. A list is
split at the largest power of two below its length, so no entry is repeated and every length has its own shape.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from hashlib import sha256

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
