"""The evidence of a running service: fetched whole, and verified exactly like a folder."""

from __future__ import annotations

import tempfile
from collections.abc import Sequence
from pathlib import Path

from audit.client import Client
from audit.live.progress import bar
from audit.verification import Verification, verify
from bundle.attestation import model_digest, read_statement
from bundle.bundle import attested_sizes
from bundle.errors import HallmarkError
from bundle.layout import ATTESTATION, ENVELOPE, VERSION_DIGITS, required
from bundle.private import is_private
from bundle.rows import check_extent
from bundle.temporaries import temporary_folder


class LiveError(HallmarkError):
    """What a service hands out is refused, or does not go with the model that it names."""


def fetch_verified(client: Client, trusted: Sequence[Path], data: Path | None) -> Verification:
    """A service's bundle as `hallmark verify` finds it, whole, in memory.

    Rows are held against `data`, a folder like out/data, but those of private evidence, whose digests are salted. Raises
    LiveError where the bundle is refused, or is about another model than the one that answers.
    """
    with temporary_folder(Path(tempfile.gettempdir()), "hallmark-live", hidden=False) as folder:
        private = _fetch(client, folder)
        try:
            return verify(folder, trusted, None if private else data)
        except HallmarkError as error:
            raise LiveError(str(error).replace(str(folder), client.url)) from None


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
        raise LiveError(f"{ATTESTATION}: is about model {about}, but {answering} is the model that must answer")
