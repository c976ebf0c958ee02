"""Signing: a bundle in its place, or a signed copy in releases/ where DVC owns the folder."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path

from bundle.bundle import Bundle, copy_bundle, open_bundle
from bundle.digests import whole_folder, write_whole
from bundle.errors import HallmarkError
from bundle.layout import ENVELOPE
from bundle.signatures import key_id, read_private_key, sign

RELEASES = "releases"


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
    for place in (Path(os.path.abspath(path)), path.resolve()):  # a link may lead into out/, and out/ to another disk
        root = place.parent.parent
        if place == root / "out" / "bundle" and (root / "dvc.yaml").is_file():
            return root
    return None


def _sign_in_place(bundle: Bundle, envelope: bytes) -> bool:
    if bundle.envelope == envelope:
        return False
    if bundle.envelope is not None:
        raise HallmarkError(f"{bundle.path / ENVELOPE}: another signature is there; remove it to sign anew")
    try:
        write_whole(bundle.path / ENVELOPE, envelope, new=True, aside=bundle.path.resolve().parent)
    except FileExistsError:  # somebody else signed it in the same instant
        return _sign_in_place(open_bundle(bundle.path), envelope)
    return True


def _release(bundle: Bundle, envelope: bytes, target: Path) -> bool:
    if os.path.lexists(target):
        _require_same(bundle, envelope, target)
        return False
    try:
        with whole_folder(target) as copy:
            copy_bundle(bundle.path, copy)
            # What is signed is the copy, so the copy is what must verify: the source may have changed meanwhile.
            if open_bundle(copy).statement_bytes != bundle.statement_bytes:
                raise HallmarkError(f"{bundle.path}: changed while it was copied; sign it again")
            write_whole(copy / ENVELOPE, envelope)
    except FileExistsError:  # somebody else released it in the same instant
        _require_same(bundle, envelope, target)
        return False
    return True


def _require_same(bundle: Bundle, envelope: bytes, target: Path) -> None:
    names = {item.name for item in target.iterdir()} if target.is_dir() else set[str]()
    for name in sorted({*bundle.files, ENVELOPE} | names):
        expected = (bundle.path / name).read_bytes() if name in bundle.files else envelope if name == ENVELOPE else None
        if not (target / name).is_file() or (target / name).read_bytes() != expected:
            raise HallmarkError(f"{target}: is there already with another {name}; move it away to sign anew")
