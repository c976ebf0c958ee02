"""What a stranger may hand to each command, made in a folder of its own."""

from __future__ import annotations

import base64
import io
import json
import shutil
import sys
import zipfile
from collections.abc import Callable
from functools import cache
from pathlib import Path
from tempfile import mkdtemp
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from audit.private.challenge import Challenge, draw_challenge, drawn_rows
from audit.private.proof import prove
from audit.private.withholding import make_private
from bundle.assembly import pack_images
from bundle.bundle import open_bundle
from bundle.digests import canonical_json, sha256_bytes
from bundle.layout import ATTESTATION, ENVELOPE, IMAGES, MODEL, OUTCOMES
from bundle.signatures import generate_key, sign
from tests.audit.tampering import rewrite
from tests.bundle.formats.test_yaml12 import nested_aliases
from tests.bundle.served.test_model_file import REFUSED
from tests.bundle.test_limits import replaced, written
from tests.bundles import make_bundle
from tests.serving.pictures import png, raw_png

HALLMARK = str(Path(sys.executable).with_name("hallmark"))
#: Makes the input in a folder and returns the command that takes it.
Build = Callable[[Path], list[str]]
Edit = Callable[[dict[str, Any]], object]


@cache
def masters() -> Path:
    """A bundle, its private form with the owner's part, keys, a challenge and its proof; nothing changes them."""
    root = Path(mkdtemp(prefix="hostile-"))
    make_bundle(root / "bundle")
    make_private(root / "bundle", root / "private", root / "owned", bytes(32))
    generate_key(root / "key")
    (root / "challenge.json").write_bytes(draw_challenge(open_bundle(root / "private"), 5, "seed").encode())
    (root / "proof.json").write_bytes(prove(root / "challenge.json", root / "owned"))
    return root


def stage(name: str, *options: str) -> list[str]:
    return [sys.executable, "-m", f"pipeline.{name}", *options]


class Trap:
    """Makes the folder `ran` where it is unpickled."""

    def __reduce__(self) -> tuple[Any, ...]:
        import os

        return os.mkdir, ("ran",)


# Texts of settings


ALIASES = nested_aliases("n0: &n0 [x]", "[BEFORE]", 12)
TAG = "!!python/object/apply:os.mkdir [ran]"


def params(text: str) -> Build:
    def build(folder: Path) -> list[str]:
        (folder / "params.yaml").write_text(text)
        return stage("prepare")

    return build


def policy(text: str, name: str = "policy.yaml") -> Build:
    def build(folder: Path) -> list[str]:
        (folder / name).write_text(text)
        return [HALLMARK, "gate", str(masters() / "bundle"), "--policy", name]

    return build


def plan(text: str) -> Build:
    def build(folder: Path) -> list[str]:
        (folder / "plan.yaml").write_text(text)
        return stage("experiments", "--plan", "plan.yaml")

    return build


# Folders of images


def pictures(edit: Callable[[Path], object], count: int = 6) -> Build:
    """A folder with two classes, something of which is otherwise."""

    def build(folder: Path) -> list[str]:
        for number in range(2 * count):
            path = folder / "data" / ("cat", "dog")[number % 2] / f"{number}.png"
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(png(np.full((8, 8), number, np.uint8)))
        edit(folder / "data")
        settings = {"data": {"name": "folder", "path": "data", "image_size": 8}, "method": {"name": "standard"}}
        (folder / "params.yaml").write_text(json.dumps(settings))
        return stage("prepare")

    return build


def empty_class(data: Path) -> None:
    for path in (data / "dog").iterdir():
        path.unlink()


def huge(side: int) -> Callable[[Path], object]:
    """A PNG of one bit a pixel, of which nearly nothing is left when it is packed."""
    rows = bytes(side * (side // 8 + 1))
    return lambda data: (data / "cat" / "huge.png").write_bytes(raw_png(side, side, 1, 0, rows))


def loop(data: Path) -> None:
    (data / "cat" / "again").symlink_to(data.resolve())


def broken_line(data: Path) -> None:
    (data / "cat" / "one\nerror: \x1b[2J\u202e.png").write_bytes(b"no image")


# Weights


NETWORK = "from torch import nn\n\n\ndef linear():\n    return nn.Sequential(nn.Flatten(), nn.Linear(64, 10))\n"


def weights(name: str, make: Callable[[], bytes]) -> Build:
    def build(folder: Path) -> list[str]:
        (folder / "mymodels.py").write_text(NETWORK)
        (folder / name).write_bytes(make())
        return stage("evaluate", "--model", "mymodels:linear", "--data", "digits", "--tier", "quick", "--weights", name)

    return build


def tensors(shape: tuple[int, ...] = (10, 64)) -> bytes:
    import torch
    from safetensors.torch import save

    return save({"1.weight": torch.zeros(shape), "1.bias": torch.zeros(shape[0])})


def checkpoint(content: Any, old: bool = False) -> bytes:
    import torch

    buffer = io.BytesIO()
    torch.save(content, buffer, _use_new_zipfile_serialization=not old)
    return buffer.getvalue()


def long_header() -> bytes:
    return (2**40).to_bytes(8, "little") + b'{"1.weight": {}}'


def claimed() -> bytes:
    """A safetensors file whose tensor has 4 TB, of which nothing is there."""
    head = {"1.weight": {"dtype": "F32", "shape": [10**6, 10**6], "data_offsets": [0, 4 * 10**12]}}
    text = json.dumps(head).encode()
    return len(text).to_bytes(8, "little") + text


def packed_checkpoint() -> bytes:
    """A checkpoint of a few hundred kB whose storage unpacks to 256 MiB."""
    import torch

    stored, packed = io.BytesIO(checkpoint({"1.weight": torch.zeros(10, 64)})), io.BytesIO()
    with zipfile.ZipFile(stored) as source, zipfile.ZipFile(packed, "w", zipfile.ZIP_DEFLATED) as target:
        for name in source.namelist():
            target.writestr(name, bytes(1 << 28) if "/data/" in name else source.read(name))
    return packed.getvalue()


# Bundles


def verify(edit: Callable[[Path], object]) -> Build:
    def build(folder: Path) -> list[str]:
        edit(Path(shutil.copytree(masters() / "bundle", folder / "bundle")))
        return [HALLMARK, "verify", "bundle"]

    return build


def model(make: Callable[[], Any]) -> Build:
    """A bundle around a model file, every digest made to fit."""

    def edit(bundle: Path) -> None:
        made = make()
        rewrite(bundle, files={MODEL: made if isinstance(made, bytes) else made.SerializeToString()}, recompute=False)

    return verify(edit)


def served(make: Callable[[], Any]) -> Build:
    def build(folder: Path) -> list[str]:
        model(make)(folder)
        return [sys.executable, "-m", "serving", "--bundle", "bundle", "--port", "3999"]

    return build


def refused_model(kind: str) -> Callable[[], Any]:
    return REFUSED[kind][0]


def attestation(change: Callable[[bytes], bytes]) -> Build:
    def edit(bundle: Path) -> None:
        path = bundle / ATTESTATION
        path.write_bytes(change(path.read_bytes()))

    return verify(edit)


def predicate(edit: Edit) -> Build:
    return verify(lambda bundle: rewrite(bundle, predicate=edit, recompute=False))


def statement(edit: Edit) -> Build:
    def change(content: bytes) -> bytes:
        document = json.loads(content)
        edit(document)
        return canonical_json(document)

    return attestation(change)


def table(make: Callable[[Path], bytes]) -> Build:
    return verify(lambda bundle: rewrite(bundle, files={OUTCOMES: make(bundle)}, recompute=False))


def repeated_text(bundle: Path) -> bytes:
    long = pa.DictionaryArray.from_arrays(pa.array([0] * 60, pa.int32()), pa.array(["a" * (20 << 20)]))
    return written(replaced(bundle, "image_sha256", long), store_schema=False)


def many_rows(bundle: Path) -> bytes:
    """Sixty million rows in some kilobytes: runs of one value."""
    one = pq.read_table(bundle / OUTCOMES, columns=["index"]).slice(0, 1)
    sink = io.BytesIO()
    with pq.ParquetWriter(sink, one.schema, compression="zstd") as writer:
        chunk = pa.table({"index": pa.array(np.zeros(6 * 10**6, one.schema.field(0).type.to_pandas_dtype()))})
        for _ in range(10):
            writer.write_table(chunk)
    return sink.getvalue()


def images(make: Callable[[bytes], bytes]) -> Build:
    return verify(lambda bundle: rewrite(bundle, files={IMAGES: make((bundle / IMAGES).read_bytes())}, recompute=False))


SETS = ("clean", "linf-16/pgd-10", "linf-16/margin", "linf-32/pgd-10", "linf-32/margin")


def claiming(*shape: int) -> bytes:
    """An archive of the arrays that belong there, whose headers ask for a shape; what follows them is zeros, packed."""
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED) as archive:
        for name in SETS:
            with archive.open(f"{name}.npy", "w") as member:
                np.lib.format.write_array_header_1_0(member, {"descr": "|u1", "fortran_order": False, "shape": shape})
                for _ in range(64):
                    member.write(bytes(1 << 20))
    return buffer.getvalue()


def many_arrays(_: bytes) -> bytes:
    return pack_images({f"a{number}": np.zeros((1, 1, 1, 1), np.uint8) for number in range(20_000)})


def pickled(_: bytes) -> bytes:
    """Arrays of objects, whose pickle makes a folder."""
    buffer = io.BytesIO()
    np.savez(buffer, **dict.fromkeys(SETS, np.array([Trap()], dtype=object)))  # pyright: ignore[reportArgumentType]
    return buffer.getvalue()


def sparse(name: str) -> Build:
    def edit(bundle: Path) -> None:
        with (bundle / name).open("ab") as file:
            file.truncate(200 << 30)

    return verify(edit)


def envelope(make: Callable[[bytes], bytes]) -> Build:
    def edit(bundle: Path) -> None:
        signed = sign((bundle / ATTESTATION).read_bytes(), masters() / "key" / "key.pem")
        (bundle / ENVELOPE).write_bytes(make(signed))

    return verify(edit)


# Private evidence


def proof(edit: Callable[[Path], object]) -> Build:
    """A proof and its challenge, in which something is bent."""

    def build(folder: Path) -> list[str]:
        for name in ("challenge.json", "proof.json"):
            shutil.copyfile(masters() / name, folder / name)
        edit(folder)
        given = ["--proof", "proof.json", "--challenge", "challenge.json"]
        return [HALLMARK, "verify", str(masters() / "private"), *given]

    return build


def rows(edit: Callable[[list[dict[str, Any]]], object]) -> Build:
    def change(folder: Path) -> None:
        document = json.loads((folder / "proof.json").read_bytes())
        edit(document["rows"])
        (folder / "proof.json").write_bytes(canonical_json(document))

    return proof(change)


def whitened(opened: list[dict[str, Any]]) -> None:
    size = len(base64.b64decode(opened[0]["images"]["clean"]))
    opened[0]["images"]["clean"] = base64.b64encode(b"\xff" * size).decode()


def exchanged(opened: list[dict[str, Any]]) -> None:
    opened[0]["images"], opened[1]["images"] = opened[1]["images"], opened[0]["images"]


def of_a_billion(folder: Path) -> None:
    """400 bytes that name rows of a table that nobody has."""
    nonce, digest = "0" * 64, sha256_bytes((masters() / "private" / ATTESTATION).read_bytes())
    drawn = drawn_rows(nonce, digest, 60, 1)
    made = Challenge(digest, open_bundle(masters() / "private").digest, 10**9, drawn, nonce, "system entropy")
    (folder / "challenge.json").write_bytes(made.encode())


def small_values(folder: Path) -> None:
    size = (folder / "proof.json").stat().st_size
    (folder / "proof.json").write_bytes(b"[" + b"{}," * (size // 3 - 2) + b"{}]")


def endless_proof(folder: Path) -> None:
    with (folder / "proof.json").open("ab") as file:
        file.truncate(200 << 30)
