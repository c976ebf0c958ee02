"""What holds for every input of the bundle's small mathematics: intervals, Merkle trees, canonical JSON."""

from __future__ import annotations

import json
import math
from typing import Any

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from scipy.stats import binomtest

from bundle.attestation import check_field
from bundle.digests import canonical_json, each_once
from bundle.numbers.intervals import clopper_pearson, lower_bound
from bundle.private import audit_path, leaf_hash, path_root, tree_root

#: What JSON holds: texts without half a surrogate pair, whole numbers of any size, finite numbers.
TEXTS = st.text(st.characters(exclude_categories=["Cs"]), max_size=20)
SCALARS = st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | TEXTS
DOCUMENTS = st.recursive(
    SCALARS, lambda inner: st.lists(inner, max_size=5) | st.dictionaries(TEXTS, inner, max_size=5), max_leaves=30
)
COUNTS = st.integers(1, 10**5).flatmap(lambda trials: st.tuples(st.integers(0, trials), st.just(trials)))
TREES = st.lists(st.binary(max_size=8), min_size=1, max_size=70)


@settings(max_examples=300, deadline=None)
@given(COUNTS, st.sampled_from([0.9, 0.95, 0.99, 0.999]))
def test_intervals_are_scipys_exact_ones(counts: tuple[int, int], confidence: float) -> None:
    successes, trials = counts
    expected = binomtest(successes, trials).proportion_ci(confidence, method="exact")
    found = clopper_pearson(successes, trials, confidence)
    assert found == pytest.approx((expected.low, expected.high), rel=1e-9, abs=1e-12)
    assert 0 <= found[0] <= successes / trials <= found[1] <= 1
    assert lower_bound(successes, trials, (1 - confidence) / 2) == pytest.approx(found[0], rel=1e-9, abs=1e-12)


@settings(max_examples=200, deadline=None)
@given(COUNTS)
def test_successes_and_failures_have_mirrored_intervals_and_one_more_success_moves_both_ends_up(
    counts: tuple[int, int],
) -> None:
    successes, trials = counts
    lower, upper = clopper_pearson(successes, trials)
    mirrored = clopper_pearson(trials - successes, trials)
    assert (1 - upper, 1 - lower) == pytest.approx(mirrored, abs=1e-9)
    if successes < trials:
        more = clopper_pearson(successes + 1, trials)
        assert more[0] > lower and (more[1] > upper or upper == 1)


@settings(max_examples=150, deadline=None)
@given(TREES, st.data())
def test_every_leaf_opens_and_no_bent_bit_does(entries: list[bytes], data: st.DataObject) -> None:
    """Of the leaf, of each hash of its path, and of the root."""
    leaves = [leaf_hash(entry) for entry in entries]
    root = tree_root(leaves)
    place = data.draw(st.integers(0, len(leaves) - 1))
    path = audit_path(leaves, place)
    assert path_root(leaves[place], place, len(leaves), path) == root
    assert len(path) <= math.ceil(math.log2(len(leaves)))
    bent = data.draw(st.integers(0, len(path)))
    bit = data.draw(st.integers(0, 255))
    hashes = [leaves[place], *path]
    hashes[bent] = bytes(byte ^ (1 << bit % 8 if number == bit // 8 else 0) for number, byte in enumerate(hashes[bent]))
    assert path_root(hashes[0], place, len(leaves), hashes[1:]) != root


@settings(max_examples=100, deadline=None)
@given(TREES, st.data())
def test_another_entry_anywhere_is_another_root(entries: list[bytes], data: st.DataObject) -> None:
    changed = list(entries)
    place = data.draw(st.integers(0, len(entries) - 1))
    changed[place] = data.draw(st.binary(max_size=8).filter(lambda entry: entry != entries[place]))
    roots = {tree_root([leaf_hash(entry) for entry in some]) for some in (entries, changed, [*entries, b""])}
    assert len(roots) == 3


@settings(max_examples=300, deadline=None)
@given(DOCUMENTS)
@example({"a": -0.0, "b": 1e308, "\u2028": "\U0001f600", "": [2**64]})
def test_canonical_json_is_read_back_and_written_to_the_same_bytes(document: Any) -> None:
    content = canonical_json(document)
    read = json.loads(content, object_pairs_hook=each_once)
    assert read == document and canonical_json(read) == content
    assert content.endswith(b"\n") and b"\r" not in content


@settings(max_examples=200, deadline=None)
@given(st.dictionaries(TEXTS, SCALARS, min_size=2, max_size=8), st.randoms(use_true_random=False))
def test_the_order_of_names_changes_no_byte(document: dict[str, Any], chance: Any) -> None:
    names = list(document)
    chance.shuffle(names)
    assert canonical_json({name: document[name] for name in names}) == canonical_json(document)


@settings(max_examples=200, deadline=None)
@given(st.integers(1, 2**53), st.integers(0, 2**53))
def test_what_the_schema_takes_comes_back_as_the_same_bytes(size: int, seed: int) -> None:
    sample = {"size": size, "of": size, "seed": seed, "rule": "stratified draw"}
    read = json.loads(canonical_json(sample))
    check_field("sample", read, "attacks.json")
    assert canonical_json(read) == canonical_json(sample)
