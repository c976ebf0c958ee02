"""Image files below a folder: which they are, how they are laid out, and how they become arrays, one rule for every source.

Nothing is left out unsaid: files that are no images are counted by reason. Links to files and to folders are followed,
at every level. Layouts: folders of splits with folders of classes in them, or those of classes alone.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path, PurePath
from typing import Any

import numpy as np
from numpy.typing import NDArray
from rich.console import Console
from rich.progress import track

from bundle.errors import escaped
from bundle.images.container import ImageFileError
from bundle.images.decoding import decode, read_container, resize_and_crop
from bundle.process import available_cpus
from pipeline.data.split import DataError

SUFFIXES = {
    *(".png", ".apng", ".jpg", ".jpeg", ".jpe", ".jfif", ".mpo", ".webp", ".bmp", ".dib", ".gif", ".tif", ".tiff"),
    *(".ppm", ".pgm", ".pbm", ".pnm"),
}
_SUFFIX = re.compile(r"\.[a-z][a-z0-9]{0,9}")
#: Folders in which systems and network storage keep thumbnails, deleted files and resource forks, in lower case.
SYSTEM_FOLDERS = {
    *("@eadir", "@tmp", "@recycle", "@recently-snapshot", "#recycle", "#snapshot"),
    *("$recycle.bin", "system volume information", "__macosx", "lost+found"),
}


def all_files(root: Path) -> list[PurePath]:
    """Every file below `root`, relative to it, in the order of the names.

    Raises DataError for links that lead nowhere, for a folder that cannot be read, and for one that holds itself.
    """
    files = list(_walk(root, PurePath(), ()))
    lost = [name.as_posix() for name in files if is_visible(name) and not (root / name).exists()]
    if lost:
        raise DataError(
            f"{root}: cannot follow {listed(lost, 'link')}; pull the data (dvc pull, git annex get), or remove what is "
            "named here"
        )
    return files


def reason_left_out(root: Path, name: PurePath) -> str | None:
    """Why a file below `root` is no image to be read; None where it is one by its name."""
    if any(part.startswith(".") for part in name.parts):
        return "hidden"
    if not is_visible(name):
        return "thumbnails and other files of the system"
    if not (root / name).is_file():
        return "neither file nor folder"
    suffix = name.suffix.lower()
    if suffix in SUFFIXES:
        return None
    return f"suffix {suffix}" if _SUFFIX.fullmatch(suffix) else "no suffix of a file type"


def folders(root: Path) -> list[str]:
    """The folders in a folder, in the order of their names, without hidden ones and the system's."""
    return sorted(entry.name for entry in root.iterdir() if is_visible(PurePath(entry.name)) and entry.is_dir())


def is_visible(name: PurePath) -> bool:
    """Whether nothing in a relative path is hidden or the system's own."""
    return not any(part.startswith(".") or part.lower() in SYSTEM_FOLDERS for part in name.parts)


def linked_folders(root: Path, files: Iterable[PurePath]) -> list[str]:
    """The folders on the way from `root` to these files that are links, in the order of their names."""
    on_the_way = {folder for file in files for folder in file.parents if folder.parts}
    return sorted(folder.as_posix() for folder in on_the_way if (root / folder).is_symlink())


def _walk(root: Path, below: PurePath, above: tuple[Path, ...]) -> Iterator[PurePath]:
    """The files below a folder; a hidden folder, or one of the system, that cannot be looked into stands for its files."""
    here = (root / below).resolve()
    try:
        if here in above:
            raise DataError(f"{root / below}: is a link to a folder that holds it; remove it")
        entries = _entries(root / below)
    except DataError:
        if is_visible(below):
            raise
        yield below
        return
    for name, is_folder in entries:
        if is_folder:
            yield from _walk(root, below / name, (*above, here))
        else:
            yield below / name


def _entries(folder: Path) -> list[tuple[str, bool]]:
    """What is in a folder, by name, and whether it is a folder itself."""
    try:
        return [(entry.name, entry.is_dir()) for entry in sorted(folder.iterdir())]
    except OSError as error:
        raise DataError(f"{folder}: cannot be read ({error.strerror}); make it readable, or remove it") from None


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


LISTED = 10
#: How a file begins that stands for one of Git LFS, and what is said of it.
LFS_START, LFS = b"version https://git-lfs", "a pointer of Git LFS: git lfs pull"
SHOW_PROGRESS_FROM = 2_000


def read_images(root: Path, names: Sequence[str], size: int, channels: int) -> NDArray[np.uint8]:
    """Decodes files in parallel into uint8 (N, size, size, channels); `names` are relative to `root`.

    Raises DataError that names the files that cannot be read (ten of them, then a count) and why.
    """
    images = np.empty((len(names), size, size, channels), dtype=np.uint8)
    unreadable: list[str] = []

    def read(index: int) -> str | None:
        content = b""
        try:
            content = (root / names[index]).read_bytes()
            images[index] = file_to_array(content, size, channels)
        except ImageFileError as error:
            return f"{names[index]} ({LFS if content.startswith(LFS_START) else error.reason})"
        except OSError as error:
            return f"{names[index]} ({_reason(error)})"
        return None

    with ThreadPoolExecutor(max_workers=min(8, available_cpus())) as pool:
        problems = track(
            pool.map(read, range(len(names))),
            description="Reading images",
            total=len(names),
            console=Console(stderr=True),
            disable=len(names) <= SHOW_PROGRESS_FROM,
        )
        unreadable.extend(problem for problem in problems if problem)
    if unreadable:
        raise DataError(f"{root}: cannot read {listed(unreadable, 'image file')}; repair or remove what is named here")
    return images


def file_to_array(content: bytes, size: int, channels: int) -> NDArray[np.uint8]:
    """One image file as uint8 (size, size, channels): decoded as the service does, then brought to this size.

    The short side is resized to `size` (bicubic, antialiased), then the centre cropped: what torchvision's Resize and
    CenterCrop give. Raises ImageFileError.
    """
    image = decode(read_container(content), channels)
    square = resize_and_crop(image, shorter_side=size, size=(size, size))
    return np.asarray(square).reshape(size, size, channels)


def resize_rule(size: int) -> dict[str, Any]:
    """What file_to_array does to an image of another size, for the manifest and the attestation's `data.resize`."""
    return {"shorterSide": size, "filter": "bicubic", "crop": "centre"}


def describe_decoding(size: int, channels: int) -> str:
    """The sentence about file_to_array that goes into the manifest."""
    colour = "greyscale" if channels == 1 else "RGB"
    return (
        f"first picture decoded with Pillow, turned as EXIF says, transparency over white, {colour} of 8 bits, "
        f"short side resized to {size} px (bicubic, antialiased), centre crop"
    )


def listed(problems: Sequence[str], noun: str) -> str:
    """How many there are, and the first ten of them."""
    more = f" and {len(problems) - LISTED} more" if len(problems) > LISTED else ""
    return f"{len(problems)} {noun}{'s'[: len(problems) > 1]}: {', '.join(map(escaped, problems[:LISTED]))}{more}"


def _reason(error: OSError) -> str:
    return "there is no such file" if isinstance(error, FileNotFoundError) else error.strerror or type(error).__name__
