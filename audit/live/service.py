"""A running service seen from outside: its evidence, its documents and its answers.

The evidence is fetched whole and verified like a folder. Whatever the service says elsewhere is compared with it. Images
are sent as PNG files, one per request, or many in one array. Progress goes to stderr where that is a terminal.
"""

from __future__ import annotations

import json
import os
import tempfile
from collections.abc import Callable, Generator, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal, get_args

import numpy as np
from numpy.typing import NDArray
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from audit.client import Client, ClientError, Prediction
from audit.verification import Verification, verify
from bundle.attestation import CLAIMED, PARTS, REPEATED, model_digest, read_statement
from bundle.bundle import Bundle
from bundle.digests import sha256_bytes, whole_folder
from bundle.errors import HallmarkError
from bundle.folder import attested_sizes
from bundle.layout import ATTESTATION, ENVELOPE, VERSION_DIGITS, required
from bundle.pages.headline import main_names
from bundle.private import is_private
from bundle.table.columns import check_extent
from bundle.temporaries import temporary_folder

Way = Literal["png", "npy"]
WAYS: tuple[Way, ...] = get_args(Way)
#: Rows after which progress is told.
ROWS = 256


@dataclass(frozen=True)
class Answers:
    """A service's answers: labels (N,), and the probability of every class (N, K)."""

    labels: NDArray[np.int64]
    probabilities: NDArray[np.float64]


class Asker:
    """Asks a service whose classes have these names; `advance` is told after so many more answers."""

    def __init__(self, client: Client, classes: Sequence[str], advance: Callable[[int], None]) -> None:
        self._client, self._classes, self._advance = client, list(classes), advance

    def ask(self, images: NDArray[np.uint8], way: Way) -> Answers:
        """The answers to images uint8 (N, H, W, C), N ≥ 1; raises ClientError where they are of other classes."""
        found: list[Prediction] = []
        step = ROWS if way == "npy" else 1
        for start in range(0, len(images), step):
            part = images[start : start + step]
            found += self._client.predict_batch(part) if way == "npy" else [self._client.predict(part[0])]
            self._advance(len(part))
        return self._arrays(found)

    def probabilities(self, images: NDArray[np.uint8]) -> NDArray[np.float64]:
        """The probabilities (N, K) alone, asked in arrays."""
        return self.ask(images, "npy").probabilities

    def _arrays(self, found: list[Prediction]) -> Answers:
        for item in found:
            named = self._classes[item.label] if 0 <= item.label < len(self._classes) else None
            if item.name != named or sorted(item.probabilities) != sorted(self._classes):
                raise ClientError(f"{self._client.url}: answers with other classes than the attestation names")
        probabilities = [[item.probabilities[name] for name in self._classes] for item in found]
        return Answers(np.array([item.label for item in found]), np.array(probabilities, np.float64))


@contextmanager
def bar(what: str, total: int, unit: str) -> Generator[Callable[[int], None], None, None]:
    """A bar of so many units; what is yielded is told how many more are done."""
    console = Console(stderr=True)
    columns = TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TextColumn("{task.fields[rate]}")
    with Progress(
        *columns, TimeRemainingColumn(), console=console, transient=True, disable=not console.is_terminal
    ) as progress:
        task = progress.add_task(what, total=total, rate="")

        def advance(count: int) -> None:
            progress.advance(task, count)
            progress.update(task, rate=f"{progress.tasks[0].speed or 0:.1f} {unit}/s")

        yield advance


def fetch_verified(client: Client, trusted: Sequence[Path], data: Path | None) -> Verification:
    """A service's bundle as `hallmark verify` finds it, whole, in memory.

    Rows are held against `data`, a folder like out/data, but those of private evidence, whose digests are salted. Raises
    HallmarkError where the bundle is refused, or is about another model than the one that answers.
    """
    with temporary_folder(Path(tempfile.gettempdir()), "hallmark-live", hidden=False) as folder:
        private = _fetch(client, folder)
        try:
            return verify(folder, trusted, None if private else data)
        except HallmarkError as error:
            raise HallmarkError(str(error).replace(str(folder), client.url)) from None


def fetch_bundle(client: Client, target: Path, trusted: Sequence[Path] = ()) -> Verification:
    """Fetches a service's bundle into the new folder `target`: verified, and only then there, whole.

    Raises HallmarkError where the folder is there already, and what fetch_verified raises.
    """
    if os.path.lexists(target):
        raise HallmarkError(f"{target}: is there already; a fetched bundle goes into a new folder")
    with whole_folder(target) as folder:
        _fetch(client, folder)
        try:
            found = verify(folder, trusted)
        except HallmarkError as error:
            raise HallmarkError(str(error).replace(str(folder), client.url)) from None
    return replace(found, bundle=replace(found.bundle, path=target))


def _fetch(client: Client, folder: Path) -> bool:
    """Writes every file of the bundle; whether its evidence is private."""
    content = client.evidence(ATTESTATION)
    statement = read_statement(content, ATTESTATION)
    _check_subject(client, model_digest(statement))
    (folder / ATTESTATION).write_bytes(content)
    private = is_private(statement["predicate"])
    check_extent(statement["predicate"])
    sizes = attested_sizes(statement)
    names = [name for name in required(private) if name != ATTESTATION]
    with bar("fetching", len(names), "files") as advance:
        for name in names:
            (folder / name).write_bytes(
                client.evidence(name, sizes.get(name))
            )  # the model's size alone is not attested
            advance(1)
    if client.attestation().get("envelope") is not None:
        (folder / ENVELOPE).write_bytes(client.evidence(ENVELOPE))
    return private


def _check_subject(client: Client, digest: str) -> None:
    if digest != client.digest:
        about, answering = digest[:VERSION_DIGITS], str(client.digest)[:VERSION_DIGITS]
        raise HallmarkError(f"{ATTESTATION}: is about model {about}, but {answering} is the model that must answer")


def contradictions(client: Client, bundle: Bundle) -> list[str]:
    """What /robustness, /attestation and /versions say otherwise than the verified bundle, a sentence each.

    Raises ClientError where one of them does not answer.
    """
    return [
        *_robustness(client.robustness(), bundle.predicate),
        *_attestation(client.attestation(), bundle),
        *_versions(client.versions(), bundle),
    ]


def _robustness(said: Mapping[str, Any], predicate: Mapping[str, Any]) -> Iterator[str]:
    for field, metric in CLAIMED.items():
        attested = [claim for claim in predicate["claims"] if claim["metric"] == metric]
        if said.get(field) != attested:
            yield f"/robustness: {field} is not what the attestation says"
    for field, name in REPEATED.items():
        if field not in said or said[field] != predicate[name]:
            yield f"/robustness: {field} is not what the attestation says"
    if said.get("main_threats", main_names(predicate)) != main_names(predicate):  # services of before do not say it
        yield "/robustness: main_threats is not what the attestation says"
    for field, names in PARTS.items():
        if said.get(field) != {name: predicate[field][name] for name in names}:
            yield f"/robustness: {field} is not what the attestation says"


def _attestation(said: Mapping[str, Any], bundle: Bundle) -> Iterator[str]:
    if said.get("statement") != bundle.statement:
        yield "/attestation: its statement is not the one in /evidence/attestation.json"
    if said.get("statement_sha256") != sha256_bytes(bundle.statement_bytes):
        yield "/attestation: statement_sha256 is not that of /evidence/attestation.json"
    envelope = None if bundle.envelope is None else json.loads(bundle.envelope)
    if said.get("envelope") != envelope:
        yield "/attestation: its envelope is not the one in /evidence/attestation.dsse.json"


def _versions(listed: list[dict[str, Any]], bundle: Bundle) -> Iterator[str]:
    attested = {
        "digest": bundle.digest,
        "attestation_sha256": sha256_bytes(bundle.statement_bytes),
        "claims": bundle.predicate["claims"],
        "bounds": bundle.predicate["bounds"],
    }
    served = [item for item in listed if item.get("served") is True]
    if len(served) != 1 or any(served[0].get(name) != value for name, value in attested.items()):
        yield "/versions: the version that is served is not the attested one"
