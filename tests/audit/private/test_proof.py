"""Proofs: what an auditor learns about evidence that stays in its owner's house."""

from __future__ import annotations

import hashlib
import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from typer.testing import CliRunner

from audit.cli import app
from audit.private.challenge import load_challenge
from audit.private.proof import check_proof, prove
from audit.private.withholding import leaves, open_owned
from bundle.bundle import open_bundle
from bundle.digests import canonical_json
from bundle.errors import HallmarkError
from bundle.layout import ATTESTATION, IMAGES, OUTCOMES
from bundle.numbers.intervals import most_false
from bundle.private import salted_digest, tree_root
from bundle.table.outcomes import Outcomes
from tests.audit.private.conftest import ROWS, House, private
from tests.audit.tampering import rewrite, unbreak

Images = dict[str, np.ndarray[Any, Any]]


def committed_to(house: House, root: Path, edit: Callable[[Images], Any]) -> House:
    """A house whose maker committed to other images, in the table's digests and in the root."""
    found = House(shutil.copytree(house.bundle, root / "private"), shutil.copytree(house.owned, root / "owned"))
    owned = open_owned(found.owned)
    images = {name: array.copy() for name, array in owned.images.items()}
    edit(images)
    digests = [salted_digest(salt.tobytes(), image) for salt, image in zip(owned.salts, images["clean"], strict=True)]
    table = owned.outcomes.with_columns({"image_sha256": digests})
    top = tree_root(leaves(table, images, owned.salts, owned.statement["predicate"])).hex()
    rewrite(found.bundle, outcomes=lambda _: table, predicate=lambda item: item["privateEvidence"].update(root=top))
    np.savez(found.owned / IMAGES, **images)
    for name in (OUTCOMES, ATTESTATION):
        shutil.copyfile(found.bundle / name, found.owned / name)
    return found


# What a proof shows


@pytest.mark.parametrize("count", [1, 12, ROWS])
def test_honest_rows_are_true(honest: House, count: int) -> None:
    found = honest.check(count)
    assert (found.images, found.moved, found.provider) == (5 * count, 0, "CPUExecutionProvider")
    assert found.describe()["mostFalseRows"] == most_false(ROWS, count)
    assert found.describe()["differentImages"] == count
    assert found.sentence().startswith(f"{count} of {ROWS} rows, drawn from text: seed, were opened and are true")


def test_a_better_story_is_found_where_a_false_row_is_opened(source: Path, tmp_path: Path) -> None:
    """Verdicts that the model does not give, in a bundle that is consistent in itself: rows 0 to 9 are false."""
    story = shutil.copytree(source, tmp_path / "story")
    rewrite(story, outcomes=unbreak("served/linf-32/margin", slice(10)))
    false = np.flatnonzero(open_bundle(source).outcomes["served/linf-32/margin/broken"][:10])
    house = private(story, tmp_path)
    with pytest.raises(HallmarkError, match=rf"row {false[0]}: the model's answer on linf-32/margin is not the one"):
        house.check(ROWS)
    outcomes = {"found": 0, "missed": 0}
    for seed in map(str, range(12)):
        opened = set(load_challenge(house.challenge(3, seed)).rows) & set(false.tolist())
        outcomes["found" if opened else "missed"] += 1
        if opened:
            with pytest.raises(HallmarkError, match="the model's answer"):
                house.check(3, seed)
        else:
            house.check(3, seed)
    assert min(outcomes.values()) > 0


def test_flattering_margins_and_confidences_are_found(source: Path, tmp_path: Path) -> None:
    """The answer is right, but it is said to be surer than it is."""
    for number, (part, value) in enumerate([("margin", 99.0), ("confidence", 1.0)]):
        name = f"served/linf-32/pgd-10/{part}"
        column = open_bundle(source).outcomes[name]
        row = int(np.flatnonzero((column > 0.1) & (column < 0.9))[0])
        changed = np.where(np.arange(ROWS) == row, np.float32(value), column)
        (tmp_path / str(number)).mkdir()
        story = shutil.copytree(source, tmp_path / str(number) / "story")
        rewrite(story, outcomes=lambda table, name=name, changed=changed: table.with_columns({name: changed}))
        with pytest.raises(HallmarkError, match=f"row {row}: the model's {part} on linf-32/pgd-10 is not the one"):
            private(story, tmp_path / str(number)).check(ROWS)


def test_images_outside_their_ball_are_found(honest: House, tmp_path: Path) -> None:
    def edit(images: Images) -> None:
        images["linf-16/margin"][4, 0, 0, 0] = 255 if images["clean"][4, 0, 0, 0] < 128 else 0

    with pytest.raises(HallmarkError, match="row 4: linf-16/margin lies outside its ball"):
        committed_to(honest, tmp_path, edit).check(ROWS)


def test_other_images_than_those_that_were_answered_are_found(honest: House, tmp_path: Path) -> None:
    """Two rows' images change places; digests, root and balls fit, the table's answers do not."""

    def edit(images: Images) -> None:
        for array in images.values():
            array[[2, 3]] = array[[3, 2]]

    with pytest.raises(HallmarkError, match=r"row 2: the model's (answer|margin|confidence) on clean is not the one"):
        committed_to(honest, tmp_path, edit).check(ROWS)


def test_one_easy_image_in_many_rows_is_told(honest: House, tmp_path: Path) -> None:
    """Every row is true in itself; that the rows are one image is for the reader to see."""
    columns = open_bundle(honest.bundle).outcomes.columns
    owned = open_owned(honest.owned)
    once = {name: np.repeat(array[:1], ROWS, axis=0) for name, array in owned.images.items()}
    same = {name: values if name == "index" else np.repeat(values[:1], ROWS) for name, values in columns.items()}
    digests = [salted_digest(salt.tobytes(), image) for salt, image in zip(owned.salts, once["clean"], strict=True)]
    table = Outcomes({**same, "image_sha256": digests})
    top = tree_root(leaves(table, once, owned.salts, owned.statement["predicate"])).hex()
    found = House(shutil.copytree(honest.bundle, tmp_path / "private"), shutil.copytree(honest.owned, tmp_path / "own"))
    rewrite(found.bundle, outcomes=lambda _: table, predicate=lambda item: item["privateEvidence"].update(root=top))
    np.savez(found.owned / IMAGES, **once)
    for name in (OUTCOMES, ATTESTATION):
        shutil.copyfile(found.bundle / name, found.owned / name)
    assert found.check(9).different == 1
    assert "; only 1 of the images are different" in found.check(9).sentence()


def test_a_table_that_changes_after_the_commitment_is_found(honest: House, tmp_path: Path) -> None:
    """Honest images, honest root, another table: the leaf has the row's columns in it."""
    found = House(shutil.copytree(honest.bundle, tmp_path / "private"), honest.owned)
    smoothed = ("smoothed-0.25/successes", "smoothed-0.25/radius")
    other = np.arange(ROWS) != 5
    rewrite(
        found.bundle,
        outcomes=lambda table: table.with_columns({name: np.where(other, table[name], 0) for name in smoothed}),
    )
    challenge = found.challenge(ROWS, "after")
    forged = json.loads(challenge.read_bytes())
    owned = shutil.copytree(honest.owned, tmp_path / "owned")
    for name in (OUTCOMES, ATTESTATION):
        shutil.copyfile(found.bundle / name, owned / name)
    with pytest.raises(HallmarkError, match="its rows do not give the root"):
        prove(challenge, owned)
    # The owner opens what was committed to, and says that it answers the challenge.
    proof = honest.proof(honest.challenge(ROWS))
    document = json.loads(proof.read_bytes())
    document["challenge"] = hashlib.sha256(canonical_json(forged)).hexdigest()
    proof.write_bytes(canonical_json(document))
    with pytest.raises(
        HallmarkError, match="row 5: what was opened is not what the attestation's privateEvidence root"
    ):
        check_proof(open_bundle(found.bundle), proof, challenge)


def test_answers_within_the_tolerance_are_counted_and_not_refused(honest: House, tmp_path: Path) -> None:
    """A bundle whose parity allows logits to be far off, and verdicts that are off by less: another host's near ties."""
    bundle = open_bundle(honest.bundle)
    margins = bundle.outcomes["served/linf-16/margin/margin"]
    closest = int(np.abs(margins).argmin())
    story = shutil.copytree(honest.bundle.parent, tmp_path / "house")
    found = House(story / "private", story / "owned")
    owned = open_owned(found.owned)
    other = (owned.outcomes["label"][closest] + 1) % 10
    broken = owned.outcomes["served/linf-16/margin/broken"][closest]
    flipped = other if not broken else owned.outcomes["label"][closest]
    columns = {
        "served/linf-16/margin/prediction": flipped,
        "served/linf-16/margin/margin": -margins[closest],
        "served/linf-16/margin/broken": not broken,
    }
    changed = {
        name: np.where(np.arange(ROWS) == closest, np.array(value, owned.outcomes[name].dtype), owned.outcomes[name])
        for name, value in columns.items()
    }
    table = owned.outcomes.with_columns(changed)
    top = tree_root(leaves(table, owned.images, owned.salts, owned.statement["predicate"])).hex()

    def allow(item: dict[str, Any]) -> None:
        item["parity"]["tolerance"] = 20.0
        item["privateEvidence"]["root"] = top

    rewrite(found.bundle, outcomes=lambda _: table, predicate=allow)
    for name in (OUTCOMES, ATTESTATION):
        shutil.copyfile(found.bundle / name, found.owned / name)
    assert found.check(ROWS).moved == 1


# What a proof answers


def test_a_proof_answers_one_challenge(honest: House) -> None:
    first, second = honest.challenge(3, "one"), honest.challenge(3, "two")
    with pytest.raises(HallmarkError, match="answers another challenge"):
        check_proof(open_bundle(honest.bundle), honest.proof(first), second)


def test_a_challenge_of_another_bundle_is_refused_on_both_sides(honest: House, source: Path, tmp_path: Path) -> None:
    other = private(source, tmp_path)
    rewrite(other.bundle, predicate=lambda item: item["notTested"].append("anything else"))
    challenge = other.challenge(3)
    with pytest.raises(HallmarkError, match="is about another bundle than"):
        prove(challenge, honest.owned)
    proof = honest.proof(honest.challenge(3))
    with pytest.raises(HallmarkError, match="is about attestation"):
        check_proof(open_bundle(honest.bundle), proof, challenge)
    with pytest.raises(HallmarkError, match="holds its images"):
        check_proof(open_bundle(source), proof, challenge)


# What a proof may take


def test_a_proof_is_as_long_as_its_challenge_asks_for_and_no_longer(honest: House) -> None:
    """What is told before a proof is parsed holds for honest ones of every number of rows."""
    bundle = open_bundle(honest.bundle)
    for count in (1, 7, ROWS):
        challenge = honest.challenge(count, "long")
        proof = honest.proof(challenge)
        assert check_proof(bundle, proof, challenge).images == count * 5
        proof.write_bytes(proof.read_bytes() + b" " * (200 * count))
        with pytest.raises(HallmarkError, match=r"proof-challenge-.*: has \d+ bytes, it may have \d+ at most"):
            check_proof(bundle, proof, challenge)


def test_a_proof_of_many_small_values_is_not_parsed(honest: House, tmp_path: Path) -> None:
    """Three bytes of file would be a hundred of memory."""
    bundle, challenge = open_bundle(honest.bundle), honest.challenge(ROWS, "small")
    size = len(honest.proof(challenge).read_bytes())
    proof = tmp_path / "proof.json"
    proof.write_bytes(b"[" + b"{}," * (size // 3 - 2) + b"{}]")
    with pytest.raises(HallmarkError, match=r"proof\.json: has more values than a proof of this challenge"):
        check_proof(bundle, proof, challenge)


def test_rows_that_no_proof_could_hold_are_neither_asked_for_nor_opened(
    honest: House, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    challenge = honest.challenge(ROWS, "many")
    proof = honest.proof(challenge)
    monkeypatch.setattr("audit.private.proof.MOST_BYTES", len(proof.read_bytes()) - 1000)
    said = rf"{ROWS} rows with all their images take \d+ bytes in a proof, which may have \d+ at most; draw fewer"
    for attempt in (
        lambda: prove(challenge, honest.owned),
        lambda: check_proof(open_bundle(honest.bundle), proof, challenge),
    ):
        with pytest.raises(HallmarkError, match=said):
            attempt()
    out = tmp_path / "challenge.json"
    options = ["challenge", str(honest.bundle), "-k", str(ROWS), "-o", str(out)]
    asked = CliRunner().invoke(app, options)
    assert (asked.exit_code, "draw fewer" in asked.output) == (1, True)
    assert not out.exists()
