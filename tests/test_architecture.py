"""The order of the house: which room may know which, no ring of imports, one name for one thing, and what a stage reads."""

from __future__ import annotations

import ast
import re
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import pytest
import yaml

from docs.draw_architecture import PICTURE, picture
from tests.imports import ROOMS, ROOT, circle, imports, modules, reached, runs

#: What a room may import beside itself.
KNOWS = {
    **{"bundle": set[str](), "audit": {"bundle"}, "serving": {"bundle"}, "pipeline": {"bundle"}},
    "hallmark": {"bundle", "audit", "pipeline"},  # the public face, which no room knows
}
#: pipeline/params is a leaf: settings know nobody who uses them.
LEAVES = {"pipeline.params": {"bundle"}}
STAGES = yaml.safe_load((ROOT / "dvc.yaml").read_text(encoding="utf-8"))["stages"]
#: Files at the top of bundle/; more of them, and nobody finds anything.
MOST_AT_THE_TOP = 20


def test_nothing_imports_in_a_ring() -> None:
    assert circle() == []


@pytest.mark.parametrize("room", ROOMS)
def test_a_room_knows_only_those_below_it(room: str) -> None:
    allowed = KNOWS[room] | {room}
    wrong = [
        (name, other)
        for name in modules()
        if _room(name) == room
        for other in imports(name)
        if _room(other) not in allowed
    ]
    assert wrong == []


@pytest.mark.parametrize("leaf", LEAVES)
def test_a_leaf_imports_nothing_above_it(leaf: str) -> None:
    inside = [name for name in modules() if name == leaf or name.startswith(f"{leaf}.")]
    assert inside
    wrong = [
        (name, other)
        for name in inside
        for other in imports(name)
        if not other.startswith(leaf) and other != "pipeline" and _room(other) not in LEAVES[leaf]
    ]
    assert wrong == []


@pytest.mark.parametrize("room", ROOMS)
def test_a_folder_of_a_room_is_above_or_below_another_never_both(room: str) -> None:
    arrows = {(_folder(a), _folder(b)) for a in modules() if _room(a) == room for b in imports(a) if _room(b) == room}
    both = {pair for pair in arrows if pair[0] < pair[1] and pair[::-1] in arrows and "" not in pair}
    assert both == set()


@pytest.mark.parametrize("room", ROOMS)
def test_no_two_modules_of_a_room_have_one_name(room: str) -> None:
    names = Counter(
        path.stem for name, path in modules().items() if _room(name) == room and not path.stem.startswith("__")
    )
    assert [name for name, count in names.items() if count > 1] == []


def test_no_two_public_classes_of_the_house_have_one_name() -> None:
    found = Counter(name for path in modules().values() for name in _classes(path))
    assert [name for name, count in found.items() if count > 1] == []


def test_the_picture_is_of_these_imports() -> None:
    assert PICTURE.read_text(encoding="utf-8") == picture(), "python -m docs.draw_architecture draws it again"


def test_an_error_has_its_own_class_where_somebody_catches_it() -> None:
    """All others are a HallmarkError and their sentence. Users may catch those that docs/ names."""
    trees = [ast.parse(path.read_text(encoding="utf-8")) for path in modules().values()]
    caught = {name for tree in trees for name in _caught(tree)}
    for page in (ROOT / "docs").glob("*.md"):
        caught |= {*re.findall(r"`(\w+Error)`", page.read_text(encoding="utf-8"))}
    made = {node.name for tree in trees for node in ast.walk(tree) if isinstance(node, ast.ClassDef) and _raised(node)}
    assert made and made - caught == set()


def test_few_files_lie_at_the_top_of_bundle() -> None:
    assert len(list((ROOT / "bundle").glob("*.py"))) <= MOST_AT_THE_TOP


@pytest.mark.parametrize("stage", STAGES)
def test_a_stage_depends_on_all_code_that_it_reaches(stage: str) -> None:
    """Of methods, all but training reads the settings alone, so that what these import counts for training."""
    through = ["pipeline.methods"] if stage in ("train", "attest") else []
    files = {modules()[name].relative_to(ROOT) for name in runs(reached(f"pipeline.{stage}", through=through))}
    named = {Path(path) for path in STAGES[stage]["deps"]}
    missing = [path.as_posix() for path in sorted(files) if not named & {path, *path.parents}]
    assert not missing, f"dvc.yaml: {stage} must depend on these too"


@pytest.mark.parametrize("stage", STAGES)
def test_a_stage_depends_on_code_that_is_there(stage: str) -> None:
    code = [path for path in STAGES[stage]["deps"] if path.split("/")[0] in ROOMS]
    assert [path for path in code if not (ROOT / path).exists()] == []


def _room(module: str) -> str:
    return module.split(".")[0]


def _folder(module: str) -> str:
    """The folder in its room; "" for what lies at the room's top."""
    parts = modules()[module].relative_to(ROOT).parts
    return parts[1] if len(parts) > 2 else ""


def _classes(path: Path) -> Iterator[str]:
    for node in ast.parse(path.read_text(encoding="utf-8")).body:
        if isinstance(node, ast.ClassDef) and not node.name.startswith("_"):
            yield node.name


def _raised(node: ast.ClassDef) -> bool:
    """Whether the class is one of exceptions, by its name or its base's."""
    bases = [base.id for base in node.bases if isinstance(base, ast.Name)]
    return any(name.endswith(("Error", "Exception")) for name in bases)


def _caught(tree: ast.Module) -> Iterator[str]:
    """The names that the module catches, suppresses, or asks an exception about."""
    for node in ast.walk(tree):
        if isinstance(node, ast.ExceptHandler) and node.type:
            yield from _names(node.type)
        elif isinstance(node, ast.Call) and {*_names(node.func)} & {"isinstance", "suppress"}:
            yield from (name for argument in node.args for name in _names(argument))


def _names(node: ast.expr) -> list[str]:
    """Every name in an expression, attributes' too."""
    return [
        item.id if isinstance(item, ast.Name) else item.attr
        for item in ast.walk(node)
        if isinstance(item, ast.Name | ast.Attribute)
    ]
