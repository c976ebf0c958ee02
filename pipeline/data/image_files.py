"""Which files below a folder are images, and how many are not, by reason: nothing is left out unsaid.

Links to files and to folders are followed, at every level.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from pathlib import Path, PurePath

from pipeline.data.decoding import listed
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
