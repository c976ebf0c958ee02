"""A bundle made over into one with private evidence, and the part that stays with its owner."""

from __future__ import annotations

import io
import os
import secrets
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from bundle.assembly import assemble, pack_images
from bundle.attestation import read_statement
from bundle.bundle import Bundle, open_bundle
from bundle.checks import EvidenceError, read_images
from bundle.digests import whole_folder, write_whole
from bundle.errors import HallmarkError
from bundle.formats.archives import DAMAGE
from bundle.layout import ATTESTATION, IMAGES, OUTCOMES, read_bounded
from bundle.private import (
    CLEAN,
    FIELD,
    SALT_BYTES,
    SECRET_BYTES,
    Withheld,
    coarse,
    image_sets,
    is_private,
    record,
    row_leaf,
    row_salt,
    salted_digest,
    tree_root,
)
from bundle.table.outcomes import Outcomes, read_outcomes

SALTS = "salts.npy"
#: The files of the owner's part: the images, the salts, and the table and the attestation that the bundle has.
OWNED = (IMAGES, SALTS, OUTCOMES, ATTESTATION)


@dataclass(frozen=True)
class Owned:
    """The owner's part of a private bundle: what opens its rows.

    `images` are those of image_sets(), uint8 (N, H, W, C); `salts` uint8 (N, 32); `statement_bytes` is the bundle's
    attestation.json.
    """

    path: Path
    statement_bytes: bytes
    statement: Mapping[str, Any]
    outcomes: Outcomes
    images: Mapping[str, NDArray[np.uint8]]
    salts: NDArray[np.uint8]

    def leaves(self) -> list[bytes]:
        """The leaf hashes of all rows."""
        return leaves(self.outcomes, self.images, self.salts, self.statement["predicate"])


def read_secret(path: str | Path) -> bytes:
    """The owner's secret, 32 bytes, from a file of 64 hexadecimal digits; where there is none, it is made.

    A new secret is its owner's alone to read. Raises HallmarkError where the file is no such secret.
    """
    path = Path(path)
    if not os.path.lexists(path):
        with suppress(FileExistsError):  # somebody else made it in the same instant: theirs is the one that counts
            write_whole(path, (secrets.token_hex(SECRET_BYTES) + "\n").encode(), mode=0o600, new=True)
    try:
        secret = bytes.fromhex(path.read_text(encoding="ascii").strip())
    except OSError as error:
        raise HallmarkError(f"{path}: cannot be read as a secret ({error.strerror})") from None
    except ValueError:
        secret = b""
    if len(secret) != SECRET_BYTES:
        raise HallmarkError(f"{path}: must hold {2 * SECRET_BYTES} random hexadecimal digits and nothing else")
    return secret


def make_private(source: Path, target: Path, owned: Path, secret: bytes) -> Bundle:
    """Makes a bundle with private evidence in `target` and its owner's part in `owned`; returns the new bundle.

    Parameters
    ----------
    source : a bundle with its images; it stays as it is. Its signature does not carry over.
    target, owned : new folders, neither inside the other nor inside `source`; each is written whole or not at all.
    secret : 32 random bytes. The same secret for the next version lets the two be compared image by image.

    Raises HallmarkError where a folder is there already or the source is private itself, and what open_bundle()
    raises.
    """
    _check_folders(source, target, owned)
    bundle = open_bundle(source)
    if bundle.evidence == "private":
        raise HallmarkError(f"{source}: has private evidence already")
    salts = [row_salt(secret, int(index)) for index in bundle.outcomes["index"]]
    digests = [salted_digest(salt, image) for salt, image in zip(salts, bundle.images[CLEAN], strict=True)]
    outcomes = coarse(bundle.outcomes).with_columns({"image_sha256": digests})
    stacked = np.frombuffer(b"".join(salts), np.uint8).reshape(-1, SALT_BYTES)
    root = tree_root(leaves(outcomes, bundle.images, stacked, bundle.predicate))
    predicate = {**bundle.predicate, "surface": None, FIELD: record(root)}
    with whole_folder(owned, 0o700) as part, whole_folder(target) as folder:
        assemble(
            folder,
            model=bundle.model,
            weights=bundle.weights,
            outcomes=outcomes,
            images=Withheld(),
            predicate=predicate,
        )
        attestation = open_bundle(folder).statement_bytes
        contents = {
            IMAGES: pack_images(bundle.images),
            SALTS: _npy(stacked),
            OUTCOMES: outcomes.parquet(),
            ATTESTATION: attestation,
        }
        for name, content in contents.items():
            write_whole(part / name, content, mode=0o600)
    return open_bundle(target)


def open_owned(path: str | Path) -> Owned:
    """Reads the owner's part of a private bundle; raises HallmarkError where it is not whole.

    Its rows must give the root that its attestation names.
    """
    path = Path(path)
    contents = {name: _read(path / name) for name in OWNED}
    statement = read_statement(contents[ATTESTATION], str(path / ATTESTATION))
    outcomes = read_outcomes(contents[OUTCOMES], str(path / OUTCOMES))
    predicate = statement["predicate"]
    try:
        images = read_images(contents[IMAGES], (len(outcomes), *predicate["data"]["shape"]), image_sets(predicate))
    except EvidenceError as error:
        raise HallmarkError(f"{path}: must hold every image: {error}") from None
    owned = Owned(path, contents[ATTESTATION], statement, outcomes, images, _salts(contents))
    if owned.salts.shape != (len(outcomes), SALT_BYTES):
        raise HallmarkError(f"{path}: must hold a salt for each row of {OUTCOMES}")
    if not is_private(predicate) or tree_root(owned.leaves()).hex() != predicate[FIELD]["root"]:
        raise HallmarkError(f"{path}: its rows do not give the root that its {ATTESTATION} names")
    return owned


def leaves(
    outcomes: Outcomes,
    images: Mapping[str, NDArray[np.uint8]],
    salts: NDArray[np.uint8],
    predicate: Mapping[str, Any],
) -> list[bytes]:
    """The leaf hashes of a table's rows; images uint8 (N, H, W, C) by name, salts uint8 (N, 32)."""
    names = image_sets(predicate)
    return [
        row_leaf(salts[row].tobytes(), outcomes, row, names, [images[name][row] for name in names])
        for row in range(len(outcomes))
    ]


def _check_folders(source: Path, target: Path, owned: Path) -> None:
    for path in (target, owned):
        if os.path.lexists(path):
            raise HallmarkError(f"{path}: is there already; choose a new folder")
    places = [path.resolve() for path in (source, target, owned)]
    for place in places:
        for other in places:
            if place is not other and (place == other or other in place.parents):
                raise HallmarkError(f"{place}: lies in {other}; the bundles and the owner's part lie apart")


def _npy(array: NDArray[np.uint8]) -> bytes:
    buffer = io.BytesIO()
    np.save(buffer, array, allow_pickle=False)
    return buffer.getvalue()


def _salts(contents: Mapping[str, bytes]) -> NDArray[np.uint8]:
    try:
        return np.asarray(np.load(io.BytesIO(contents[SALTS]), allow_pickle=False), dtype=np.uint8)
    except DAMAGE:
        raise HallmarkError(f"{SALTS}: is not a .npy file of salts") from None


def _read(path: Path) -> bytes:
    try:
        return read_bounded(path)
    except OSError as error:
        reason = "hallmark withhold makes such a folder"
        raise HallmarkError(f"{path}: cannot be read ({error.strerror}); {reason}") from None
