"""Following what a network does, whose code is its author's: without torch's own logs, and with the author's line.

A place is the innermost line that is neither torch's, Python's nor this project's: ` at net.py, line 7: return x.numpy()`.
It is empty where there is none.
"""

from __future__ import annotations

import contextlib
import inspect
import io
import linecache
import logging
import re
import sysconfig
import traceback
import warnings
from collections.abc import Generator, Iterable
from pathlib import Path

import torch

Frame = tuple[str, int]  # file and line

#: Code that networks call, and that calls them.
LIBRARIES = tuple(
    str(folder) + "/"
    for folder in (Path(torch.__file__).parent, Path(__file__).parents[1], Path(sysconfig.get_path("stdlib")))
)
INSTALLED = ("site-packages", "dist-packages")


@contextlib.contextmanager
def quietly() -> Generator[None]:
    """Nothing is printed, warned or logged: what torch says there is for those who work on torch, and pages long."""
    before = logging.root.manager.disable
    logging.disable(logging.CRITICAL)
    try:
        nowhere = io.StringIO()
        with warnings.catch_warnings(), contextlib.redirect_stdout(nowhere), contextlib.redirect_stderr(nowhere):
            warnings.simplefilter("ignore")
            yield
    finally:
        logging.disable(before)


def place_of_error(error: BaseException) -> str:
    """The place where an error, or one that led to it, was raised."""
    cause: BaseException | None = error
    while cause is not None:
        if found := _place((frame.filename, frame.lineno or 0) for frame in traceback.extract_tb(cause.__traceback__)):
            return found
        cause = cause.__cause__ or cause.__context__
    return ""


def reason_of(error: BaseException) -> str:
    """Why a network cannot be traced: the first line of the error that was raised first, in place of torch's pages."""
    while error.__cause__ is not None:
        error = error.__cause__
    if "DataDependent" in type(error).__name__:
        return "it decides by the values of an image"
    first = next((line.strip() for line in str(error).splitlines() if line.strip()), "no reason given")
    return f"{type(error).__name__}: {first[:200]}"


def place_of_operator(program: torch.export.ExportedProgram, name: str) -> str:
    """The place of the first call of an operator, by its name (aten._linalg_svd)."""
    nodes = (node for node in program.graph.nodes if str(node.target).startswith(name))
    return next((place for node in nodes if (place := place_of_trace(node.meta.get("stack_trace")))), "")


def place_of_call() -> str:
    """The place of what is being called now."""
    frames, frame = list[Frame](), inspect.currentframe()
    while frame is not None:
        frames.insert(0, (frame.f_code.co_filename, frame.f_lineno))
        frame = frame.f_back
    return _place(frames)


def place_of_trace(trace: str | None) -> str:
    """The place in the text of a stack trace."""
    found = re.findall(r'File "([^"]+)", line (\d+)', trace or "")
    return _place((file, int(line)) for file, line in found)


def _place(frames: Iterable[Frame]) -> str:
    own = [(file, line) for file, line in frames if _own(file)]
    if not own:
        return ""
    file, line = own[-1]
    said = linecache.getline(file, line).strip()
    return f" at {_name(file)}, line {line}" + (f": {said}" if said else "")


def _own(file: str) -> bool:
    """Installed packages lie below the standard library in some environments, and networks come in them too."""
    installed = any(part in INSTALLED for part in Path(file).parts)
    return not file.startswith("<") and not any(
        file.startswith(folder) for folder in (LIBRARIES[:2] if installed else LIBRARIES)
    )


def _name(file: str) -> str:
    """Relative to the current folder; of files elsewhere the last two parts, which tell no machine's folders."""
    path = Path(file)
    return str(path.relative_to(Path.cwd())) if path.is_relative_to(Path.cwd()) else "/".join(path.parts[-2:])
