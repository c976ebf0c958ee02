"""What a run ran on and with: recorded in the attestation, and part of a checkpoint's identity."""

from __future__ import annotations

import platform
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

from bundle.digests import sha256_file, sha256_tree

PACKAGES = (
    "torch",
    "torchvision",
    "lightning",
    "onnx",
    "onnxscript",
    "onnxruntime-gpu",
    "onnxruntime",
    "pyautoattack",
    "numpy",
    "scipy",
)
ROOT = Path(__file__).resolve().parent.parent


def source_digest() -> str:
    """SHA-256 over the code that makes a bundle: every file of pipeline/ and bundle/ but caches."""
    return code_digest("pipeline", "bundle")


def code_digest(*places: str) -> str:
    """SHA-256 over files, and every file of folders but caches, by their names from the root of the code."""
    parts = [ROOT / place for place in places]
    paths = [path for part in parts for path in (part.rglob("*") if part.is_dir() else [part])]
    return sha256_tree(ROOT, [path for path in paths if path.is_file() and "__pycache__" not in path.parts])


def lock_digest() -> str | None:
    """SHA-256 of requirements.lock; None where the code was installed without it."""
    path = ROOT / "requirements.lock"
    return sha256_file(path) if path.exists() else None


def describe_environment(device: Any, threads: int) -> dict[str, Any]:
    """Versions, device and arithmetic; nothing that names a person, a folder or a time."""
    import torch

    described = {
        "python": platform.python_version(),
        "system": platform.system(),
        "machine": platform.machine(),
        "packages": {name: found for name in PACKAGES if (found := version_of(name)) is not None},
        "device": torch.cuda.get_device_name(device) if device.type == "cuda" else "CPU",
        "cpu_instructions": torch.backends.cpu.get_cpu_capability(),
        "threads": threads,
        "tf32": False,
        "lock_sha256": lock_digest(),
    }
    return described


def version_of(package: str) -> str | None:
    """The installed version of a package; None where it is absent or was copied without its metadata."""
    try:
        return version(package)
    except PackageNotFoundError:
        return None
