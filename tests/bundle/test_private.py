"""Private evidence: what a bundle commits to, what it hides, and what stays with the owner."""

from __future__ import annotations

import base64
import hashlib
import hmac
import json
import shutil
import stat
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from audit.private.withholding import SALTS, make_private, open_owned, read_secret
from bundle.bundle import open_bundle
from bundle.errors import HallmarkError
from bundle.layout import ATTESTATION, IMAGES, OUTCOMES, REPORT, REQUIRED
from bundle.private import coarse, row_salt, tree_root
from bundle.table.outcomes import Outcomes, image_digests, load_outcomes
from tests.audit.tampering import rewrite
from tests.bundles import make_bundle

SECRET = bytes(range(32))


@dataclass(frozen=True)
class Made:
    """A bundle, the private one made of it, and its owner's part."""

    source: Path
    private: Path
    owned: Path


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Made:
    root = tmp_path_factory.mktemp("private")
    found = Made(make_bundle(root / "source", rows=30), root / "private", root / "owned")
    make_private(found.source, found.private, found.owned, SECRET)
    return found


@pytest.fixture
def folder(made: Made, tmp_path: Path) -> Path:
    return shutil.copytree(made.private, tmp_path / "bundle")


def refusal(folder: Path) -> str:
    with pytest.raises(HallmarkError) as error:
        open_bundle(folder)
    return str(error.value)


def test_a_private_bundle_opens_and_says_so(made: Made) -> None:
    bundle = open_bundle(made.private)
    assert (open_bundle(made.source).evidence, bundle.evidence) == ("open", "private")
    assert {item.name for item in made.private.iterdir()} == set(bundle.files) == {*REQUIRED} - {IMAGES}
    assert len(bundle.images) == 0
    with pytest.raises(HallmarkError, match=r"^images.npz: is withheld: this bundle has private evidence"):
        bundle.images["clean"]


def test_no_file_holds_an_image_or_a_digest_of_one(made: Made) -> None:
    """Pixels as they are, the report's PNG pictures, and SHA-256 of the pixels; the source has all of them."""
    images = open_bundle(made.source).images
    digests = [digest for array in images.values() for digest in image_digests(array)]
    said = {name: (made.private / name).read_bytes() for name in open_bundle(made.private).files}
    assert b"data:image/png" in (made.source / REPORT).read_bytes()
    for content in said.values():
        assert b"data:image/png" not in content
        assert not any(digest.encode() in content for digest in digests)
        assert not any(image.tobytes() in content for array in images.values() for image in array)
    assert not set(load_outcomes(made.private / OUTCOMES)["image_sha256"]) & set(digests)


def test_the_root_is_what_the_description_says(made: Made) -> None:
    """Written out from the module's description with hashlib alone."""
    bundle, images = open_bundle(made.private), open_bundle(made.source).images
    table = bundle.outcomes.columns
    names = ["clean", "linf-16/pgd-10", "linf-16/margin", "linf-32/pgd-10", "linf-32/margin"]
    leaves = []
    for row in range(30):
        index = int(table["index"][row])
        salt = hmac.new(SECRET, b"hallmark private evidence v1\x00" + index.to_bytes(8, "big"), hashlib.sha256).digest()
        values: dict[str, Any] = {}
        for name, column in table.items():
            value = column[row]
            values[name] = (
                value.item().hex() if column.dtype.kind == "f" else getattr(value, "item", lambda v=value: v)()
            )
        header = {"columns": values, "images": names, "shape": [8, 8, 1]}
        head = (json.dumps(header, sort_keys=True, indent=2, ensure_ascii=False) + "\n").encode()
        pixels = b"".join(images[name][row].tobytes() for name in names)
        leaves.append(hashlib.sha256(b"\x00" + salt + len(head).to_bytes(8, "big") + head + pixels).digest())
        digest = hmac.new(salt, images["clean"][row].tobytes(), hashlib.sha256).hexdigest()
        assert table["image_sha256"][row] == digest
    assert bundle.predicate["privateEvidence"] == {"scheme": "salted-merkle-v1", "root": tree_root(leaves).hex()}


def test_the_accuracies_are_those_of_the_source(made: Made) -> None:
    before, after = open_bundle(made.source).predicate, open_bundle(made.private).predicate
    for kind in ("claims", "bounds", "perClass", "worstClass", "agreement", "corruptionAccuracy"):
        assert after[kind] == before[kind]


def test_one_secret_gives_one_digest_an_image_and_another_secret_others(made: Made, tmp_path: Path) -> None:
    """Two versions are compared image by image, yet nobody else can join them with a list of images."""
    other = make_bundle(tmp_path / "other", rows=30, noise=0.3)
    make_private(other, tmp_path / "same", tmp_path / "same-owned", SECRET)
    make_private(other, tmp_path / "new", tmp_path / "new-owned", bytes(32))
    said = [
        load_outcomes(path / OUTCOMES)["image_sha256"] for path in (made.private, tmp_path / "same", tmp_path / "new")
    ]
    assert np.array_equal(said[0], said[1])
    assert not set(said[0]) & set(said[2])
    roots = {open_bundle(path).predicate["privateEvidence"]["root"] for path in (made.private, tmp_path / "same")}
    assert len(roots) == 2


def test_numbers_keep_two_digits_and_their_meaning() -> None:
    table = Outcomes(
        {
            "served/clean/margin": np.array([-0.0123, 0.125, 8.76, np.nan], np.float32),
            "served/clean/confidence": np.array([0.126, 1.0, 0.004, 0.5], np.float32),
            "reference/distance/cw": np.array([0.1201, 0.29, np.inf, 0.0]),
            "proved/linf/eps_255": np.array([8.19, 0.0, 0.129, 25.0], np.float32),
            "served/clean/prediction": np.array([1, 2, 3, 4]),
        }
    )
    found = coarse(table)
    assert np.allclose(found["served/clean/margin"], [-0.012, 0.12, 8.8, np.nan], equal_nan=True)
    assert np.allclose(found["served/clean/confidence"], [0.13, 1.0, 0.0, 0.5])
    assert found["reference/distance/cw"].tolist() == [0.13, 0.29, np.inf, 0.0]  # an upper bound is not lowered
    assert np.allclose(found["proved/linf/eps_255"], [8.1, 0.0, 0.12, 25.0])  # a lower bound is not raised
    assert {name: values.dtype for name, values in found.columns.items()} == {
        name: values.dtype for name, values in table.columns.items()
    }
    for name, values in coarse(found).columns.items():
        assert np.array_equal(values, found[name], equal_nan=True)


def test_images_beside_private_evidence_are_refused(folder: Path, made: Made) -> None:
    shutil.copyfile(made.source / IMAGES, folder / IMAGES)
    assert refusal(folder).startswith(f"{IMAGES}: does not belong to a bundle with private evidence")


def test_a_bundle_that_drops_its_commitment_lacks_its_images(folder: Path) -> None:
    rewrite(folder, predicate=lambda item: item.pop("privateEvidence"))
    assert refusal(folder).startswith(f"{IMAGES}: is missing")


def test_what_gives_images_away_is_refused(folder: Path, made: Made) -> None:
    """Exact margins, a plain column of digests of another length, the surface around one image."""
    exact = load_outcomes(made.source / OUTCOMES)["served/clean/margin"]
    original = load_outcomes(folder / OUTCOMES)
    rewrite(folder, outcomes=lambda table: table.with_columns({"served/clean/margin": exact}))
    assert refusal(folder) == f"{OUTCOMES}: served/clean/margin has more digits than private evidence may show"
    rewrite(folder, outcomes=lambda _: original.with_columns({"image_sha256": ["digest"] * 30}))
    assert refusal(folder) == f"{OUTCOMES}: image_sha256 row 0 must be 64 hexadecimal digits"
    surface = open_bundle(made.source).predicate["surface"]
    rewrite(folder, outcomes=lambda _: original, predicate=lambda item: item.update(surface=surface))
    assert refusal(folder).startswith(f"{ATTESTATION}: surface must be null")


def test_what_is_no_root_is_refused(folder: Path) -> None:
    for wrong in ({"root": "0" * 63}, {"root": "G" * 64}, {"scheme": "other"}, {"salts": []}):
        shutil.copyfile(folder / ATTESTATION, folder.parent / ATTESTATION)
        rewrite(folder, predicate=lambda item, wrong=wrong: item["privateEvidence"].update(wrong))
        assert refusal(folder).startswith(f"{ATTESTATION}: predicate.privateEvidence")
        shutil.copyfile(folder.parent / ATTESTATION, folder / ATTESTATION)


def test_the_owners_part_is_the_owners_and_opens(made: Made) -> None:
    assert stat.S_IMODE(made.owned.stat().st_mode) == 0o700
    assert {stat.S_IMODE(item.stat().st_mode) for item in made.owned.iterdir()} == {0o600}
    owned = open_owned(made.owned)
    assert owned.statement_bytes == (made.private / ATTESTATION).read_bytes()
    assert owned.salts[3].tobytes() == row_salt(SECRET, 1203)
    assert np.array_equal(owned.images["clean"], open_bundle(made.source).images["clean"])


@pytest.mark.parametrize("name", [IMAGES, SALTS, OUTCOMES, ATTESTATION])
def test_an_owners_part_that_is_not_whole_is_refused(made: Made, tmp_path: Path, name: str) -> None:
    folder = shutil.copytree(made.owned, tmp_path / "owned")
    (folder / name).unlink()
    with pytest.raises(HallmarkError, match=f"{name}: cannot be read .*hallmark withhold makes"):
        open_owned(folder)
    (folder / name).write_bytes(b"nonsense")
    with pytest.raises(HallmarkError, match=name):
        open_owned(folder)


def test_an_owners_part_of_another_bundle_does_not_give_the_root(made: Made, tmp_path: Path) -> None:
    folder = shutil.copytree(made.owned, tmp_path / "owned")
    salts = np.load(folder / SALTS)
    salts[7, 0] ^= 1
    np.save(folder / SALTS, salts)
    with pytest.raises(HallmarkError, match="its rows do not give the root"):
        open_owned(folder)
    np.save(folder / SALTS, salts[:5])
    with pytest.raises(HallmarkError, match="must hold a salt for each row"):
        open_owned(folder)


def test_folders_must_be_new_and_apart_and_nothing_is_left_behind(made: Made, tmp_path: Path) -> None:
    (tmp_path / "full").mkdir()
    for target, owned, sentence in [
        (tmp_path / "full", tmp_path / "owned", "full: is there already"),
        (tmp_path / "new", tmp_path / "full", "full: is there already"),
        (tmp_path / "new", tmp_path / "new" / "owned", "the owner's part lie apart"),
        (tmp_path / "new", tmp_path / "new", "the owner's part lie apart"),
        (tmp_path / "new", made.source / "owned", "the owner's part lie apart"),
    ]:
        with pytest.raises(HallmarkError, match=sentence):
            make_private(made.source, target, owned, SECRET)
    with pytest.raises(HallmarkError, match="has private evidence already"):
        make_private(made.private, tmp_path / "new", tmp_path / "owned", SECRET)
    assert [item.name for item in tmp_path.iterdir()] == ["full"]


def test_a_secret_is_made_once_and_read_again(tmp_path: Path) -> None:
    secret = read_secret(tmp_path / "secret")
    assert len(secret) == 32
    assert read_secret(tmp_path / "secret") == secret != read_secret(tmp_path / "other")
    assert stat.S_IMODE((tmp_path / "secret").stat().st_mode) == 0o600


@pytest.mark.parametrize(
    "text", ["", "correct horse", "ab" * 31, "ab" * 33, "zz" * 32, base64.b64encode(SECRET).decode()]
)
def test_what_could_be_guessed_is_no_secret(tmp_path: Path, text: str) -> None:
    (tmp_path / "secret").write_text(text)
    with pytest.raises(HallmarkError, match="must hold 64 random hexadecimal digits"):
        read_secret(tmp_path / "secret")
