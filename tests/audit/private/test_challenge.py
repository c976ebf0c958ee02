"""Challenges: what they exclude, who draws them, and which are refused."""

from __future__ import annotations

import hashlib
import json
import tracemalloc
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from scipy.stats import hypergeom

from audit.private.challenge import TYPE, draw_challenge, drawn_rows, load_challenge, read_challenge
from bundle.bundle import open_bundle
from bundle.digests import canonical_json
from bundle.errors import HallmarkError
from bundle.layout import ATTESTATION
from bundle.numbers.intervals import most_false
from tests.audit.private.conftest import ROWS, House


@pytest.mark.parametrize(
    ("size", "opened"), [(1, 1), (60, 20), (60, 60), (100, 1), (1000, 50), (10_000, 50), (10_000, 500)]
)
def test_the_share_is_the_hypergeometric_one(size: int, opened: int) -> None:
    """Held against SciPy's distribution: d false rows are missed with a chance above 5 %, one more is not."""
    left = most_false(size, opened)
    assert hypergeom.pmf(0, size, left, opened) > 0.05
    assert left == size - opened or hypergeom.pmf(0, size, left + 1, opened) <= 0.05


@pytest.mark.parametrize("opened", [1, 20_000, 100_000, 500_000])
def test_the_share_of_a_large_table_takes_no_time(opened: int) -> None:
    """A million rows: binomial coefficients of 100,000 digits took 19 seconds."""
    left = most_false(10**6, opened)
    assert hypergeom.sf(0, 10**6, left, opened) < 0.95 <= hypergeom.sf(0, 10**6, left + 1, opened)


def test_the_bound_is_exact_where_the_chance_is_one_in_twenty() -> None:
    """19 of 20 rows opened miss one false row with a chance of exactly 5 %, which is not more than 5 %."""
    assert most_false(20, 19) == 0
    assert most_false(20, 18) == 1


def test_false_rows_are_found_as_often_as_it_says() -> None:
    """400 draws from 40 rows: with most_false + 1 false rows, a draw misses all of them in at most 5 %, up to chance."""
    false = set(range(most_false(40, 10) + 1))
    draws = [drawn_rows(hashlib.sha256(bytes([n % 256, n // 256])).hexdigest(), "0" * 64, 40, 10) for n in range(400)]
    missed = sum(not false & set(rows) for rows in draws)
    assert 2 <= missed <= 0.05 * 400 + 3 * (400 * 0.05 * 0.95) ** 0.5
    counts = np.bincount(np.concatenate(draws), minlength=40)
    assert ((counts - 100) ** 2 / 75).sum() < 80  # chi-square with 39 degrees of freedom: above 80 in 1 of 10,000


# Who draws


def test_the_rows_follow_from_nonce_and_attestation(honest: House) -> None:
    """Drawn again with hashlib, from the module's description."""
    bundle = open_bundle(honest.bundle)
    drawn = draw_challenge(bundle, 7)
    digest = hashlib.sha256((honest.bundle / ATTESTATION).read_bytes())
    start = b"hallmark challenge v1\x00" + bytes.fromhex(drawn.nonce) + digest.digest()
    ranked = sorted(range(ROWS), key=lambda row: hashlib.sha256(start + row.to_bytes(8, "big")).digest())
    assert (drawn.attestation, drawn.of) == (digest.hexdigest(), ROWS)
    assert sorted(ranked[:7]) == list(drawn.rows)


def test_every_challenge_is_another_unless_its_seed_is_given(honest: House) -> None:
    bundle = open_bundle(honest.bundle)
    assert len({draw_challenge(bundle, 5).nonce for _ in range(10)}) == 10
    assert draw_challenge(bundle, 5, "drand 4242") == draw_challenge(bundle, 5, "drand 4242")
    assert draw_challenge(bundle, 5, "drand 4242").rows != draw_challenge(bundle, 5, "drand 4243").rows
    assert draw_challenge(bundle, 5, "drand 4242").nonce == hashlib.sha256(b"drand 4242").hexdigest()


def test_challenges_that_make_no_sense_are_refused(honest: House, source: Path) -> None:
    for count in (0, -1, ROWS + 1):
        with pytest.raises(HallmarkError, match=f"must name 1 to {ROWS} rows"):
            draw_challenge(open_bundle(honest.bundle), count)
    with pytest.raises(HallmarkError, match="holds its images"):
        draw_challenge(open_bundle(source), 5)


@pytest.mark.parametrize(
    ("fields", "sentence"),
    [
        ({"rows": [1, 2, 3]}, "its rows are not those that its nonce names"),
        ({"source": "text: another"}, "its nonce is not that of its source"),
        ({"nonce": "A" * 64}, "is not a challenge"),
        ({"of": 10**12}, "is not a challenge"),
        ({"rows": []}, "is not a challenge"),
        ({"source": "the prover's choice"}, "is not a challenge"),
        ({"type": "another"}, "is not a challenge"),
    ],
)
def test_a_challenge_that_was_not_drawn_is_refused(honest: House, fields: dict[str, Any], sentence: str) -> None:
    path = honest.challenge(3)
    wrong = path.with_name("wrong.json")
    wrong.write_bytes(canonical_json({**json.loads(path.read_bytes()), **fields}))
    with pytest.raises(HallmarkError, match=f"wrong.json: {sentence}"):
        load_challenge(wrong)


def test_a_small_challenge_takes_little_memory() -> None:
    """400 bytes that name more rows than any table has made their reader hold all of them."""
    document = {"attestation": "0" * 64, "model": "0" * 64, "nonce": "0" * 64, "rows": [1], "source": "system entropy"}
    content = canonical_json({"type": TYPE, "of": 10**7, **document})
    with pytest.raises(HallmarkError, match="is not a challenge as"):
        read_challenge(content, "challenge.json")
    tracemalloc.start()
    rows = drawn_rows("0" * 64, "0" * 64, 10**5, 3)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert len(rows) == 3
    assert peak < 100_000
