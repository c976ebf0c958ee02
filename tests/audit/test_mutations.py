"""300 seeded changes of a signed bundle: each is refused with the trusted key, and the message names what is wrong."""

from __future__ import annotations

import random
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from audit.verification import verify
from bundle.errors import HallmarkError
from bundle.layout import ATTESTATION, ENVELOPE, MODEL, OUTCOMES, REQUIRED, WEIGHTS
from bundle.outcomes import Outcomes
from bundle.signatures import key_id, read_public_key, sign
from tests.audit.conftest import Masters
from tests.audit.tampering import rewrite, unbreak

SEEDS_PER_MUTATION = 25
FILES = (*REQUIRED, ENVELOPE)
ATTACKED = [f"served/linf-{eps}/{name}" for eps in (16, 32) for name in ("pgd-10", "margin")]

#: A mutation changes a folder and returns what the message may name; at least one must be in it.
Mutation = Callable[[Path, random.Random, Masters], tuple[str, ...]]


def flip(folder: Path, chance: random.Random, _: Masters) -> tuple[str, ...]:
    name = chance.choice(FILES)
    content = bytearray((folder / name).read_bytes())
    content[chance.randrange(len(content))] ^= 1 << chance.randrange(8)
    (folder / name).write_bytes(content)
    return (name,)


def truncate(folder: Path, chance: random.Random, _: Masters) -> tuple[str, ...]:
    name = chance.choice(FILES)
    content = (folder / name).read_bytes()
    (folder / name).write_bytes(content[: chance.randrange(len(content))])
    return (name,)


def append(folder: Path, chance: random.Random, _: Masters) -> tuple[str, ...]:
    name = chance.choice(FILES)
    with (folder / name).open("ab") as file:
        file.write(chance.choice([b"\n", b" ", b"\0", chance.randbytes(chance.randrange(1, 40))]))
    return (name,)


def swap(folder: Path, chance: random.Random, _: Masters) -> tuple[str, ...]:
    first, second = chance.sample(FILES, 2)
    contents = (folder / first).read_bytes(), (folder / second).read_bytes()
    (folder / first).write_bytes(contents[1])
    (folder / second).write_bytes(contents[0])
    return first, second


def rename(folder: Path, chance: random.Random, _: Masters) -> tuple[str, ...]:
    name = chance.choice(FILES)
    target = chance.choice([name.upper(), f"{name}.bak", f".{name}", "data.bin"])
    (folder / name).rename(folder / target)
    return name, target


def delete(folder: Path, chance: random.Random, _: Masters) -> tuple[str, ...]:
    name = chance.choice(FILES)
    (folder / name).unlink()
    return (name,)


def add(folder: Path, chance: random.Random, _: Masters) -> tuple[str, ...]:
    """A second copy of a file, or a stranger."""
    name = chance.choice(FILES)
    target = chance.choice([f"copy of {name}", f"{name}~", ".gitignore", "notes.txt", "line\nbreak"])
    (folder / target).write_bytes(chance.choice([(folder / name).read_bytes(), b""]))
    return (target,)


def symlink(folder: Path, chance: random.Random, _: Masters) -> tuple[str, ...]:
    """The same bytes, but another file decides tomorrow what they are."""
    name = chance.choice(FILES)
    (folder / name).rename(folder.parent / "elsewhere")
    (folder / name).symlink_to(folder.parent / "elsewhere")
    return (name,)


def make_folder(folder: Path, chance: random.Random, _: Masters) -> tuple[str, ...]:
    name = chance.choice([*FILES, "images", ".git", "empty"])
    (folder / name).unlink(missing_ok=True)
    (folder / name).mkdir()
    return (name,)


def sign_with_another_key(folder: Path, chance: random.Random, masters: Masters) -> tuple[str, ...]:
    (folder / ENVELOPE).write_bytes(sign((folder / ATTESTATION).read_bytes(), masters.other / "key.pem"))
    return (key_id(read_public_key(masters.other / "key.pub")),)


def rewrite_consistently(folder: Path, chance: random.Random, _: Masters) -> tuple[str, ...]:
    """Better outcomes, their claims and digests made to fit; the envelope stays, or goes."""
    rows = slice(chance.randrange(30), 60)
    rewrite(
        folder,
        outcomes=unbreak(chance.choice(ATTACKED), rows),
        predicate=lambda item: item["testReads"].update(models=1 + chance.randrange(9)),
    )
    if chance.random() < 0.5:
        (folder / ENVELOPE).unlink()
    return (ENVELOPE,)


def rewrite_and_sign_with_another_key(folder: Path, chance: random.Random, masters: Masters) -> tuple[str, ...]:
    rewrite_consistently(folder, chance, masters)
    return sign_with_another_key(folder, chance, masters)


MUTATIONS: list[Mutation] = [
    flip,
    truncate,
    append,
    swap,
    rename,
    delete,
    add,
    symlink,
    make_folder,
    sign_with_another_key,
    rewrite_consistently,
    rewrite_and_sign_with_another_key,
]


@pytest.mark.parametrize("mutation", MUTATIONS, ids=lambda mutation: mutation.__name__)
def test_a_changed_bundle_is_refused_and_the_change_named(mutation: Mutation, masters: Masters, tmp_path: Path) -> None:
    for seed in range(SEEDS_PER_MUTATION):
        folder = shutil.copytree(masters.signed, tmp_path / str(seed) / "signed")
        names = mutation(folder, random.Random(f"{mutation.__name__} {seed}"), masters)
        with pytest.raises(HallmarkError) as refusal:
            verify(folder, [masters.trusted / "key.pub"])
        assert any(name in str(refusal.value) for name in names), (seed, names, refusal.value)
        assert "\n" not in str(refusal.value).replace("line\nbreak", "")


def test_there_are_three_hundred() -> None:
    assert len(MUTATIONS) * SEEDS_PER_MUTATION == 300


def test_the_bundle_itself_is_signed(masters: Masters) -> None:
    """Otherwise the tests above would refuse anything."""
    found = verify(masters.signed, [masters.trusted / "key.pub"])
    assert (found.signature.state, found.signature.key_id) == ("signed", masters.key_id)


@pytest.mark.parametrize("attack", ATTACKED)
def test_an_unsigned_consistent_rewriting_is_consistent_but_unsigned_and_never_more(
    attack: str, unsigned: Path, masters: Masters
) -> None:
    before = verify(unsigned)
    rewrite(unsigned, outcomes=unbreak(attack, slice(None)))
    after = verify(unsigned)
    assert after.signature.sentence() == "consistent but unsigned"
    assert after.bundle.predicate["claims"] != before.bundle.predicate["claims"]
    with pytest.raises(HallmarkError, match=r"^consistent but unsigned"):
        verify(unsigned, [masters.trusted / "key.pub"])


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
