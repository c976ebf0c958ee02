"""How a folder of images is laid out: folders of splits with folders of classes in them, or those of classes alone."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from pathlib import Path

from pipeline.data.image_files import folders
from pipeline.data.split import DataError

#: What people call the folders of splits, in lower case.
SPLITS = {
    "train": ("train", "training"),
    "validation": ("val", "valid", "validation"),
    "test": ("test", "testing"),
}
_NAMES = {name for names in SPLITS.values() for name in names}


@dataclass(frozen=True)
class Layout:
    """`root` holds the folders; `splits` are theirs by split, empty where `root` holds the classes itself."""

    root: Path
    splits: dict[str, str]
    classes: list[str]


def read_layout(path: Path, test_folder: str | None) -> Layout:
    """Understands train, test and val in any case, classes alone, and either in folders around them.

    `test_folder` names the folder of the test images where it is not called test. Raises DataError, which says what was
    seen, where there is no test, for different classes, fewer than two, and for "classes" that hold the same folders.
    """
    root = _unwrapped(path)
    splits = _splits(root, test_folder)
    if not splits:
        return Layout(root, {}, _classes(root))
    classes = {name: _classes(root / name) for name in splits.values()}
    (first, wanted), *others = classes.items()
    for name, found in others:
        if different := sorted(set(wanted) ^ set(found)):
            raise DataError(
                f"{root}: {first} and {name} must have the same classes; only one has {', '.join(different)}"
            )
    return Layout(root, splits, wanted)


def _unwrapped(root: Path) -> Path:
    """The folder that holds splits or several classes, where those around it hold one folder each."""
    seen = folders(root)
    if len(seen) != 1 or seen[0].lower() in _NAMES:
        return root
    inner = _unwrapped(root / seen[0])
    held = folders(inner)
    return inner if len(held) > 1 or {name.lower() for name in held} & _NAMES else root


def _splits(root: Path, test_folder: str | None) -> dict[str, str]:
    seen = folders(root)
    found = {split: _one_of(root, seen, names) for split, names in SPLITS.items()}
    if test_folder is not None:
        if test_folder not in seen:
            raise DataError(
                f"data.test_folder: must be a folder in {root}, got {test_folder!r}; there are {_said(seen)}"
            )
        found = {split: name for split, name in found.items() if name != test_folder} | {"test": test_folder}
    splits = {split: name for split, name in found.items() if name}
    if splits and "test" not in splits:
        raise DataError(_without_test(root, splits))
    return splits


def _one_of(root: Path, seen: list[str], names: tuple[str, ...]) -> str | None:
    matching = [name for name in seen if name.lower() in names]
    if len(matching) > 1:
        raise DataError(f"{root}: has {' and '.join(matching)}, which are the same split; keep one of them")
    return matching[0] if matching else None


def _without_test(root: Path, splits: dict[str, str]) -> str:
    said = f"{root}: has {_said(list(splits.values()))} and no test; give both train and test"
    if "train" in splits and (validation := splits.get("validation")):
        return f"{said}, or set data.test_folder: {validation} to measure on {validation}"
    return f"{said}, or one folder a class (and none called {_said(list(splits.values()))})"


def _classes(root: Path) -> list[str]:
    classes = folders(root)
    if len(classes) < 2:
        raise DataError(f"{root}: must hold a folder for each of two or more classes, got {_said(classes)}")
    inside = Counter(name for each in classes for name in folders(root / each))
    same = sorted(name for name, times in inside.items() if times > 1)
    if len(same) > 1 or any(name.lower() in _NAMES for name in same):
        holders = [each for each in classes if set(same) & set(folders(root / each))]
        raise DataError(
            f"{root}: {_said(holders)} hold the same folders, {_said(same)}, and would become the classes; lay the images "
            "out as train/CLASS/… and test/CLASS/…, or CLASS/…"
        )
    return classes


def _said(names: list[str], most: int = 10) -> str:
    more = f" and {len(names) - most} more" if len(names) > most else ""
    return ", ".join(names[:most]) + more if names else "none"
