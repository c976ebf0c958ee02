"""`python -m serving.bento BUNDLE`: a bento of one bundle, named after its model."""

from __future__ import annotations

import shutil
import signal
import subprocess
import sys
from enum import StrEnum
from pathlib import Path
from typing import Annotated, Any

import bentoml
import typer
import yaml

from bundle.bento_home import BENTOS, item_folder, move_in, private_home, working_in
from bundle.bundle import open_bundle
from bundle.command_line import run_command
from bundle.errors import HallmarkError
from bundle.folder import copy_bundle
from bundle.pages.headline import store_name

ROOT = Path(__file__).resolve().parents[1]
BENTOFILE = "bentofile.yaml"
#: Where the image's environment keeps CUDA and cuDNN; only torch would look there by itself.
CUDA_LIBRARIES = [f"/app/.venv/lib/python{{version}}/site-packages/nvidia/{part}/lib" for part in ("cu13", "cudnn")]


class Device(StrEnum):
    """What the image's ONNX Runtime computes on."""

    cpu = "cpu"
    cuda = "cuda"


def main(
    bundle: Annotated[Path, typer.Argument(help="The bundle to pack.")] = Path("out/bundle"),
    device: Annotated[Device, typer.Option(help="What the image's ONNX Runtime computes on.")] = Device.cpu,
) -> None:
    """Builds a bento that serves a verified bundle by itself, in BentoML's store."""
    signal.signal(signal.SIGTERM, signal.default_int_handler)  # ends BentoML's process too, as Ctrl-C does
    tag = build(bundle, device)
    packed = bentoml.get(tag)
    print(f"{tag}: {packed.total_size() / 1e6:.1f} MB in {packed.path}")
    print(f"Serve it: bentoml serve {tag}    Image: bentoml containerize {tag}")


def build(folder: Path, device: Device = Device.cpu) -> str:
    """Packs a bundle and returns the bento's tag, NAME:VERSION; with CUDA the version ends in `-cuda`.

    It is in the store whole or not at all. Raises HallmarkError where the bundle does not verify, HallmarkError where
    BentoML does not take it or has one of this tag.
    """
    bundle = open_bundle(folder)
    version = bundle.version if device is Device.cpu else f"{bundle.version}-{device}"
    tag = f"{store_name(bundle.predicate)}:{version}"
    if item_folder(BENTOS, tag).exists():
        raise _taken(tag)
    with private_home(tag) as home:
        _stage(home / "stage", folder, device)
        _run_bentoml(home, tag)
        try:
            move_in(home, BENTOS, tag)
        except FileExistsError:
            raise _taken(tag) from None
    return tag


def _taken(tag: str) -> HallmarkError:
    return HallmarkError(f"{tag}: already exists in BentoML's store; `bentoml delete {tag}` takes it out")


def _stage(stage: Path, bundle: Path, device: Device) -> None:
    """Lays out what bentofile.yaml includes, with this bundle in the place of out/bundle."""
    if not (ROOT / BENTOFILE).is_file():
        raise HallmarkError(f"{ROOT / BENTOFILE}: is missing; a bento is built in the repository")
    for room in ("serving", "bundle"):
        shutil.copytree(ROOT / room, stage / room, ignore=shutil.ignore_patterns("__pycache__"))
    copy_bundle(bundle, stage / "out" / "bundle")
    shutil.copy2(ROOT / "LICENSE", stage)
    options = _options(device)
    requirements = options["python"]["requirements_txt"]
    (stage / requirements).parent.mkdir()
    shutil.copy2(ROOT / requirements, stage / requirements)
    (stage / BENTOFILE).write_text(yaml.safe_dump(options, sort_keys=False), encoding="utf-8")


def _options(device: Device) -> dict[str, Any]:
    """What bentofile.yaml says, with the packages for a device."""
    options = yaml.safe_load((ROOT / BENTOFILE).read_text(encoding="utf-8"))
    if device is Device.cuda:
        options["python"]["requirements_txt"] = "deploy/cuda.txt"
        path = ":".join(CUDA_LIBRARIES).format(version=options["docker"]["python_version"])
        options["envs"].append({"name": "LD_LIBRARY_PATH", "value": path})
    return options


def _run_bentoml(home: Path, tag: str) -> None:
    """Runs `bentoml build` on what is staged in a private home."""
    name, version = tag.split(":")
    command = [sys.executable, "-m", "bentoml", "build", "--name", name, "--version", version]
    # The stage's serving/ is what is packed, so it is what BentoML must import.
    ended = subprocess.run(
        command,
        cwd=home / "stage",
        env=working_in(home),
        capture_output=True,
        encoding="utf-8",
        errors="replace",
        check=False,
    )
    if ended.returncode:
        reason = (ended.stderr.strip() or ended.stdout.strip() or "it does not say why").splitlines()[-1]
        raise HallmarkError(f"{tag}: BentoML did not build it: {reason.removeprefix('Error: ')}")


if __name__ == "__main__":
    run_command(main)
