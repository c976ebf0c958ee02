"""1,000 seeded changes of signed bundles and of proofs: each is refused, and the message names what is wrong."""

from __future__ import annotations

import json
import random
import shutil
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from audit.private.challenge import draw_challenge
from audit.private.proof import check_proof, prove
from audit.private.withholding import make_private
from audit.release.signing import sign_bundle
from audit.verification import verify
from bundle.bundle import open_bundle
from bundle.digests import canonical_json, sha256_bytes
from bundle.errors import HallmarkError
from bundle.layout import ATTESTATION, ENVELOPE, IMAGES, MODEL, OUTCOMES, WEIGHTS
from bundle.signatures import generate_key, key_id, read_public_key, sign
from bundle.table.outcomes import Outcomes
from tests.audit.conftest import Masters
from tests.audit.tampering import rewrite, unbreak
from tests.bundles import make_bundle

ROWS = 20
BUNDLE_SEEDS, PRIVATE_SEEDS, PROOF_SEEDS = 50, 15, 19
ATTACKED = ["served/linf-32/pgd-10", "served/linf-32/margin"]
#: What a refusal of a proof names: the file or the row.
PROOF, CHALLENGE = "proof.json", "challenge.json"


@dataclass(frozen=True)
class Signed:
    """Signed bundles that no test changes, with images and with private evidence; keys; two proofs with challenges."""

    root: Path

    @property
    def trusted(self) -> Path:
        return self.root / "trusted"

    @property
    def other(self) -> Path:
        return self.root / "other"

    def copy(self, kind: str, target: Path) -> Path:
        """Hard links would do, but a change through one would reach the master."""
        return Path(shutil.copytree(self.root / kind, target))


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


#: A mutation changes a folder and returns what the message may name; at least one must be in it.
Mutation = Callable[[Path, random.Random, Signed], tuple[str, ...]]


def names_in(folder: Path) -> list[str]:
    return sorted(item.name for item in folder.iterdir())


def flip(folder: Path, chance: random.Random, _: Signed) -> tuple[str, ...]:
    name = chance.choice(names_in(folder))
    content = bytearray((folder / name).read_bytes())
    content[chance.randrange(len(content))] ^= 1 << chance.randrange(8)
    (folder / name).write_bytes(content)
    return (name,)


def truncate(folder: Path, chance: random.Random, _: Signed) -> tuple[str, ...]:
    name = chance.choice(names_in(folder))
    content = (folder / name).read_bytes()
    (folder / name).write_bytes(content[: chance.randrange(len(content))])
    return (name,)


def append(folder: Path, chance: random.Random, _: Signed) -> tuple[str, ...]:
    name = chance.choice(names_in(folder))
    with (folder / name).open("ab") as file:
        file.write(chance.choice([b"\n", b" ", b"\0", chance.randbytes(chance.randrange(1, 40))]))
    return (name,)


def swap(folder: Path, chance: random.Random, _: Signed) -> tuple[str, ...]:
    first, second = chance.sample(names_in(folder), 2)
    contents = (folder / first).read_bytes(), (folder / second).read_bytes()
    (folder / first).write_bytes(contents[1])
    (folder / second).write_bytes(contents[0])
    return first, second


def rename(folder: Path, chance: random.Random, _: Signed) -> tuple[str, ...]:
    name = chance.choice(names_in(folder))
    target = chance.choice([name.upper(), f"{name}.bak", f".{name}", "data.bin"])
    (folder / name).rename(folder / target)
    return name, target


def delete(folder: Path, chance: random.Random, _: Signed) -> tuple[str, ...]:
    name = chance.choice(names_in(folder))
    (folder / name).unlink()
    return (name,)


def duplicate(folder: Path, chance: random.Random, _: Signed) -> tuple[str, ...]:
    """A second copy of a file, or a stranger."""
    name = chance.choice(names_in(folder))
    target = chance.choice([f"copy of {name}", f"{name}~", ".gitignore", "notes.txt", "line\nbreak"])
    (folder / target).write_bytes(chance.choice([(folder / name).read_bytes(), b""]))
    return (target,)


def symlink(folder: Path, chance: random.Random, _: Signed) -> tuple[str, ...]:
    """A link to nothing, to a folder, or to a file of other bytes; one to the same bytes is the same file."""
    name = chance.choice(names_in(folder))
    content = (folder / name).read_bytes()
    (folder / name).unlink()
    (folder / name).symlink_to(folder.parent / "elsewhere")
    match chance.choice(["nothing", "folder", "bytes"]):
        case "folder":
            (folder.parent / "elsewhere").mkdir()
        case "bytes":
            (folder.parent / "elsewhere").write_bytes(content[:-1] + bytes([content[-1] ^ 1]))
        case _:
            pass
    return (name,)


def make_folder(folder: Path, chance: random.Random, _: Signed) -> tuple[str, ...]:
    name = chance.choice([*names_in(folder), "images", ".git", "empty"])
    (folder / name).unlink(missing_ok=True)
    (folder / name).mkdir()
    return (name,)


def sign_with_another_key(folder: Path, chance: random.Random, made: Signed) -> tuple[str, ...]:
    (folder / ENVELOPE).write_bytes(sign((folder / ATTESTATION).read_bytes(), made.other / "key.pem"))
    return (key_id(read_public_key(made.other / "key.pub")),)


def rewrite_consistently(folder: Path, chance: random.Random, _: Signed) -> tuple[str, ...]:
    """Better outcomes, their claims and digests made to fit; the envelope stays, or goes."""
    rows = slice(chance.randrange(ROWS // 2), ROWS)
    rewrite(
        folder,
        outcomes=unbreak(chance.choice(ATTACKED), rows),
        predicate=lambda item: item["testReads"].update(models=2 + chance.randrange(9)),
    )
    if chance.random() < 0.5:
        (folder / ENVELOPE).unlink()
    return (ENVELOPE,)


def rewrite_and_sign_with_another_key(folder: Path, chance: random.Random, made: Signed) -> tuple[str, ...]:
    rewrite_consistently(folder, chance, made)
    return sign_with_another_key(folder, chance, made)


#: Of every folder of files.
OF_FILES: list[Mutation] = [flip, truncate, append, swap, rename, delete, duplicate, symlink, make_folder]
OF_BUNDLES: list[Mutation] = [
    *OF_FILES,
    sign_with_another_key,
    rewrite_consistently,
    rewrite_and_sign_with_another_key,
]


# Of private bundles alone


def add_images(folder: Path, chance: random.Random, made: Signed) -> tuple[str, ...]:
    """Images beside a commitment to others, or to these."""
    (folder / IMAGES).write_bytes((made.root / "open" / IMAGES).read_bytes()[chance.randrange(2) :])
    return (IMAGES,)


def change_root(folder: Path, chance: random.Random, _: Signed) -> tuple[str, ...]:
    root = chance.randbytes(32).hex()
    rewrite(folder, predicate=lambda item: item["privateEvidence"].update(root=root))
    return (ENVELOPE,)


OF_PRIVATE_BUNDLES: list[Mutation] = [*OF_BUNDLES, add_images, change_root]


# Of proofs: the challenge is the auditor's own, and is not changed


def flip_proof(folder: Path, chance: random.Random, _: Signed) -> tuple[str, ...]:
    content = bytearray((folder / PROOF).read_bytes())
    content[chance.randrange(len(content))] ^= 1 << chance.randrange(8)
    (folder / PROOF).write_bytes(content)
    return (PROOF,)


def truncate_proof(folder: Path, chance: random.Random, _: Signed) -> tuple[str, ...]:
    content = (folder / PROOF).read_bytes()
    (folder / PROOF).write_bytes(content[: chance.randrange(len(content))])
    return (PROOF,)


def append_to_proof(folder: Path, chance: random.Random, _: Signed) -> tuple[str, ...]:
    with (folder / PROOF).open("ab") as file:
        file.write(chance.choice([b"\n", b" ", b"\0", b"{}"]))
    return (PROOF,)


def edit_proof(folder: Path, edit: Callable[[list[dict[str, Any]]], Any]) -> tuple[str, ...]:
    """The proof in its canonical form, with other rows."""
    document = json.loads((folder / PROOF).read_bytes())
    edit(document["rows"])
    (folder / PROOF).write_bytes(canonical_json(document))
    return (PROOF,)


def drop_row(folder: Path, chance: random.Random, _: Signed) -> tuple[str, ...]:
    return edit_proof(folder, lambda rows: rows.pop(chance.randrange(len(rows))))


def repeat_row(folder: Path, chance: random.Random, _: Signed) -> tuple[str, ...]:
    return edit_proof(folder, lambda rows: rows.insert(chance.randrange(len(rows)), chance.choice(rows)))


def swap_rows(folder: Path, chance: random.Random, _: Signed) -> tuple[str, ...]:
    """What one row opens is passed off as another's: salt, path and images together, or one of them."""

    def edit(rows: list[dict[str, Any]]) -> None:
        first, second = chance.sample(rows, 2)
        for key in chance.choice([("salt", "path", "images"), ("images",), ("salt",), ("path",)]):
            first[key], second[key] = second[key], first[key]

    return edit_proof(folder, edit)


def swap_images_of_a_row(folder: Path, chance: random.Random, _: Signed) -> tuple[str, ...]:
    """The clean image in the place of what an attack made of it, or the other way round."""

    def edit(rows: list[dict[str, Any]]) -> None:
        images = chance.choice(rows)["images"]
        first, second = chance.choice([("clean", "linf-32/pgd-10"), ("linf-32/pgd-10", "linf-32/margin")])
        images[first], images[second] = images[second], images[first]

    return edit_proof(folder, edit)


def leave_images_out(folder: Path, chance: random.Random, _: Signed) -> tuple[str, ...]:
    """A missing set of images, one more, or an image of another size."""

    def edit(rows: list[dict[str, Any]]) -> None:
        images = chance.choice(rows)["images"]
        name = chance.choice(sorted(images))
        kept = images.pop(name)
        images.update(chance.choice([{}, {name: ""}, {name: kept[:4]}, {name: kept, "more": kept}, {"other": kept}]))

    return edit_proof(folder, edit)


def forge_path(folder: Path, chance: random.Random, _: Signed) -> tuple[str, ...]:
    def edit(rows: list[dict[str, Any]]) -> None:
        path = chance.choice(rows)["path"]
        chance.choice(
            [
                lambda: path.pop(),
                lambda: path.append(chance.randbytes(32).hex()),
                lambda: path.__setitem__(0, chance.randbytes(32).hex()),
                lambda: path.reverse(),
            ]
        )()

    return edit_proof(folder, edit)


def answer_another_challenge(folder: Path, chance: random.Random, made: Signed) -> tuple[str, ...]:
    """Rows that suit the prover, under its own challenge or under the auditor's name."""
    document = json.loads((made.root / "another" / PROOF).read_bytes())
    if chance.random() < 0.5:
        document["challenge"] = sha256_bytes((folder / CHALLENGE).read_bytes())
    (folder / PROOF).write_bytes(canonical_json(document))
    return (PROOF,)


OF_PROOFS: list[Mutation] = [
    flip_proof,
    truncate_proof,
    append_to_proof,
    drop_row,
    repeat_row,
    swap_rows,
    swap_images_of_a_row,
    leave_images_out,
    forge_path,
    answer_another_challenge,
]


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
