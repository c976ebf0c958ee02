"""Which modules of this house import which, read from their source: for the tests of its order, and for its picture."""

from __future__ import annotations

import ast
from collections.abc import Collection
from functools import cache
from graphlib import CycleError, TopologicalSorter
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
ROOMS = ("bundle", "audit", "serving", "pipeline", "hallmark")
#: Packages whose modules are imported by a name that somebody gives.
BY_NAME = {"pipeline.methods"}


@cache
def modules() -> dict[str, Path]:
    """Every module of the rooms by its dotted name; a package is its __init__.py."""
    files = [path.relative_to(ROOT) for room in ROOMS for path in sorted((ROOT / room).rglob("*.py"))]
    return {".".join(path.with_suffix("").parts).removesuffix(".__init__"): ROOT / path for path in files}


@cache
def imports(module: str) -> frozenset[str]:
    """The modules that one imports anywhere in its source, in functions too."""
    found = set[str]()
    for node in ast.walk(ast.parse(modules()[module].read_text(encoding="utf-8"))):
        if isinstance(node, ast.ImportFrom) and node.module:
            found |= {f"{node.module}.{name.name}" for name in node.names} | {node.module}
        elif isinstance(node, ast.Import):
            found |= {name.name for name in node.names}
    return frozenset(found & modules().keys() - {module})


def reached(module: str, *, through: Collection[str] = ()) -> set[str]:
    """Every module that runs, or may run, when this one does.

    Of a package in BY_NAME all modules are reached; what these import in turn counts where `through` names the package.
    """
    found, waiting, named = set[str](), {module}, set[str]()
    while waiting:
        follow = set(waiting)
        for package in BY_NAME & waiting:
            (follow if package in through else named).update(_modules_of(package))
        found |= follow
        waiting = {other for name in follow for other in imports(name) | _packages(name)} - found
    return found | named


def runs(names: Collection[str]) -> set[str]:
    """Those of the modules that hold more than a sentence about themselves."""
    return {name for name in names if len(ast.parse(modules()[name].read_text(encoding="utf-8")).body) > 1}


def circle() -> list[str]:
    """Modules that import each other in a ring, the first as the last too; empty where there is none."""
    sorter = TopologicalSorter({name: imports(name) for name in modules()})
    try:
        sorter.prepare()
    except CycleError as error:
        return error.args[1]
    return []


def _modules_of(package: str) -> set[str]:
    return {name for name in modules() if name.startswith(f"{package}.")}


def _packages(module: str) -> set[str]:
    parts = module.split(".")
    return {".".join(parts[:end]) for end in range(1, len(parts))} & modules().keys()
