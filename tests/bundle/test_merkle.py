"""The Merkle tree of RFC 6962, against its published values and against the RFC's recursive definition."""

import hashlib

import pytest

from bundle.private import audit_path, leaf_hash, node_hash, path_root, tree_root

#: The entries and roots that certificate-transparency implementations share as test vectors.
ENTRIES = [
    bytes.fromhex(text)
    for text in (
        *("", "00", "10", "2021", "3031", "40414243"),
        *("5051525354555657", "606162636465666768696a6b6c6d6e6f"),
    )
]
ROOTS = [
    "6e340b9cffb37a989ca544e6bb780a2c78901d3fb33738768511a30617afa01d",
    "fac54203e7cc696cf0dfcb42c92a1d9dbaf70ad9e621f4bd8d98662f00e3c125",
    "aeb6bcfe274b70a14fb067a5e5578264db0fa9b51af5e0ba159158f329e06e77",
    "d37ee418976dd95753c1c73862b9398fa2a2cf9b4ff0fdfe8b30cd95209614b7",
    "4e3bbb1f7b478dcfe71fb631631519a3bca12c9aefca1612bfce4c13a86264d4",
    "76e67dadbcdf1e10e1b74ddc608abd2f98dfb16fbce75277b5232a127f2087ef",
    "ddb89be403809e325750d3d263cd78929c2942b7942a34b77e122c9594a74c8c",
    "5dc9da79a70659a9ad559cb701ded9a2ab9d823aad2f4960cfe370eff4604328",
]
SIZES = range(1, 34)


def leaves(count: int) -> list[bytes]:
    return [leaf_hash(str(number).encode()) for number in range(count)]


def recursive_root(hashes: list[bytes]) -> bytes:
    """MTH of RFC 6962, 2.1: split at the largest power of two that is smaller than the length."""
    if len(hashes) == 1:
        return hashes[0]
    split = 1 << (len(hashes) - 1).bit_length() - 1
    return hashlib.sha256(b"\x01" + recursive_root(hashes[:split]) + recursive_root(hashes[split:])).digest()


def recursive_path(hashes: list[bytes], place: int) -> list[bytes]:
    """PATH of RFC 6962, 2.1.1."""
    if len(hashes) == 1:
        return []
    split = 1 << (len(hashes) - 1).bit_length() - 1
    if place < split:
        return [*recursive_path(hashes[:split], place), recursive_root(hashes[split:])]
    return [*recursive_path(hashes[split:], place - split), recursive_root(hashes[:split])]


@pytest.mark.parametrize("size", range(1, 9))
def test_the_published_roots_come_out(size: int) -> None:
    assert tree_root([leaf_hash(entry) for entry in ENTRIES[:size]]).hex() == ROOTS[size - 1]


def test_roots_and_paths_are_the_rfcs_for_every_size_and_place() -> None:
    for size in SIZES:
        hashes = leaves(size)
        assert tree_root(hashes) == recursive_root(hashes)
        for place in range(size):
            path = audit_path(hashes, place)
            assert path == recursive_path(hashes, place)
            assert path_root(hashes[place], place, size, path) == tree_root(hashes)


def test_another_leaf_place_or_hash_gives_another_root() -> None:
    """Every place of a tree of 13; a place or hash that did not matter would let a row be passed off as another."""
    hashes = leaves(13)
    root = tree_root(hashes)
    for place in range(13):
        path = audit_path(hashes, place)
        for other in set(range(13)) - {place}:
            assert path_root(hashes[other], place, 13, path) != root
            if len(audit_path(hashes, other)) == len(path):
                assert path_root(hashes[place], other, 13, path) != root
        for step in range(len(path)):
            changed = [*path[:step], bytes(32), *path[step + 1 :]]
            assert path_root(hashes[place], place, 13, changed) != root


def test_a_path_of_another_length_is_refused() -> None:
    hashes = leaves(13)
    for place in range(13):
        path = audit_path(hashes, place)
        for wrong in (path[:-1], [*path, bytes(32)]):
            with pytest.raises(ValueError, match=f"leaf {place} of 13: its audit path has {len(path)} hashes"):
                path_root(hashes[place], place, 13, wrong)


@pytest.mark.parametrize("place", [-1, 5])
def test_places_outside_the_tree_are_refused(place: int) -> None:
    for ask in (lambda: audit_path(leaves(5), place), lambda: path_root(bytes(32), place, 5, [])):
        with pytest.raises(ValueError, match="the tree has leaves 0 to 4"):
            ask()
    with pytest.raises(ValueError, match="at least one leaf"):
        tree_root([])


def test_a_node_is_no_leaf() -> None:
    """Without the prefixes, two hashes in a row would be an entry with the same hash."""
    first, second = leaves(2)
    assert leaf_hash(first + second) != node_hash(first, second)
