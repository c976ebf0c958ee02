"""`hallmark live` and `hallmark rerun`: what is claimed, measured once more.

`live` asks a running service and judges its answers; `rerun` repeats a bundle's evaluation with the training
installation, in a process of its own.
"""

from __future__ import annotations

import importlib.util
import secrets
import subprocess
import sys
from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer

from audit.client import Client
from audit.live.inspection import Plan, inspect
from audit.live.printing import print_report
from audit.live.report import Report
from audit.live.service import WAYS, Way, fetch_bundle, fetch_verified
from audit.terminal import AsJson, TokenFile, Trust, fail, print_json, read_token, say
from bundle.bundle import open_bundle
from bundle.command_line import DISTRIBUTION
from bundle.errors import HallmarkError

#: Seconds that an inspection may take.
WITHIN = 3600.0


class Ways(StrEnum):
    """How images are sent."""

    PNG = "png"
    NPY = "npy"
    BOTH = "both"

    @property
    def each(self) -> tuple[Way, ...]:
        return tuple(way for way in WAYS if self in (way, "both"))


def live(
    url: Annotated[str, typer.Argument(metavar="URL", help="The service's address, http:// or https://.")],
    trust: Trust = None,
    data: Annotated[Path | None, typer.Option(help="A folder like out/data: images outside the evidence too.")] = None,
    ways: Annotated[Ways, typer.Option("--as", help="PNG files, one per request; .npy arrays; or both.")] = Ways.BOTH,
    rows: Annotated[
        int | None, typer.Option(min=1, help="At most so many images of each kind. [default: as the evidence has]")
    ] = None,
    square: Annotated[int, typer.Option(metavar="QUERIES", min=0, help="Attack with so many queries per image.")] = 0,
    digest: Annotated[str | None, typer.Option(metavar="SHA256", help="The model.onnx that must answer.")] = None,
    token_file: TokenFile = None,
    within: Annotated[
        float, typer.Option(metavar="SECONDS", min=1, help="Give up where everything takes longer than this.")
    ] = WITHIN,
    seed: Annotated[int | None, typer.Option(min=0, help="Of all that is drawn. [default: drawn, and told]")] = None,
    everything: Annotated[
        bool, typer.Option("--all", help="Each set of images by itself, and every accuracy.")
    ] = False,
    as_json: AsJson = False,
) -> None:
    """Audit a running service from outside: its evidence, its answers to it, and its answers to images nobody has seen."""
    plan = Plan(ways.each, rows, data, square, secrets.randbits(32) if seed is None else seed)
    try:
        report = _inspect(url, trust or [], plan, _checked(digest), token_file, within)
    except HallmarkError as error:
        if as_json:
            print_json({"outcome": "refused", "reason": str(error), "url": url})
            raise typer.Exit(1) from None
        fail(f"refused: {error}")
    if as_json:
        print_json(report.describe())
    else:
        print_report(report, everything)
    if report.contradicted:
        raise typer.Exit(1)


def _inspect(
    url: str, trusted: list[Path], plan: Plan, digest: str | None, token_file: Path | None, within: float
) -> Report:
    others: list[str] = []
    with Client(url, read_token(token_file), within=within, digest=digest, on_mismatch=others.append) as client:
        return inspect(client, fetch_verified(client, trusted, plan.data), plan, others)


def _checked(digest: str | None) -> str | None:
    if digest is not None and (len(digest) != 64 or set(digest) - set("0123456789abcdef")):
        raise HallmarkError(f"--digest {digest}: must be the whole SHA-256, 64 digits in lower case")
    return digest


def fetch(
    url: Annotated[str, typer.Argument(metavar="URL", help="The service's address, http:// or https://.")],
    folder: Annotated[Path, typer.Argument(metavar="DIR", help="A new folder for the bundle.")],
    trust: Trust = None,
    token_file: TokenFile = None,
    as_json: AsJson = False,
) -> None:
    """Fetch the bundle that a service serves into a folder: verified first, and there whole or not at all."""
    with Client(url, read_token(token_file), within=WITHIN) as client:
        found = fetch_bundle(client, folder, trust or [])
    if as_json:
        state = {"signature": found.signature.state, "keyId": found.signature.key_id}
        print_json({"folder": folder.as_posix(), "url": url, "version": found.bundle.version, **state})
        return
    say(f"Version {found.bundle.version}: {folder}; {found.signature.sentence()}")
    say(f"Next: hallmark show {folder}")


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
            f"install it beside this command: pip install '{DISTRIBUTION}[pipeline]'"
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
