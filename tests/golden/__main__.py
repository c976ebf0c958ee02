"""`python -m tests.golden "what is new"`: the golden bundle of today's schema, after the schema has changed."""

from __future__ import annotations

import zipfile
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Annotated

import typer

from audit.releasing import sign_bundle
from bundle.attestation import schema
from bundle.command_line import run_command
from bundle.digests import canonical_json
from bundle.signatures import PRIVATE_KEY, PUBLIC_KEY, generate_key
from bundle.table.threats import Threat
from tests.bundles import make_bundle
from tests.golden import HERE, TABLE, form_digest, table

#: Zip knows no "no time": its first.
NO_TIME = (1980, 1, 1, 0, 0, 0)


def add(brought: str) -> str:
    """Writes NAME.zip, NAME.pub and a row of golden.json; returns the sentence to print."""
    known, form = table(), form_digest(schema())
    if known[-1]["schema_sha256"] == form:
        return f"{known[-1]['name']} is of today's schema already; nothing was made"
    name = f"{len(known) + 1:02}"
    with TemporaryDirectory() as scratch:
        folder, keys = make_bundle(Path(scratch) / name, rows=20, eps=(32,), others=(Threat("l2", 0.5),)), Path(scratch)
        generate_key(keys)  # the private key ends with the folder: nobody signs another bundle by it
        sign_bundle(folder, keys / PRIVATE_KEY)
        pack(folder, HERE / f"{name}.zip")
        (HERE / f"{name}.pub").write_bytes((keys / PUBLIC_KEY).read_bytes())
    row = {"name": name, "brought": brought, "schema_sha256": form, "attestation": "read", "bundle": "opened"}
    TABLE.write_bytes(canonical_json([*known, row]))
    return f"{name}.zip: the golden bundle of today's schema; commit it with {name}.pub and {TABLE.name}"


def pack(folder: Path, target: Path) -> None:
    """A folder's files as a zip archive that is the same to the byte for the same files."""
    with zipfile.ZipFile(target, "w") as archive:
        for path in sorted(folder.iterdir()):
            entry = zipfile.ZipInfo(path.name, NO_TIME)
            archive.writestr(entry, path.read_bytes(), zipfile.ZIP_DEFLATED, compresslevel=9)


def main(
    brought: Annotated[str, typer.Argument(metavar="WORDS", help="What is new, in a few words: 'proofs by IBP'.")],
) -> None:
    """Makes the golden bundle of today's schema, where there is none yet."""
    print(add(brought))


if __name__ == "__main__":
    run_command(main)
