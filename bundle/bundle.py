"""open_bundle(): a bundle is verified before anything of it is used."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, Literal, cast

import numpy as np
from numpy.typing import NDArray

from bundle.attestation import model_digest, model_version, read_statement
from bundle.checks import check_images, check_radii, check_rows, read_images
from bundle.digests import canonical_json, sha256_bytes
from bundle.errors import HallmarkError
from bundle.folder import check_images_file, check_names, read_file, read_files
from bundle.layout import ATTESTATION, ENVELOPE, IMAGES, MODEL, NETWORK, OUTCOMES, WEIGHTS, required
from bundle.numbers.claims import KINDS, claims
from bundle.pages.notebook import headline_html, headline_line
from bundle.private import Withheld, check_private, image_sets, is_private
from bundle.served.model_file import check_model_file
from bundle.table.columns import check_extent
from bundle.table.outcomes import OutcomeError, Outcomes, read_outcomes
from bundle.table.plan import TablePlanError, check_plan
from bundle.table.threats import Threat

#: The most by which an attested float may differ from the recomputed one.
ROUNDING = 1e-9
#: The fields by which people find a number, and those that most often differ.
DESCRIBING = (
    *("metric", "setting", "threat", "attack", "class", "corruption", "severity", "name", "classifier", "radius"),
    *("value", "correct", "cleanCorrect", "sampleSize", "onlyReferenceBroken", "onlyServedBroken", "found"),
)


@dataclass(frozen=True)
class Bundle:
    """A verified bundle: what is held here is what was checked, not what lies on disk later.

    With private evidence `images` is empty, and asking it for an image raises one clear sentence.
    """

    path: Path
    statement: Mapping[str, Any]
    statement_bytes: bytes
    model: bytes
    weights: bytes
    outcomes: Outcomes
    images: Mapping[str, NDArray[np.uint8]]
    envelope: bytes | None

    def __repr__(self) -> str:
        return f"Bundle({headline_line(self.statement)})"

    def _repr_html_(self) -> str:
        return headline_html(self.statement)

    @property
    def predicate(self) -> Mapping[str, Any]:
        return self.statement["predicate"]

    @property
    def evidence(self) -> Literal["open", "private"]:
        """Whether the images are here, or only a commitment to them (bundle.private)."""
        return "private" if is_private(self.predicate) else "open"

    @property
    def files(self) -> tuple[str, ...]:
        """The names of the bundle's files, without the envelope's."""
        return required(self.evidence == "private")

    @property
    def digest(self) -> str:
        """SHA-256 of model.onnx."""
        return model_digest(self.statement)

    @property
    def version(self) -> str:
        """The digest's first 12 digits."""
        return model_version(self.digest)

    @property
    def class_names(self) -> list[str]:
        return self.predicate["data"]["classes"]

    @cached_property
    def threats(self) -> list[Threat]:
        return [Threat.of(item) for item in self.predicate["threats"]]


def open_bundle(path: str | Path) -> Bundle:
    """Reads and verifies a bundle.

    Checked: the exact file set; the attestation's form and schema; the SHA-256 of every file; that model.onnx may be
    served (bundle.served.model_file); that threats, unions, attacks and smoothed classifiers are each there once and are what
    their names say; that every sanity check's outcome follows from its statistic; the exact columns of the outcome table
    and what they may hold; every number of claims(), recomputed from the table; every image of the evidence against its
    digest and its ball, or, where the evidence is private, that nothing is there that would give the images away.
    Signatures are bundle.signatures' business. Raises HallmarkError that names what is wrong.
    """
    path = Path(path)
    names = check_names(path)
    content = read_file(path / ATTESTATION)
    statement = read_statement(content, ATTESTATION)
    predicate = statement["predicate"]
    check_images_file(path, names, is_private(predicate))
    columns = check_extent(predicate)
    contents = {ATTESTATION: content, **read_files(path, names, statement)}
    _check_digests(contents, statement)
    check_model_file(contents[MODEL])
    _check_plan(predicate)
    outcomes = read_outcomes(contents[OUTCOMES], OUTCOMES, columns, predicate["sample"]["size"])
    _check_rows(outcomes, predicate)
    _check_claims(outcomes, predicate)
    if contents[NETWORK] != canonical_json(predicate["network"]):
        raise HallmarkError(f"{NETWORK}: says another network than the attestation")
    images = _evidence(contents, outcomes, predicate)
    return Bundle(
        path,
        statement,
        contents[ATTESTATION],
        contents[MODEL],
        contents[WEIGHTS],
        outcomes,
        images,
        contents.get(ENVELOPE),
    )


def _check_digests(contents: Mapping[str, bytes], statement: Mapping[str, Any]) -> None:
    files = {item["name"]: item for item in statement["predicate"]["files"]}
    expected = {MODEL: model_digest(statement)} | {name: item["sha256"] for name, item in files.items()}
    for name, digest in expected.items():
        found = sha256_bytes(contents[name])
        if found != digest:
            raise HallmarkError(f"{name}: SHA-256 is {found[:12]}…, the attestation says {digest[:12]}…")
    if statement["predicate"]["model"]["version"] != model_version(model_digest(statement)):
        raise HallmarkError(f"{ATTESTATION}: model.version is not the start of the SHA-256 of {MODEL}")


def _check_plan(predicate: Mapping[str, Any]) -> None:
    try:
        check_plan(predicate)
    except (TablePlanError, OutcomeError) as error:
        raise HallmarkError(f"{ATTESTATION}: {error}") from None


def _check_rows(outcomes: Outcomes, predicate: Mapping[str, Any]) -> None:
    try:
        check_rows(outcomes, predicate)
    except OutcomeError as error:
        raise HallmarkError(f"{OUTCOMES}: {str(error).removeprefix('outcome table: ')}") from None


def _check_claims(outcomes: Outcomes, predicate: Mapping[str, Any]) -> None:
    recomputed = claims(outcomes, predicate)
    for kind in KINDS:
        attested = predicate[kind]
        if len(attested) != len(recomputed[kind]):
            counts = f"has {len(attested)} {kind}, the outcome table gives {len(recomputed[kind])}"
            raise HallmarkError(f"{ATTESTATION}: {counts}")
        for said, found in zip(attested, recomputed[kind], strict=True):
            if not _same(said, found):
                title = "claim" if "metric" in found else kind
                wrong = f"{title} {_describe(said)} is not what the outcome table gives: {_describe(found)}"
                raise HallmarkError(f"{ATTESTATION}: {wrong}")
    try:
        check_radii(outcomes, predicate)
    except OutcomeError as error:
        raise HallmarkError(f"{OUTCOMES}: {error}") from None


def _same(said: Any, found: Any) -> bool:
    """Equal but for the last digits of floats, which another SciPy may round otherwise; 1 is not 1.0, nor true."""
    if isinstance(found, Mapping):
        keyed = cast("Mapping[str, Any]", found)
        return said.keys() == keyed.keys() and all(_same(said[key], value) for key, value in keyed.items())
    if isinstance(found, list):
        listed = cast("list[Any]", found)
        return len(said) == len(listed) and all(map(_same, said, listed))
    if isinstance(found, float) and isinstance(said, float):
        return abs(said - found) <= ROUNDING
    return type(said) is type(found) and said == found


def _describe(claim: Mapping[str, Any]) -> str:
    return " ".join(str(claim[key]) for key in DESCRIBING if key in claim)


def _evidence(
    contents: Mapping[str, bytes], outcomes: Outcomes, predicate: Mapping[str, Any]
) -> Mapping[str, NDArray[np.uint8]]:
    """The images, each checked; where they are withheld, that the bundle does not show more than it may."""
    if is_private(predicate):
        check_private(predicate, outcomes)
        return Withheld()
    shape = (len(outcomes), *predicate["data"]["shape"])
    images = read_images(contents[IMAGES], shape, image_sets(predicate))
    check_images(outcomes, images, predicate)
    return images
