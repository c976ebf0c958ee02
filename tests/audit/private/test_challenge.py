"""Challenges and proofs: what an auditor learns about evidence that stays in its owner's house."""

from __future__ import annotations

import hashlib
import json
import shutil
import tracemalloc
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from scipy.stats import hypergeom
from typer.testing import CliRunner

from audit.cli import app
from audit.private.challenge import TYPE, draw_challenge, drawn_rows, load_challenge, read_challenge
from audit.private.proof import ProofCheck, check_proof, prove
from audit.private.withholding import leaves, make_private, open_owned
from bundle.bundle import open_bundle
from bundle.digests import canonical_json
from bundle.errors import HallmarkError
from bundle.layout import ATTESTATION, IMAGES, OUTCOMES
from bundle.numbers.intervals import most_false
from bundle.private import salted_digest, tree_root
from bundle.table.outcomes import Outcomes
from tests.audit.tampering import rewrite, unbreak
from tests.bundles import make_bundle

ROWS = 30
SECRET = bytes(range(32))
Images = dict[str, np.ndarray[Any, Any]]


@dataclass(frozen=True)
class House:
    """A private bundle, and its owner's part."""

    bundle: Path
    owned: Path

    def challenge(self, count: int, seed: str = "seed") -> Path:
        path = self.bundle.parent / f"challenge-{count}-{seed}.json"
        path.write_bytes(draw_challenge(open_bundle(self.bundle), count, seed).encode())
        return path

    def proof(self, challenge: Path) -> Path:
        path = challenge.with_name(f"proof-{challenge.name}")
        path.write_bytes(prove(challenge, self.owned))
        return path

    def check(self, count: int, seed: str = "seed") -> ProofCheck:
        challenge = self.challenge(count, seed)
        return check_proof(open_bundle(self.bundle), self.proof(challenge), challenge)


def private(source: Path, root: Path) -> House:
    make_private(source, root / "private", root / "owned", SECRET)
    return House(root / "private", root / "owned")


@pytest.fixture(scope="module")
def source(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_bundle(tmp_path_factory.mktemp("source") / "bundle", rows=ROWS, tier="quick")


@pytest.fixture(scope="module")
def honest(source: Path, tmp_path_factory: pytest.TempPathFactory) -> House:
    return private(source, tmp_path_factory.mktemp("honest"))


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


# What a challenge excludes


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


# The commands


def invoke(*arguments: str) -> tuple[int, str]:
    done = CliRunner().invoke(app, arguments)
    return done.exit_code, done.output


def test_the_commands_as_a_user_types_them(source: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)

    def run(*arguments: str) -> str:
        code, output = invoke(*arguments)
        assert code == 0, output
        return output

    made = run("withhold", str(source), "-o", "handed-out", "--private", "kept", "--secret", "secret")
    assert f"a commitment to {ROWS} rows" in made
    assert f"challenge.json: 10 of {ROWS} rows, drawn from system entropy." in run(
        "challenge", "handed-out", "-k", "10"
    )
    before = Path("challenge.json").read_bytes()
    assert invoke("challenge", "handed-out") == (
        1,
        "challenge.json: is there already; a challenge is drawn once, so give another name with -o\n",
    )
    assert Path("challenge.json").read_bytes() == before
    assert "opens 10 rows" in run("prove", "challenge.json", "--private", "kept", "-o", "proof.json")
    found = run("verify", "handed-out", "--proof", "proof.json", "--challenge", "challenge.json")
    left = most_false(ROWS, 10)
    assert f"at most {left} rows ({100 * left / ROWS:.1f} %) are false" in found
    code, refusal = invoke("verify", "handed-out", "--proof", "proof.json")
    assert (code, "give both --proof and --challenge" in refusal) == (1, True)
    document = json.loads(run("challenge", "handed-out", "-k", "5", "-o", "second.json", "--seed-from", "x", "--json"))
    assert (len(document["rows"]), document["source"], document["mostFalseRows"]) == (5, "text: x", most_false(ROWS, 5))
    assert (
        json.loads(run("prove", "second.json", "--private", "kept", "-o", "second-proof.json", "--json"))["bytes"] > 0
    )


def test_what_needs_images_says_so_in_a_sentence(honest: House, tmp_path: Path) -> None:
    bundle = str(honest.bundle)
    for arguments, sentence in [
        (("verify", bundle, "--data", str(tmp_path)), "has private evidence, whose digests are salted"),
        (
            ("merge", bundle, bundle, "-o", str(tmp_path / "merged")),
            "has private evidence; merge the bundles with images",
        ),
    ]:
        code, output = invoke(*arguments)
        assert code == 1
        assert sentence in output
        assert output.count("\n") == 1
    code, output = invoke("verify", bundle)
    assert (code, "consistent but unsigned" in output) == (0, True)


def test_a_private_bundle_is_signed_and_released_like_any_other(honest: House, tmp_path: Path) -> None:
    """The signed copy beside a pipeline's out/ has exactly the private bundle's files."""
    key = tmp_path / "keys"
    assert invoke("keygen", str(key))[0] == 0
    (tmp_path / "dvc.yaml").write_text("stages: {}\n")
    out = shutil.copytree(honest.bundle, tmp_path / "out" / "bundle")
    assert invoke("sign", str(out), "--key", str(key / "key.pem"))[0] == 0
    release = tmp_path / "releases" / open_bundle(honest.bundle).version
    assert {item.name for item in release.iterdir()} == {*open_bundle(honest.bundle).files, "attestation.dsse.json"}
    code, output = invoke("verify", str(release), "--trust", str(key / "key.pub"))
    assert (code, "signed by" in output) == (0, True)


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
