"""A bundle as a folder: which files it has, of which sizes, each read once and whole, also from links and volumes."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from bundle.digests import write_whole
from bundle.errors import HallmarkError
from bundle.layout import ATTESTATION, IMAGES, OPTIONAL, REQUIRED, check_size, described, read_bounded, required
from bundle.private import is_private

#: The link through which a volume of Kubernetes shows its files.
PROJECTION = "..data"


def check_names(path: Path) -> set[str]:
    """The names of a bundle's files, none of which is read here; each is a plain file, or a link to one."""
    if not path.is_dir():
        raise HallmarkError(f"{path}: there is no such bundle folder")
    names = _names(path)
    for name in sorted(names - {*REQUIRED, *OPTIONAL}):
        raise HallmarkError(f"{name}: does not belong to a bundle; take it out of {path}")
    for name in required(private=True):
        if name not in names:
            raise HallmarkError(f"{name}: is missing from {path}")
    for name in sorted(names):
        check_plain(path / name)
    return names


def check_images_file(path: Path, names: set[str], private: bool) -> None:
    """Only the attestation says whether images.npz belongs to the bundle."""
    if private and IMAGES in names:
        raise HallmarkError(f"{IMAGES}: does not belong to a bundle with private evidence; take it out of {path}")
    if not private and IMAGES not in names:
        raise HallmarkError(f"{IMAGES}: is missing from {path}")


def read_files(path: Path, names: set[str], statement: Mapping[str, Any]) -> dict[str, bytes]:
    """Every file but the attestation, once all of them have the sizes that it says and that bundle.layout grants."""
    for name, size in attested_sizes(statement).items():
        found = (path / name).stat().st_size
        if found != size:
            raise HallmarkError(f"{name}: has {found} bytes, the attestation says {size}")
    return {name: read_file(path / name) for name in sorted(names - {ATTESTATION})}


def attested_sizes(statement: Mapping[str, Any]) -> dict[str, int]:
    """The bytes of every file that the attestation describes, which the model and the attestation are not.

    Raises HallmarkError where it describes other files, or one is larger than it may be.
    """
    files, names = statement["predicate"]["files"], described(is_private(statement["predicate"]))
    if sorted(item["name"] for item in files) != sorted(names):
        raise HallmarkError(f"{ATTESTATION}: files must describe exactly {', '.join(names)}")
    for item in files:
        check_size(item["name"], item["size"])
    return {item["name"]: item["size"] for item in files}


def read_file(path: Path) -> bytes:
    """A file of a bundle, whole; raises HallmarkError where it cannot be read or is larger than it may be."""
    try:
        return read_bounded(path)
    except OSError as error:
        raise HallmarkError(f"{path.name}: cannot be read ({error.strerror})") from None


def check_plain(path: Path) -> None:
    """Content stores and volumes keep links; what is read and hashed is the plain file at their end."""
    if path.is_symlink() and not path.exists():
        raise HallmarkError(f"{path.name}: is a link to nothing ({os.readlink(path)}); fetch what it stands for")
    if not path.is_file():
        raise HallmarkError(f"{path.name}: must be a plain file, or a link to one")


def copy_bundle(source: Path, target: Path) -> None:
    """Copies a bundle's files into the folder `target` as plain files, also where they are links in `source`."""
    for name in sorted(_names(source)):
        write_whole(target / name, (source / name).read_bytes())


def _names(path: Path) -> set[str]:
    """The names in a bundle's folder, without those by which Kubernetes keeps a mounted volume."""
    names = {item.name for item in path.iterdir()}
    return names - _projected(path, names)


def _projected(path: Path, names: set[str]) -> set[str]:
    """`..data` and the folder beside it to which it links, where they hold the very files that are seen, and no other.

    A volume's files are links through `..data`, so that all of them change in one instant.
    """
    link = path / PROJECTION
    if not link.is_symlink():
        return set()
    held = path / os.readlink(link)
    kept, seen = {PROJECTION, held.name}, names - {PROJECTION, held.name}
    if held.parent != path or held.is_symlink() or not held.is_dir() or not held.name.startswith(".."):
        return set()
    same = {item.name for item in held.iterdir()} == seen
    return kept if same and all((path / name).resolve() == (held / name).resolve() for name in seen) else set()
