"""The files of a bundle by name, and how large each may be.

The set is exact: anything else in the folder is refused. A bundle with private evidence (bundle.private) has no
images.npz, and is otherwise the same. Sizes are limited, since what a stranger's file says of its own size may be a
trap; docs/audit.md states each limit, and whoever makes a bundle stays far below.
"""

import math
import os
from pathlib import Path

from bundle.errors import HallmarkError

MODEL = "model.onnx"
WEIGHTS = "weights.safetensors"
NETWORK = "network.json"
OUTCOMES = "outcomes.parquet"
IMAGES = "images.npz"
CARD = "model-card.md"
BOM = "mlbom.cdx.json"
REPORT = "report.html"
ATTESTATION = "attestation.json"
ENVELOPE = "attestation.dsse.json"

#: Files whose SHA-256 the attestation's predicate lists; the model itself is the attestation's subject.
DESCRIBED = (WEIGHTS, NETWORK, OUTCOMES, IMAGES, BOM, CARD, REPORT)
REQUIRED = (MODEL, *DESCRIBED, ATTESTATION)
OPTIONAL = (ENVELOPE,)


def described(private: bool) -> tuple[str, ...]:
    """DESCRIBED, of a bundle with private evidence without the images."""
    return tuple(name for name in DESCRIBED if not (private and name == IMAGES))


def required(private: bool) -> tuple[str, ...]:
    """REQUIRED, of a bundle with private evidence without the images."""
    return tuple(name for name in REQUIRED if not (private and name == IMAGES))


#: Digits of the model's SHA-256 that people are shown.
VERSION_DIGITS = 12


#: Bytes of attestation.json; the envelope holds it in base64.
STATEMENT_BYTES = 16 << 20
#: Bytes of a file as it lies in a bundle, by its name; of any other, FILE_BYTES.
BYTES = {ATTESTATION: STATEMENT_BYTES, ENVELOPE: 2 * STATEMENT_BYTES, OUTCOMES: 256 << 20, IMAGES: 8 << 30}
FILE_BYTES = 2 << 30
#: Bytes of all images together, unpacked.
IMAGES_BYTES = 8 << 30
#: Of the outcome table: rows, columns, and values in all.
ROWS, COLUMNS, VALUES = 10**6, 10**4, 5 * 10**7


def most_bytes(name: str) -> int:
    """How large the file of a bundle may be at most."""
    return BYTES.get(name, FILE_BYTES)


def check_size(name: str, size: int, most: int | None = None) -> None:
    """Raises HallmarkError where `size` bytes are more than a file of this name (or `most`) may have."""
    most = most_bytes(name) if most is None else most
    if size > most:
        raise HallmarkError(f"{name}: has {size} bytes, it may have {most} at most")


def check_sets(sets: int, shape: tuple[int, ...]) -> None:
    """Raises HallmarkError where so many sets of uint8 images (N, H, W, C) are more than a bundle may have."""
    if (size := sets * math.prod(shape)) > IMAGES_BYTES:
        raise HallmarkError(f"{IMAGES}: unpacks to {size} bytes, it may have {IMAGES_BYTES} at most")


def read_bounded(path: Path, most: int | None = None) -> bytes:
    """A plain file's bytes; raises HallmarkError before it reads more than the file may have, and OSError."""
    with path.open("rb") as file:
        size = os.fstat(file.fileno()).st_size
        check_size(path.name, size, most)
        content = file.read(size + 1)
    if len(content) > size:
        raise HallmarkError(f"{path.name}: grew while it was read; try again when nothing writes it")
    return content
