"""`python -m serving`: verifies a bundle, tries it on this host, and only then starts BentoML."""

from __future__ import annotations

import os
import socket
import sys
import tempfile
from dataclasses import replace
from pathlib import Path
from typing import Annotated, Any

import typer

from bundle.command_line import run_command
from bundle.errors import HallmarkError
from bundle.temporaries import temporary_folder
from serving.settings import Settings, read_port, read_settings
from serving.supervisor import REFUSAL, SUPERVISOR, verify


def serve(
    bundle: Annotated[Path | None, typer.Option(help="The bundle to serve [default: out/bundle].")] = None,
    releases: Annotated[Path | None, typer.Option(help="Folder of other versions [default: releases].")] = None,
    host: Annotated[str, typer.Option(envvar="HALLMARK_HOST", help="Address to listen on.")] = "127.0.0.1",
    port: Annotated[int | None, typer.Option(min=1, max=65535, help="Port to listen on [default: 3000].")] = None,
    threads: Annotated[
        int | None, typer.Option(help="CPU threads of the model [default: as many as it may use].")
    ] = None,
    device: Annotated[str | None, typer.Option(help="auto, cpu or cuda [default: auto].")] = None,
) -> None:
    """Serves a verified bundle over HTTP. Each option can be given as HALLMARK_ and its name in the environment."""
    given: dict[str, Any] = {"bundle": bundle, "releases": releases, "threads": threads, "device": device}
    try:
        settings = replace(read_settings(), **{name: value for name, value in given.items() if value is not None})
        port = port or read_port()
        address = _address(host, port)
        verify(settings)
    except HallmarkError as error:
        print(error, file=sys.stderr)
        raise typer.Exit(1) from None
    _run(settings, address, port)


def _address(host: str, port: int) -> str:
    """The IP address of a host; raises HallmarkError where nothing can listen there."""
    try:
        family, kind, protocol, _, address = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0]
        with socket.socket(family, kind, protocol) as trial:
            trial.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            trial.bind(address)
    except OSError as error:
        raise HallmarkError(f"{host}:{port}: cannot be listened on ({error.strerror}); choose another port") from None
    return str(address[0])


def _run(settings: Settings, address: str, port: int) -> None:
    """Runs BentoML with one worker until SIGTERM or Ctrl-C."""
    with temporary_folder(Path(tempfile.gettempdir()), "hallmark", hidden=False) as home:
        # A home of its own: two services would empty each other's folder of metrics in the shared one.
        os.environ.setdefault("BENTOML_HOME", str(home))
        os.environ.update(settings.environment())
        from serving.service import Hallmark  # BentoML reads the environment when it is imported

        refusal = home / "refusal.txt"
        os.environ.update({SUPERVISOR: str(os.getpid()), REFUSAL: str(refusal)})
        Hallmark.serve_http(host=address, port=port)
        if refusal.exists():
            print(refusal.read_text(encoding="utf-8"), file=sys.stderr)
            raise typer.Exit(1)


if __name__ == "__main__":
    run_command(serve)
