"""Weights from elsewhere: a file of safetensors or of torch.save, put into a network whose names it has somewhere."""

from __future__ import annotations

import argparse
import pathlib
import pickle
import re
import types
import warnings
import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy._core import multiarray
from safetensors import SafetensorError
from safetensors.torch import load
from torch import Tensor, nn

from bundle.formats.archives import DAMAGE
from pipeline.external.matching import COUNTER, listed, matching, sections
from pipeline.networks.names import NetworkError


class ShapeError(NetworkError):
    """A weight of the file has another shape than the network's."""

    def __init__(self, message: str, found: torch.Size, own: torch.Size) -> None:
        super().__init__(message)
        self.found, self.own = found, own


#: How files begin that are taken for weights, and are not.
OTHERS = {
    b"version https://git-lfs.github.com/": "is a Git LFS pointer, not the file itself; fetch it with `git lfs pull`",
    b"/annex/objects/": "is a git-annex pointer, not the file itself; fetch it with `git annex get`",
    b"<!doctype html": "is a web page, not a file of weights; download the file itself",
    b"<html": "is a web page, not a file of weights; download the file itself",
    b"\x89hdf": "is an HDF5 file, which Keras writes; a file of safetensors or of torch.save is needed",
    b"gguf": "is a GGUF file; a file of safetensors or of torch.save is needed",
}
#: What lies beside weights and is data only, by the names that files of several versions give it.
HARMLESS: list[Any] = [
    argparse.Namespace,
    types.SimpleNamespace,
    np.ndarray,
    np.dtype,
    *{type(np.dtype(code)) for code in np.typecodes["All"] if code != "O"},
    *((multiarray.scalar, f"numpy.{core}.multiarray.scalar") for core in ("core", "_core")),
    *((multiarray._reconstruct, f"numpy.{core}.multiarray._reconstruct") for core in ("core", "_core")),
    *((pathlib.PosixPath, f"{module}.PosixPath") for module in ("pathlib", "pathlib._local")),
]


def load_weights(network: nn.Module, given: str | Path) -> list[str]:
    """Puts the weights of `FILE` or `FILE#SECTION` into a network; returns what was left out or renamed, a sentence each.

    The weights are looked for by the network's own names, in every section of the file and behind any prefix. Nothing
    in the file is executed. Raises NetworkError in one sentence: for a file that is something else, one in which they are
    not found, and one in which several sections have them, which are listed.
    """
    path, section = _split(str(given))
    content, remarks = read_file(path)
    found = sections(content)
    if not found:
        raise NetworkError(f"{path}: must hold a state dict, tensors by name; {_held(content)}")
    match = matching(network, found, path, section)
    put_in(network, match.tensors, match.where)
    return [*remarks, *match.remarks]


def _split(given: str) -> tuple[Path, str | None]:
    whole = Path(given).expanduser()
    file, mark, section = given.rpartition("#")
    if not mark or whole.exists():
        return whole, None
    return Path(file).expanduser(), section


def _held(content: object) -> str:
    if isinstance(content, Mapping) and content:
        name, value = next(iter(content.items()))
        return f"{name} is a {type(value).__name__}"
    return f"holds a {type(content).__name__}" if not isinstance(content, Mapping) else "holds nothing"


def read_file(path: Path) -> tuple[Any, list[str]]:
    """The content of a file, and a remark where its name says something else; raises NetworkError in one sentence."""
    if path.is_symlink() and not path.exists():
        raise NetworkError(f"{path}: is a link to a file that is not there; fetch it (`dvc pull`, `git annex get`)")
    if path.is_dir():
        raise NetworkError(f"{path}: is a folder; name the file of weights in it")
    if not path.is_file():
        raise NetworkError(f"{path}: there is no such file of weights")
    with path.open("rb") as file:
        head = file.read(512)
    for beginning, sentence in OTHERS.items():
        if head.lstrip().lower().startswith(beginning):
            raise NetworkError(f"{path}: {sentence}")
    named = path.suffix == ".safetensors"
    if _is_safetensors(head, path.stat().st_size) or (named and not head.startswith((b"PK", b"\x80"))):
        return _safetensors(path), [] if named else [f"{path.name} is a safetensors file"]
    return _unpickled(path, head), [f"{path.name} is a file of torch.save"] if named else []


def _is_safetensors(head: bytes, size: int) -> bool:
    return head[8:9] == b"{" and int.from_bytes(head[:8], "little") <= size - 8


def _safetensors(path: Path) -> dict[str, Tensor]:
    try:
        return load(path.read_bytes())
    except SafetensorError as error:
        raise NetworkError(f"{path}: is not a safetensors file ({error})") from None


def _unpickled(path: Path, head: bytes) -> Any:
    try:
        # By its handle: torch.load takes a file by the ending of its name.
        with path.open("rb") as file, warnings.catch_warnings(), torch.serialization.safe_globals(HARMLESS):
            warnings.simplefilter("ignore")
            return torch.load(file, map_location="cpu", weights_only=True)
    except pickle.UnpicklingError as error:
        if not head.startswith((b"PK", b"\x80")):
            raise NetworkError(f"{path}: is not a file that torch.save wrote") from None
        named = re.search(r"(?:GLOBAL |got <class ')([\w.]+)", str(error))
        raise NetworkError(
            f"{path}: holds more than tensors{f' ({named[1]})' if named else ''}, and reading it would run code from the "
            "file; save the weights alone: torch.save(network.state_dict(), FILE), or as safetensors"
        ) from None
    except Exception as error:  # torch.load raises many kinds for a damaged file
        if _is_torchscript(path):
            raise NetworkError(
                f"{path}: is a TorchScript archive, which is code; save its weights alone: "
                "torch.save(torch.jit.load(FILE).state_dict(), OTHER)"
            ) from None
        raise NetworkError(
            f"{path}: is not a file that torch.save wrote ({type(error).__name__}: {' '.join(str(error).split())[:200]})"
        ) from None


def _is_torchscript(path: Path) -> bool:
    try:
        with zipfile.ZipFile(path) as archive:
            return any(name.endswith("/constants.pkl") for name in archive.namelist())
    except DAMAGE:
        return False


def put_in(network: nn.Module, weights: Mapping[str, Tensor], where: str) -> None:
    """Loads weights by name; raises NetworkError that names those that are missing, left over or of another shape.

    A weight that the file lacks because it is another one's (tied weights) counts as there.
    """
    own = network.state_dict()
    weights = dict(weights)
    for name, value in own.items():
        if name not in weights and (twin := _tied(name, value, own, weights)):
            weights[name] = weights[twin]
    missing = [name for name in own if name not in weights and not name.endswith(COUNTER)]
    unexpected = [name for name in weights if name not in own]
    if missing or unexpected:
        said = [f"lacks {listed(missing)}"] * bool(missing) + [f"has {listed(unexpected)} besides"] * bool(unexpected)
        raise NetworkError(f"{where}: does not fit the network: it {' and '.join(said)}")
    for name, value in weights.items():
        if value.shape != own[name].shape:
            shapes = f"{tuple(value.shape)}, the network's {tuple(own[name].shape)}"
            message = f"{where}: does not fit the network: {name} is {shapes}"
            raise ShapeError(message, value.shape, own[name].shape)
    network.load_state_dict(weights, strict=False)


def _tied(name: str, value: Tensor, own: Mapping[str, Tensor], weights: Mapping[str, Tensor]) -> str | None:
    return next(
        (
            other
            for other in weights
            if other in own and other != name and own[other].numel() and own[other].is_set_to(value)
        ),
        None,
    )
