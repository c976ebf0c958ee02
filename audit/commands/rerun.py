"""`hallmark rerun`: the training installation is asked to repeat a bundle's evaluation, in a process of its own."""

from __future__ import annotations

import importlib.util
import subprocess
import sys
from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer

from audit.terminal import AsJson, fail, print_json
from bundle.bundle import open_bundle
from bundle.errors import HallmarkError

#: The command that does it, and what it cannot do without, none of which an auditor's small installation has.
COMMAND = ("-m", "pipeline.rerun")
NEEDED = ("pipeline", "torch", "lightning", "onnxruntime", "pyautoattack", "pydantic", "safetensors")


class RerunDevice(StrEnum):
    """Where the attacks run; auto is CUDA where there is one."""

    AUTO = "auto"
    CPU = "cpu"
    CUDA = "cuda"


def rerun(
    bundle: Annotated[Path, typer.Argument(metavar="BUNDLE", help="The bundle's folder.")],
    sample: Annotated[int | None, typer.Option(min=1, help="So many of its images; by default all.")] = None,
    seed: Annotated[
        int | None, typer.Option(min=0, help="Draws the sample; by default from the attestation's digest.")
    ] = None,
    factory: Annotated[
        list[str] | None,
        typer.Option(metavar="MODULE:FUNCTION", help="Code that the bundle names and that may run; it is yours."),
    ] = None,
    threads: Annotated[int | None, typer.Option(min=1, max=256, help="CPU threads; by default as recorded.")] = None,
    device: Annotated[RerunDevice, typer.Option(help="Where the attacks run.")] = RerunDevice.AUTO,
    as_json: AsJson = False,
) -> None:
    """Repeat a bundle's attacks and replay from its own parameters; exit 1 where a verdict contradicts it."""
    try:
        open_bundle(bundle)
        _require_installed()
    except HallmarkError as error:
        if as_json:
            print_json({"outcome": "refused", "reason": str(error)})
            raise typer.Exit(1) from None
        fail(f"refused: {error}")
    given = {"--sample": sample, "--seed": seed, "--threads": threads, "--device": device}
    options = [f"{name}={value}" for name, value in given.items() if value is not None]
    options += [f"--factory={name}" for name in factory or []]
    raise typer.Exit(_run([*options, *(["--json"] if as_json else []), "--", str(bundle)]))


def _require_installed() -> None:
    """Raises HallmarkError with the packages that are not here."""
    if missing := [name for name in NEEDED if not _installed(name)]:
        raise HallmarkError(
            f"an evaluation is repeated by the training installation, of which {', '.join(missing)} is not here; "
            "install it beside this command: pip install '.[pipeline]'"
        )


def _installed(name: str) -> bool:
    try:
        return importlib.util.find_spec(name) is not None
    except (ImportError, ValueError):
        return False


def _run(arguments: list[str]) -> int:
    """The exit code of the command, which has this terminal. Nothing of the current folder is imported (-P)."""
    with subprocess.Popen([sys.executable, "-P", *COMMAND, *arguments]) as process:
        while True:
            try:
                code = process.wait()
                return code if code >= 0 else 128 - code
            except KeyboardInterrupt:  # Ctrl-C reaches both; how it ends, the command itself says
                continue
