"""A private copy of the tree: no mutant ever lies in the checkout."""

from __future__ import annotations

import hashlib
import shutil
import subprocess
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]


def files() -> list[str]:
    """What git has here or would add, relative to the checkout."""
    command = ["git", "ls-files", "-coz", "--exclude-standard"]
    listed = subprocess.run(command, cwd=ROOT, capture_output=True, encoding="utf-8", check=True).stdout.split("\0")
    return sorted(name for name in listed if name and (ROOT / name).is_file())


def copy_tree(folder: Path) -> Path:
    """The files above in folder/tree, with a repository of their own: some tests ask git."""
    tree = folder / "tree"
    for name in files():
        (tree / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy2(ROOT / name, tree / name)
    for command in (["init", "-q"], ["add", "-A"], ["-c", "user.name=x", "-c", "user.email=x", "commit", "-qm", "x"]):
        subprocess.run(["git", *command], cwd=tree, check=True)
    return tree


def digest(names: list[str]) -> str:
    """Of the contents of these files, and of their names."""
    summed = hashlib.sha256()
    for name in names:
        summed.update(f"{name}\0".encode() + hashlib.sha256((ROOT / name).read_bytes()).digest())
    return summed.hexdigest()[:16]
