"""A folder for a model hub: the model card where Hugging Face looks for it, and the bundle whole beside it."""

from __future__ import annotations

from pathlib import Path

from bundle.bundle import Bundle, open_bundle
from bundle.command_line import DISTRIBUTION
from bundle.digests import whole_folder, write_whole
from bundle.errors import HallmarkError
from bundle.folder import copy_bundle
from bundle.pages.card import render_card

CARD, ATTRIBUTES, INSIDE = "README.md", ".gitattributes", "bundle"
#: Files that a hub keeps in its large file storage.
LARGE = ("onnx", "safetensors", "npz", "parquet")


def write_hub(bundle: Bundle, target: Path) -> None:
    """Writes the folder `target`, whole or not at all: README.md (the card), .gitattributes, and bundle/.

    A bundle's set of files is exact, so it lies in a folder of its own, where it verifies after a download as before.
    Raises HallmarkError where `target` is there and not an empty folder, or lies in the bundle.
    """
    if target.resolve().is_relative_to(bundle.path.resolve()):
        raise HallmarkError(f"{target}: lies in the bundle, whose set of files is exact; write it elsewhere")
    if target.is_symlink() or (target.exists() and (not target.is_dir() or any(target.iterdir()))):
        raise HallmarkError(f"{target}: is there already; a hub's folder is a new one")
    with whole_folder(target) as folder:
        copy_verified(bundle, folder / INSIDE)
        write_whole(folder / CARD, (render_card(bundle.predicate, bundle.digest) + _check_it(bundle)).encode())
        write_whole(
            folder / ATTRIBUTES, "".join(f"*.{kind} filter=lfs diff=lfs merge=lfs -text\n" for kind in LARGE).encode()
        )


def copy_verified(bundle: Bundle, target: Path) -> None:
    """A copy of a bundle in the new folder `target`; raises HallmarkError where it is no longer what was verified."""
    target.mkdir()
    copy_bundle(bundle.path, target)
    if open_bundle(target).statement_bytes != bundle.statement_bytes:
        raise HallmarkError(f"{bundle.path}: has changed meanwhile")


def _check_it(bundle: Bundle) -> str:
    return f"""
## Check it yourself

The files that this card names lie in `{INSIDE}/`, a Hallmark bundle: model.onnx (SHA-256 `{bundle.digest}`),
weights, evidence, report and attestation. With
`{DISTRIBUTION}` installed, `hallmark verify {INSIDE}` computes every number above again from the evidence.
"""
