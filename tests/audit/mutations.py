"""Seeded changes of signed bundles and of proofs; each returns what its refusal may name."""

from __future__ import annotations

import json
import random
import shutil
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from bundle.digests import canonical_json, sha256_bytes
from bundle.layout import ATTESTATION, ENVELOPE, IMAGES
from bundle.signatures import key_id, read_public_key, sign
from tests.audit.tampering import rewrite, unbreak

ROWS = 20
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
