"""Folders of links, as those make them who keep content once: stores by digest, and volumes of Kubernetes."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

from bundle.digests import sha256_file


def stored(source: Path, target: Path, store: Path) -> Path:
    """A folder of links to files that lie in a content store by their SHA-256; returns `target`."""
    target.mkdir(parents=True)
    store.mkdir(parents=True, exist_ok=True)
    for path in source.iterdir():
        kept = store / sha256_file(path)
        shutil.copyfile(path, kept)
        (target / path.name).symlink_to(os.path.relpath(kept, target))
    return target


def projected(source: Path, target: Path, held: str) -> Path:
    """A folder as Kubernetes mounts it: links through `..data`, which links to the folder `held`; returns `target`."""
    shutil.copytree(source, target / held)
    (target / "..data").symlink_to(held)
    for path in source.iterdir():
        (target / path.name).symlink_to(Path("..data", path.name))
    return target
