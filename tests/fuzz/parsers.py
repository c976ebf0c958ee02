"""Every parser of files, bodies and requests from strangers: good files to begin with, how it is called, how it refuses."""

from __future__ import annotations

import asyncio
import io
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from tempfile import mkdtemp
from typing import Any

import numpy as np
import yaml

from audit.private.challenge import draw_challenge, read_challenge
from audit.private.proof import check_proof, prove
from audit.private.withholding import make_private
from audit.versions.find import Place, read_attestation
from bundle.bundle import open_bundle
from bundle.checks import read_images
from bundle.errors import HallmarkError
from bundle.formats.archives import open_arrays
from bundle.gate.reading import read_policy
from bundle.layout import ATTESTATION, IMAGES, OUTCOMES
from bundle.served.model_file import check_model_file
from bundle.signatures import generate_key, read_envelope, read_private_key, read_public_key, sign
from bundle.table.outcomes import read_outcomes
from serving.exchange import Problem
from serving.input.images import read_image, read_rows
from tests import models
from tests.bundles import SIZE, make_bundle
from tests.serving.mutations import form_request, sources

ROOT = Path(__file__).resolve().parents[2]
RESIZE = {"shorterSide": 8, "filter": "bicubic", "crop": "centre"}


@dataclass(frozen=True)
class Parser:
    """`seeds` are whole good files; `read` returns where it accepts, and raises one of `refusals` where it does not."""

    seeds: Callable[[], list[bytes]]
    read: Callable[[bytes], object]
    refusals: tuple[type[Exception], ...] = (HallmarkError,)


@cache
def folder() -> Path:
    """A folder with a bundle, its private form, keys, a challenge and a proof."""
    root = Path(mkdtemp(prefix="fuzz-"))
    make_bundle(root / "bundle", rows=12, eps=(32,))
    make_private(root / "bundle", root / "private", root / "owned", bytes(32))
    generate_key(root / "key")
    (root / "challenge.json").write_bytes(draw_challenge(open_bundle(root / "private"), 3, "seed").encode())
    (root / "proof.json").write_bytes(prove(root / "challenge.json", root / "owned"))
    return root


def _files(*names: str) -> Callable[[], list[bytes]]:
    return lambda: [(folder() / name).read_bytes() for name in names]


def _by_path(name: str, read: Callable[[Path], object]) -> Callable[[bytes], object]:
    """For parsers that take a path."""

    def reading(content: bytes) -> object:
        path = folder() / name
        path.write_bytes(content)
        return read(path)

    return reading


# Settings


def _params(path: Path) -> object:
    from pipeline.resolve import load_params

    return load_params(path)


def _plan(path: Path) -> object:
    from pipeline.experiments.plan import load_plan

    return load_plan(path)


def _params_seeds() -> list[bytes]:
    full = {
        "data": {"name": "cifar10"},
        "method": {"name": "regmix_d2r_cag", "gamma": 1e-3},
        "network": {"name": "resnet18"},
        "threat": {"norm": "linf", "eps_255": 8},
        "train": {"schedule": "paper", "augment": "crop_flip"},
        "attack": {"tier": "thorough", "eps_l2": [0.5], "images": 100},
    }
    return [
        (ROOT / "params.yaml").read_bytes(),
        yaml.safe_dump(full).encode(),
        yaml.safe_dump(full, default_flow_style=True).encode(),
    ]


def _plan_seeds() -> list[bytes]:
    settings = {"data.name": "digits", "method.name": "standard"}
    one = [{"name": "one", "seeds": [0, 1], "settings": settings, "images": 100, "shard": 50}]
    return [yaml.safe_dump(one).encode(), yaml.safe_dump({"first": one}).encode()]


def _policy_seeds() -> list[bytes]:
    return [(ROOT / "docs" / "policy.yaml").read_bytes().replace(b"# signed_by:", b"signed_by:")]


# Attestations and their kin


def _attestation(content: bytes) -> object:
    """As every list of versions reads it; what read_attestation() itself catches as unforeseen is a find."""
    found = read_attestation(Place("branch", "main"), content)
    if found.refusal is None:
        return found.describe()
    assert "cannot be read (" not in found.refusal, found.refusal
    raise HallmarkError(found.refusal)


def _envelope(content: bytes) -> object:
    return read_envelope(content, (folder() / "bundle" / ATTESTATION).read_bytes())


def _envelope_seeds() -> list[bytes]:
    return [sign((folder() / "bundle" / ATTESTATION).read_bytes(), folder() / "key" / "key.pem")]


@cache
def _private() -> Any:
    return open_bundle(folder() / "private")


def _proof(path: Path) -> object:
    return check_proof(_private(), path, folder() / "challenge.json")


# Binary files


def _table(content: bytes) -> object:
    return read_outcomes(content, OUTCOMES)


def _archive(content: bytes) -> object:
    sets = ("clean", "linf-32/pgd-10", "linf-32/margin")
    return read_images(content, (12, *SIZE), sets)


def _split(path: Path) -> object:
    with open_arrays(path) as archive:
        return [(archive.layout(name), archive.read(name)) for name in archive.names]


def _split_seeds() -> list[bytes]:
    buffers = [io.BytesIO(), io.BytesIO()]
    for buffer, save in zip(buffers, (np.savez, np.savez_compressed), strict=True):
        save(buffer, images=np.zeros((3, *SIZE), np.uint8), labels=np.arange(3))
    return [buffer.getvalue() for buffer in buffers]


def _model_seeds() -> list[bytes]:
    made = [models.honest(), models.by_batch(), models.external()[0], models.endless()]
    return [model.SerializeToString() for model in made]


def _weights_seeds() -> list[bytes]:
    import torch
    from safetensors.torch import save

    state = {"weight": torch.zeros(2, 4), "bias": torch.zeros(2)}
    old, new = io.BytesIO(), io.BytesIO()
    torch.save({"state_dict": state}, new)
    torch.save(state, old, _use_new_zipfile_serialization=False)
    return [save(state), new.getvalue(), old.getvalue()]


def _weights(path: Path) -> object:
    import torch

    from pipeline.external.weights import load_weights

    return load_weights(torch.nn.Linear(4, 2), path)


# The service


def _clean() -> np.ndarray[Any, Any]:
    return open_bundle(folder() / "bundle").images["clean"]


def _image(content: bytes) -> object:
    return read_image(content, SIZE), read_image(content, SIZE, RESIZE)


def _rows(content: bytes) -> object:
    return read_rows(content, SIZE, 64)


def _form_seeds() -> list[bytes]:
    content = sources(_clean()).pictures[0]
    return [form_request("/predict", "image", content).partition(b"\r\n\r\n")[2]]


def _form(content: bytes) -> object:
    """The body of a form, in one piece."""
    from starlette.requests import Request

    from serving.input.bodies import read_form
    from serving.input.requests import IMAGE_TYPES
    from tests.serving.mutations import BOUNDARY

    async def receive() -> dict[str, Any]:
        return {"type": "http.request", "body": content, "more_body": False}

    kind = f"multipart/form-data; boundary={BOUNDARY}".encode()
    scope = {"type": "http", "headers": [(b"content-type", kind)]}
    return asyncio.run(read_form(Request(scope, receive), "image", IMAGE_TYPES))


def _http_seeds() -> list[bytes]:
    content = sources(_clean()).pictures[0]
    chunked = b"POST /predict HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n4\r\nabcd\r\n0\r\n\r\n"
    upgrade = b"GET / HTTP/1.1\r\nHost: x\r\nConnection: Upgrade\r\nUpgrade: h2c\r\nExpect: 100-continue\r\n\r\n"
    return [form_request("/predict", "image", content), chunked, upgrade, chunked + upgrade]


class Wire(asyncio.Transport):
    """A connection's other end, which keeps what is written."""

    def __init__(self) -> None:
        super().__init__({"peername": ("127.0.0.1", 1), "sockname": ("127.0.0.1", 2)})
        self.written, self.closed = b"", False

    def write(self, data: Any) -> None:
        self.written += bytes(data)

    def write_eof(self) -> None: ...

    def close(self) -> None:
        self.closed = True

    abort = close

    def is_closing(self) -> bool:
        return self.closed

    def get_write_buffer_size(self) -> int:
        return 0

    def pause_reading(self) -> None: ...

    def resume_reading(self) -> None: ...


@cache
def _config() -> Any:
    from uvicorn import Config

    async def app(_: Any, receive: Any, send: Any) -> None:
        while (await receive()).get("more_body"):
            pass
        await send({"type": "http.response.start", "status": 200, "headers": [(b"content-length", b"0")]})
        await send({"type": "http.response.body", "body": b""})

    config = Config(app, log_level="critical", ws="none")
    config.load()
    return config


def _http(content: bytes) -> object:
    """The bytes of a connection in three pieces; no exception, and nothing but answers of 200 and 4xx."""
    from uvicorn.server import ServerState

    from serving.parser import PlainHTTP

    async def connection() -> bytes:
        faults: list[Any] = []
        asyncio.get_running_loop().set_exception_handler(lambda _, told: faults.append(told))
        protocol, wire = PlainHTTP(_config(), ServerState(), {}), Wire()
        protocol.connection_made(wire)
        for piece in (content[:50], content[50:1000], content[1000:]):
            if piece and not wire.closed:
                protocol.data_received(piece)
                await asyncio.sleep(0)
        for _ in range(8):
            await asyncio.sleep(0)
        protocol.connection_lost(None)
        await asyncio.sleep(0)
        assert not faults, faults
        return wire.written

    answered = asyncio.run(connection())
    statuses = [part[:3] for part in answered.split(b"HTTP/1.1 ")[1:]]
    assert all(status in (b"100", b"200") or status.startswith(b"4") for status in statuses), answered
    if any(status.startswith(b"4") for status in statuses):
        raise HallmarkError(answered.decode("latin-1"))
    return answered


PARSERS: dict[str, Parser] = {
    "params": Parser(_params_seeds, _by_path("fuzzed.yaml", _params)),
    "plan": Parser(_plan_seeds, _by_path("fuzzed-plan.yaml", _plan)),
    "policy": Parser(_policy_seeds, _by_path("fuzzed-policy.yaml", read_policy)),
    "attestation": Parser(_files(f"bundle/{ATTESTATION}", f"private/{ATTESTATION}"), _attestation),
    "envelope": Parser(_envelope_seeds, _envelope),
    "challenge": Parser(_files("challenge.json"), lambda content: read_challenge(content, "challenge.json")),
    "proof": Parser(_files("proof.json"), _by_path("fuzzed-proof.json", _proof)),
    "keys": Parser(
        _files("key/key.pub", "key/key.pem"),
        _by_path(
            "fuzzed.pem", lambda path: read_public_key(path) if b"PUB" in path.read_bytes() else read_private_key(path)
        ),
    ),
    "table": Parser(_files(f"bundle/{OUTCOMES}", f"private/{OUTCOMES}"), _table),
    "images": Parser(_files(f"bundle/{IMAGES}"), _archive),
    "archive": Parser(_split_seeds, _by_path("fuzzed.npz", _split)),
    "model": Parser(_model_seeds, check_model_file),
    "weights": Parser(_weights_seeds, _by_path("fuzzed.pth", _weights)),
    "picture": Parser(lambda: sources(_clean()).pictures, _image, (Problem,)),
    "rows": Parser(lambda: [sources(_clean()).rows], _rows, (Problem,)),
    "form": Parser(_form_seeds, _form, (Problem,)),
    "http": Parser(_http_seeds, _http),
}
