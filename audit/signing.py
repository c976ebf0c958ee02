"""Signing: a bundle in its place, or a signed copy in releases/ where DVC owns the folder."""

from __future__ import annotations

import os
import shutil
import tempfile
from dataclasses import dataclass
from pathlib import Path

from bundle.bundle import Bundle, open_bundle
from bundle.digests import write_whole
from bundle.errors import HallmarkError
from bundle.layout import ENVELOPE
from bundle.signatures import key_id, read_private_key, sign

RELEASES = "releases"


class SigningError(HallmarkError):
    """There is something else already where the signed bundle would go."""


@dataclass(frozen=True)
class Signed:
    """Where the signed bundle lies, by which key, and whether anything had to be written."""

    folder: Path
    version: str
    key_id: str
    written: bool


def sign_bundle(path: str | Path, key: str | Path) -> Signed:
    """Verifies a bundle and signs its attestation with key.pem.

    The out/bundle of a repository with dvc.yaml is left as it is, since DVC would delete an added file:
    releases/VERSION/ is made beside out/, whole or not at all. Any other folder gets its envelope in place. The same
    key signs the same bytes again without a change; another signature that is already there is never replaced.
    """
    path = Path(path)
    bundle = open_bundle(path)
    envelope = sign(bundle.statement_bytes, key)
    name = key_id(read_private_key(key).public_key())
    if (root := dvc_root(path)) is None:
        return Signed(path, bundle.version, name, _sign_in_place(bundle, envelope))
    target = Path(os.path.relpath(root)) / RELEASES / bundle.version
    return Signed(target, bundle.version, name, _release(bundle, envelope, target))


def dvc_root(path: Path) -> Path | None:
    """The repository whose pipeline writes this folder; None for a folder that is nobody's out/bundle."""
    path = path.resolve()
    root = path.parent.parent
    return root if path == root / "out" / "bundle" and (root / "dvc.yaml").is_file() else None


def _sign_in_place(bundle: Bundle, envelope: bytes) -> bool:
    if bundle.envelope == envelope:
        return False
    if bundle.envelope is not None:
        raise SigningError(f"{bundle.path / ENVELOPE}: another signature is there; remove it to sign anew")
    write_whole(bundle.path / ENVELOPE, envelope)
    return True


def _release(bundle: Bundle, envelope: bytes, target: Path) -> bool:
    target.parent.mkdir(exist_ok=True)
    copy = Path(tempfile.mkdtemp(dir=target.parent, prefix=f".{target.name}."))
    try:
        for name in bundle.files:
            shutil.copyfile(bundle.path / name, copy / name)
        # What is signed is the copy, so the copy is what must verify: the source may have changed meanwhile.
        if open_bundle(copy).statement_bytes != bundle.statement_bytes:
            raise SigningError(f"{bundle.path}: changed while it was copied; sign it again")
        write_whole(copy / ENVELOPE, envelope)
        if target.exists():
            _require_same(copy, target, {*bundle.files, ENVELOPE})
            return False
        copy.chmod(0o755)
        copy.rename(target)
        return True
    finally:
        shutil.rmtree(copy, ignore_errors=True)


def _require_same(copy: Path, target: Path, names: set[str]) -> None:
    for name in sorted(names | {item.name for item in target.iterdir()}):
        present = (target / name).is_file() and (copy / name).is_file()
        if not present or (target / name).read_bytes() != (copy / name).read_bytes():
            raise SigningError(f"{target}: is there already with another {name}; move it away to sign anew")
