"""Every input of the table: what it is, which command takes it, and the most memory that it may cost."""

from __future__ import annotations

import json
import pickle
from dataclasses import dataclass
from typing import Any

from bundle.digests import canonical_json
from bundle.layout import OUTCOMES, WEIGHTS
from tests import models
from tests.audit.tampering import encrypted
from tests.hostile.inputs import (
    ALIASES,
    TAG,
    Build,
    Trap,
    attestation,
    broken_line,
    checkpoint,
    claimed,
    claiming,
    empty_class,
    endless_proof,
    envelope,
    exchanged,
    huge,
    images,
    long_header,
    loop,
    many_arrays,
    many_rows,
    model,
    of_a_billion,
    packed_checkpoint,
    params,
    pickled,
    pictures,
    plan,
    policy,
    predicate,
    proof,
    refused_model,
    repeated_text,
    rows,
    served,
    small_values,
    sparse,
    statement,
    table,
    tensors,
    weights,
    whitened,
)

#: MiB of a process: with Arrow and SciPy, with ONNX Runtime and BentoML, with torch. Each has some 200 beside what they take.
AUDIT, SERVICE, TORCH = 500, 900, 1500
PARAMS = "data: {name: digits}\nmethod: {name: standard}\n"
PLAN = "- name: one\n  seeds: [0]\n  images: 10\n  shard: 10\n"
#: The stage prepare runs before weights are read, and its outputs are good.
PREPARED = ("evaluations/",)


@dataclass(frozen=True)
class Case:
    """`group` is the kind of input, `name` what is wrong with it; `mebibytes` bounds the child's memory."""

    group: str
    name: str
    build: Build
    mebibytes: int = AUDIT
    allowed: tuple[str, ...] = ()


def _edit(*path: str | int, value: Any) -> Any:
    def edit(document: dict[str, Any]) -> None:
        *above, last = path
        for part in above:
            document = document[part]  # pyright: ignore[reportArgumentType]
        document[last] = value  # pyright: ignore[reportArgumentType]

    return edit


def _trap() -> bytes:
    return pickle.dumps(Trap())


CASES = [
    Case("params", "aliases that stand for 10¹¹ values", params(ALIASES), TORCH),
    Case("params", "a tag that runs code", params(PARAMS + f"seed: {TAG}\n"), TORCH),
    Case("params", "a key twice", params(PARAMS + "seed: 1\nseed: 2\n"), TORCH),
    Case("params", "text for a number", params(PARAMS + "seed: many\n"), TORCH),
    Case("params", "100,000 lists inside of each other", params("[" * 100_000), TORCH),
    Case("policy", "aliases that stand for 10¹¹ values", policy(ALIASES)),
    Case("policy", "a tag that runs code", policy(f"tier: {TAG}\n")),
    Case("policy", "a key twice", policy("flags: 0\nflags: 9\n")),
    Case("policy", "a list for a number", policy("flags: [0]\n")),
    Case("policy", "JSON, 100,000 lists inside of each other", policy('{"flags": ' + "[" * 100_000, "policy.json")),
    Case("plan", "aliases that stand for 10¹¹ values", plan(ALIASES), TORCH),
    Case("plan", "a tag that runs code", plan(PLAN + f"  settings: {TAG}\n"), TORCH),
    Case("plan", "a setting twice", plan(PLAN + "  seeds: [1]\n"), TORCH),
    Case("plan", "a number for a list", plan(PLAN.replace("[0]", "zero") + "  settings: {}\n"), TORCH),
    Case("images", "a class without images", pictures(empty_class), TORCH),
    Case("images", "one image per class, to be split", pictures(lambda _: None, count=1), TORCH),
    Case("images", "1.6 gigapixels in 200 kB of PNG", pictures(huge(40_000)), TORCH),
    Case("images", "a folder that links to the one above", pictures(loop), TORCH),
    Case("images", "damaged, with a line break and controls in its name", pictures(broken_line), TORCH),
    Case("weights", "safetensors, cut off", weights("w.safetensors", lambda: tensors()[:-100]), TORCH, PREPARED),
    Case(
        "weights",
        "safetensors of another network",
        weights("w.safetensors", lambda: tensors((10, 65))),
        TORCH,
        PREPARED,
    ),
    Case("weights", "safetensors, a header of 1 TiB", weights("w.safetensors", long_header), TORCH, PREPARED),
    Case("weights", "safetensors, a tensor of 4 TB", weights("w.safetensors", claimed), TORCH, PREPARED),
    Case("weights", "a checkpoint, cut off", weights("w.pth", lambda: checkpoint({})[:-20]), TORCH, PREPARED),
    Case(
        "weights", "a checkpoint that runs code", weights("w.pth", lambda: checkpoint({"a": Trap()})), TORCH, PREPARED
    ),
    Case(
        "weights",
        "an old checkpoint that runs code",
        weights("w.pth", lambda: checkpoint(Trap(), old=True)),
        TORCH,
        PREPARED,
    ),
    Case("weights", "a pickle that runs code", weights("w.pth", _trap), TORCH, PREPARED),
    Case("weights", "a checkpoint, packed 1,000 times", weights("w.pth", packed_checkpoint), TORCH, PREPARED),
    Case("model", "external data", model(refused_model("external data"))),
    Case("model", "an operator of another domain", model(refused_model("another domain"))),
    Case("model", "a Loop without end", model(models.endless)),
    Case("model", "a constant of 400 GB", model(refused_model("ConstantOfShape"))),
    Case("model", "a shape of 10¹¹ without data", model(refused_model("a shape without data"))),
    Case("model", "sparse, of 10¹¹", model(refused_model("sparse"))),
    Case("model", "cut off", model(lambda: models.honest().SerializeToString()[:-50])),
    Case("model", "external data, to be served", served(refused_model("external data")), SERVICE),
    Case("attestation", "a key twice", attestation(lambda content: content.replace(b"{", b'{\n  "_type": "x",', 1))),
    Case("attestation", "100,000 lists inside of each other", attestation(lambda _: b"[" * 100_000)),
    Case("attestation", "NaN", attestation(lambda content: content.replace(b'"seed": 0', b'"seed": NaN', 1))),
    Case("attestation", "60.0 for 60", predicate(_edit("sample", "size", value=60.0))),
    Case("attestation", "a number of 400 digits", predicate(_edit("smoothing", 0, "sigma", value=10**400))),
    Case(
        "attestation",
        "another predicate's type",
        statement(_edit("predicateType", value="https://slsa.dev/provenance/v1")),
    ),
    Case("attestation", "a sample of 10⁹ rows", predicate(_edit("sample", "size", value=10**9))),
    Case("attestation", "images of 10¹² pixels", predicate(_edit("data", "shape", value=[10**6, 10**6, 3]))),
    Case("envelope", "100,000 lists inside of each other", envelope(lambda _: b"[" * 100_000)),
    Case("envelope", "of another statement", envelope(lambda content: _resigned(content))),
    Case("table", "1.2 GB of text in 50 kB", table(repeated_text)),
    Case("table", "60 million rows", table(many_rows)),
    Case("table", "no Parquet", table(lambda _: b"PAR1" * 9)),
    Case("table", "200 GB on no disk", sparse(OUTCOMES)),
    Case("archive", "10¹³ images", images(lambda _: claiming(10**13, 8, 8, 1))),
    Case("archive", "64 MiB behind each header", images(lambda _: claiming(60, 8, 8, 1))),
    Case("archive", "20,000 arrays", images(many_arrays)),
    Case("archive", "encrypted", images(encrypted)),
    Case("archive", "pickled objects that run code", images(pickled)),
    Case("archive", "weights of 200 GB on no disk", sparse(WEIGHTS)),
    Case("proof", "an image of another colour", rows(whitened)),
    Case("proof", "two rows exchanged", rows(exchanged)),
    Case("proof", "a row left out", rows(lambda opened: opened.pop())),
    Case("proof", "many small values", proof(small_values)),
    Case("proof", "200 GB on no disk", proof(endless_proof)),
    Case("proof", "a challenge about 10⁹ rows", proof(of_a_billion)),
]


def _resigned(content: bytes) -> bytes:
    return canonical_json({**json.loads(content), "payload": "e30="})
