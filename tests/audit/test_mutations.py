"""1,000 seeded changes of signed bundles and of proofs: each is refused, and the message names what is wrong."""

from __future__ import annotations

import random
import shutil
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from audit.private.challenge import draw_challenge
from audit.private.proof import check_proof, prove
from audit.private.withholding import make_private
from audit.releasing import sign_bundle
from audit.verification import verify
from bundle.bundle import open_bundle
from bundle.errors import HallmarkError
from bundle.layout import ENVELOPE, MODEL, OUTCOMES, WEIGHTS
from bundle.signatures import generate_key, key_id, read_public_key
from bundle.table.outcomes import Outcomes
from tests.audit.conftest import Masters
from tests.audit.mutations import (
    ATTACKED,
    CHALLENGE,
    OF_BUNDLES,
    OF_PRIVATE_BUNDLES,
    OF_PROOFS,
    PROOF,
    ROWS,
    Mutation,
    Signed,
)
from tests.audit.tampering import rewrite, unbreak
from tests.bundles import make_bundle

BUNDLE_SEEDS, PRIVATE_SEEDS, PROOF_SEEDS = 50, 15, 19


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Signed:
    root = tmp_path_factory.mktemp("mutations")
    generate_key(root / "trusted")
    generate_key(root / "other")
    make_bundle(root / "open", rows=ROWS, eps=(32,), tier="quick")
    make_private(root / "open", root / "private", root / "owned", bytes(32))
    for kind in ("open", "private"):
        sign_bundle(root / kind, root / "trusted" / "key.pem")
    bundle = open_bundle(root / "private")
    for name, seed in (("answer", "one"), ("another", "two")):
        (root / name).mkdir()
        (root / name / CHALLENGE).write_bytes(draw_challenge(bundle, 5, seed).encode())
        (root / name / PROOF).write_bytes(prove(root / name / CHALLENGE, root / "owned"))
    return Signed(root)


def cases(mutations: list[Mutation]) -> Any:
    return pytest.mark.parametrize("mutation", mutations, ids=lambda mutation: mutation.__name__)


def mutated(
    made: Signed, kind: str, mutation: Mutation, seeds: int, root: Path
) -> Iterator[tuple[Path, tuple[str, ...]]]:
    for seed in range(seeds):
        folder = made.copy(kind, root / str(seed) / kind)
        yield folder, mutation(folder, random.Random(f"{mutation.__name__} {kind} {seed}"), made)


def assert_refused(names: tuple[str, ...], check: Callable[[], Any]) -> None:
    with pytest.raises(HallmarkError) as refusal:
        check()
    assert any(name.replace("\n", "\\n") in str(refusal.value) for name in names), (names, refusal.value)
    assert "\n" not in str(refusal.value)


@cases(OF_BUNDLES)
def test_a_changed_bundle_is_refused_and_the_change_named(mutation: Mutation, made: Signed, tmp_path: Path) -> None:
    for folder, names in mutated(made, "open", mutation, BUNDLE_SEEDS, tmp_path):
        assert_refused(names, lambda folder=folder: verify(folder, [made.trusted / "key.pub"]))


@cases(OF_PRIVATE_BUNDLES)
def test_a_changed_private_bundle_is_refused_and_the_change_named(
    mutation: Mutation, made: Signed, tmp_path: Path
) -> None:
    for folder, names in mutated(made, "private", mutation, PRIVATE_SEEDS, tmp_path):
        assert_refused(names, lambda folder=folder: verify(folder, [made.trusted / "key.pub"]))


@cases(OF_PROOFS)
def test_a_changed_proof_is_refused_and_named(mutation: Mutation, made: Signed, tmp_path: Path) -> None:
    bundle = open_bundle(made.root / "private")
    for folder, names in mutated(made, "answer", mutation, PROOF_SEEDS, tmp_path):
        assert_refused(
            names, lambda folder=folder: check_proof(bundle, folder / PROOF, made.root / "answer" / CHALLENGE)
        )


def test_there_are_a_thousand() -> None:
    counts = Counter({mutation.__name__: 0 for mutation in OF_BUNDLES})
    for mutations, seeds in ((OF_BUNDLES, BUNDLE_SEEDS), (OF_PRIVATE_BUNDLES, PRIVATE_SEEDS), (OF_PROOFS, PROOF_SEEDS)):
        counts.update({mutation.__name__: seeds for mutation in mutations})
    assert counts.total() == 1000
    assert {counts[mutation.__name__] for mutation in OF_BUNDLES} == {BUNDLE_SEEDS + PRIVATE_SEEDS}


def test_what_is_mutated_is_accepted_as_it_is(made: Signed) -> None:
    """Otherwise the tests above would refuse anything."""
    for kind in ("open", "private"):
        found = verify(made.root / kind, [made.trusted / "key.pub"])
        assert (found.signature.state, found.bundle.evidence) == ("signed", kind)
        assert found.signature.key_id == key_id(read_public_key(made.trusted / "key.pub"))
    bundle = open_bundle(made.root / "private")
    assert check_proof(bundle, made.root / "answer" / PROOF, made.root / "answer" / CHALLENGE).images == 15


@pytest.mark.parametrize("attack", ATTACKED)
@pytest.mark.parametrize("kind", ["open", "private"])
def test_an_unsigned_consistent_rewriting_is_consistent_but_unsigned_and_never_more(
    kind: str, attack: str, made: Signed, tmp_path: Path
) -> None:
    folder = made.copy(kind, tmp_path / kind)
    (folder / ENVELOPE).unlink()
    before = verify(folder)
    rewrite(folder, outcomes=unbreak(attack, slice(None)))
    after = verify(folder)
    assert after.signature.sentence() == "consistent but unsigned"
    assert after.bundle.predicate["claims"] != before.bundle.predicate["claims"]
    with pytest.raises(HallmarkError, match=r"^consistent but unsigned"):
        verify(folder, [made.trusted / "key.pub"])


def test_a_rewriting_that_forgets_the_claims_is_refused(unsigned: Path) -> None:
    rewrite(unsigned, outcomes=unbreak("served/linf-16/margin", slice(None)), recompute=False)
    with pytest.raises(HallmarkError, match="claim robust_accuracy served linf-16 margin"):
        verify(unsigned)


def test_another_model_under_the_old_evidence_passes_only_unsigned(unsigned: Path, masters: Masters) -> None:
    """verify does not run the model: whoever may rewrite digests may put any model there, but cannot sign it."""
    rewrite(unsigned, files={name: (masters.second / name).read_bytes() for name in (MODEL, WEIGHTS)})
    assert verify(unsigned).signature.state == "unsigned"
    shutil.copyfile(masters.signed / ENVELOPE, unsigned / ENVELOPE)
    with pytest.raises(HallmarkError, match=ENVELOPE):
        verify(unsigned)


def test_rows_left_out_are_found_by_their_count(unsigned: Path) -> None:
    """Dropping the broken rows would raise every share."""
    rewrite(unsigned, outcomes=lambda table: Outcomes({name: column[5:] for name, column in table.columns.items()}))
    with pytest.raises(HallmarkError, match=f"{OUTCOMES}: has 55 rows"):
        verify(unsigned)
