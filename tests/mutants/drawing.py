"""Mutants of a file by cosmic-ray's operators, and a random sample of them.

A place is where a family of operators can act, as the eleven that put another operator for a `+`. A sample draws places,
all with the same chance, then one of the mutants of each: twelve-fold arithmetic would crowd out everything else.
"""

from __future__ import annotations

import ast
import itertools
import random
import re
from collections import defaultdict
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import cosmic_ray.ast
import cosmic_ray.mutating
import cosmic_ray.plugins

from tests.mutants.judging import Mutant

#: The nodes that an operator looks at, by the start of its name. Those left out want to be told names of variables.
NODES = {
    "ReplaceBinaryOperator": {"operator"},
    "ReplaceComparisonOperator": {"comparison"},
    "ReplaceUnaryOperator": {"factor", "not_test"},
    "ReplaceTrueWithFalse": {"keyword"},
    "ReplaceFalseWithTrue": {"keyword"},
    "ReplaceAndWithOr": {"keyword"},
    "ReplaceOrWithAnd": {"keyword"},
    "ReplaceBreakWithContinue": {"keyword"},
    "ReplaceContinueWithBreak": {"keyword"},
    "AddNot": {"if_stmt", "while_stmt", "test", "assert_stmt"},
    "ExceptionReplacer": {"except_clause"},
    "NumberReplacer": {"number"},
    "RemoveDecorator": {"decorator"},
    "ZeroIterationForLoop": {"for_stmt"},
}
#: Whether equal objects are the same one is the interpreter's choice.
IDENTITY = {f"ReplaceComparisonOperator_{pair}" for pair in ("Eq_Is", "Is_Eq", "NotEq_IsNot", "IsNot_NotEq")}
CACHES = {"cache", "lru_cache"}
Place = tuple[int, int, str]


def sample(root: Path, files: list[str], size: int, seed: int) -> Iterator[tuple[Mutant, str]]:
    """Mutants of different places with their code, always the same ones for a seed and the same files."""
    drawn = random.Random(seed)
    sources = {file: (root / file).read_text(encoding="utf-8") for file in files}
    places = [mutants for file in files for _, mutants in sorted(of_file(file, sources[file]).items())]
    drawn.shuffle(places)
    found = (_first(drawn.sample(mutants, len(mutants)), sources) for mutants in places)
    yield from itertools.islice(filter(None, found), size)


def _first(mutants: list[Mutant], sources: dict[str, str]) -> tuple[Mutant, str] | None:
    tried = ((mutant, changed(mutant, sources[mutant.file])) for mutant in mutants)
    return next(((mutant, code) for mutant, code in tried if code), None)


def changed(mutant: Mutant, source: str) -> str | None:
    """The file with the change; None where that is no Python, or says the same."""
    operator = cosmic_ray.plugins.get_operator(f"core/{mutant.operator}")()
    code = cosmic_ray.mutating.mutate_code(source, operator, mutant.occurrence)
    try:
        return None if code is None or _same(source, code) else code
    except SyntaxError:
        return None


def of_file(file: str, source: str) -> dict[Place, list[Mutant]]:
    """Every mutant of a file by its place."""
    every = set[str]().union(*NODES.values())
    nodes = [node for node in cosmic_ray.ast.ast_nodes(cosmic_ray.ast.get_ast(source)) if node.type in every]
    left_out = list(_left_out(source))
    found: dict[Place, list[Mutant]] = defaultdict(list)
    for name in sorted(cosmic_ray.plugins.operator_names()):
        short = name.removeprefix("core/")
        family = short.split("_")[0]
        types = set[str]() if short in IDENTITY else NODES.get(family, set())
        for occurrence, spot in enumerate(_spots(name, nodes, types)):
            if spot and not any(start <= spot < end for start, end in left_out):
                found[*spot, family].append(Mutant(file, *spot, short, occurrence))
    return found


def _spots(name: str, nodes: list[Any], types: set[str]) -> Iterator[tuple[int, int] | None]:
    """Where an operator can act, in the order that cosmic-ray counts; None for an assertion and the `*` of a signature."""
    if types:
        operator = cosmic_ray.plugins.get_operator(name)()
        for node in nodes:
            if node.type in types:
                for start, _ in operator.mutation_positions(node):
                    yield None if node.type == "assert_stmt" or node.parent.type == "parameters" else start


def _left_out(source: str) -> Iterator[tuple[tuple[int, int], tuple[int, int]]]:
    """From where to where nothing is changed: what the type checker reads, main blocks, caches, and frozen classes.

    A result is the same without its cache; who writes to a frozen object fails the type checker.
    """
    lines = source.splitlines()

    def place(row: int, column: int) -> tuple[int, int]:
        return row, len(lines[row - 1].encode()[:column].decode())  # ast counts bytes

    for node in ast.walk(ast.parse(source)):
        for part in _unread(node):
            row, column = place(part.lineno, part.col_offset)
            yield (row, column - 1), place(part.end_lineno, part.end_col_offset)  # a decorator begins with its sign


def _unread(node: ast.AST) -> list[Any]:
    match node:
        case ast.arg(annotation=ast.expr() as part) | ast.AnnAssign(annotation=part):
            return [part]
        case ast.If(test=ast.Name("TYPE_CHECKING") | ast.Compare(left=ast.Name("__name__"))):
            return [node]
        case ast.Assign(targets=[ast.Name(name)]) if re.fullmatch("[A-Z]([a-z][A-Za-z]*)?", name):
            return [node]
        case ast.Call(func=ast.Name("isinstance" | "issubclass"), args=[_, part]):
            return [part]
        case ast.ClassDef() | ast.FunctionDef():
            returns = [node.returns] if isinstance(node, ast.FunctionDef) and node.returns else []
            return [*returns, *(part for decorator in node.decorator_list for part in _unread_decorator(decorator))]
    return []


def _unread_decorator(decorator: ast.expr) -> list[Any]:
    called = decorator.func if isinstance(decorator, ast.Call) else decorator
    if isinstance(called, ast.Name) and called.id in CACHES:
        return [decorator]
    keywords = decorator.keywords if isinstance(decorator, ast.Call) else []
    return [keyword for keyword in keywords if keyword.arg in {"frozen", "slots"}]


def _same(source: str, changed: str) -> bool:
    return ast.dump(ast.parse(source)) == ast.dump(ast.parse(changed))
