"""BentoML's home. What is put into its stores is made in a home of its own beside them, and appears there whole or not.

BentoML itself fills a name in the store file by file: a kill in between would leave a part that is taken for the item.
"""

from __future__ import annotations

import os
from collections.abc import Generator
from contextlib import contextmanager
from pathlib import Path

from bundle.digests import move_folder, sync, write_whole
from bundle.temporaries import temporary_folder

#: BentoML's stores of models and of bentos: folders NAME/VERSION, and the file NAME/latest.
MODELS, BENTOS = "models", "bentos"


def bento_home() -> Path:
    """Where BentoML keeps its stores; the folder need not be there."""
    home = os.environ.get("BENTOML_HOME") or str(Path.home() / "bentoml")
    return Path(os.path.expandvars(home)).expanduser()


def item_folder(store: str, tag: str, home: Path | None = None) -> Path:
    """The folder of the item NAME:VERSION in a store, of BentoML's home by default."""
    return (home or bento_home()) / store / tag.replace(":", "/")


@contextmanager
def private_home(tag: str) -> Generator[Path]:
    """An empty home on the same disk, to make an item in; gone at the end, and after a kill with the next one."""
    place = bento_home() / "tmp"
    place.mkdir(parents=True, exist_ok=True)
    with temporary_folder(place, tag.replace(":", "-"), hidden=False) as home:  # BentoML packs no hidden files
        yield home


def working_in(home: Path) -> dict[str, str]:
    """The environment of a process that works in a private home: nothing of it is left elsewhere."""
    inherited = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
    place = os.path.abspath(home)
    return inherited | {"BENTOML_HOME": place, "TMPDIR": place, "PYTHONIOENCODING": "utf-8"}


def move_in(home: Path, store: str, tag: str) -> Path:
    """Moves an item from a private home into BentoML's; raises FileExistsError where one of this tag is there."""
    made, target = item_folder(store, tag, home), item_folder(store, tag)
    # First, for BentoML mends a `latest` that names what is not there.
    write_whole(target.parent / "latest", target.name.encode())
    sync(made)
    move_folder(made, target)
    sync(target.parent)
    return target
