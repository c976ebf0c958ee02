"""Signing, merging, releasing and packing, killed at random instants: the old is there whole, or the new is."""

from __future__ import annotations

import itertools
import random
import shutil
import subprocess
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from audit.verification import verify
from bundle.bundle import open_bundle
from bundle.errors import HallmarkError
from bundle.signatures import generate_key
from tests.chaos.commands import ROOT, SIGNALS, Command, Fault
from tests.chaos.folders import copy, digests, names, require_kept, require_nothing_left
from tests.chaos.table import Row

#: `hallmark` with its arguments.
HALLMARK = ("-c", "from audit.cli import main; main()")
#: A killed one is told by the repeated command that the new is there already.
THERE = ("already exists", "is there already", "is a git tag already")


@dataclass(frozen=True)
class Writer:
    """A command that writes: its arguments in a folder, and whether the new is there, which raises where it is not whole."""

    title: str
    arguments: Sequence[str]
    made: Callable[[Path], bool]
    #: The folder that it runs in; None for the one that is written to.
    at: Path | None = None

    def command(self, folder: Path) -> Command:
        arguments = [part.format(folder=folder) for part in self.arguments]
        return Command(arguments, self.at or folder, home=folder / "home")


def prepared(folder: Path, bundle: Path) -> Path:
    """A repository whose pipeline wrote out/bundle and whose HEAD holds its attestation; a copy, a key, a policy."""
    for place in (folder / "out" / "bundle", folder / "again", folder / "own" / "bundle"):
        shutil.copytree(bundle, place)
    generate_key(folder / "keys")
    (folder / "dvc.yaml").write_text("stages: {}\n")
    (folder / "policy.yaml").write_text("tier: quick\n")
    git = ["git", "-c", "user.name=chaos", "-c", "user.email=chaos@example.org"]
    for command in (["init", "-q"], ["add", "out/bundle/attestation.json"], ["commit", "-qm", "first"]):
        subprocess.run([*git, *command], cwd=folder, check=True)
    return folder


def signed_in_place(folder: Path) -> bool:
    return open_bundle(folder / "own" / "bundle").envelope is not None


def merged(folder: Path) -> bool:
    return (folder / "merged").exists() and bool(open_bundle(folder / "merged").predicate["merged"])


def released(folder: Path) -> bool:
    """By its git tag, which comes last. The signed copy and the stored one are whole where they are, and are when it is."""
    tags = subprocess.run(["git", "tag"], cwd=folder, capture_output=True, text=True, check=True).stdout.split()
    copies = [*(folder / "releases").glob("[!.]*"), *(folder / "home").glob("bentoml/models/*/*/bundle")]
    for place in copies:
        verify(place, [folder / "keys" / "key.pub"])
    if tags and len(copies) != 2:
        raise Fault("tagged without being signed and stored")
    return tags == ["v1"]


def packed(folder: Path) -> bool:
    bentos = [path for path in (folder / "home").glob("bentoml/bentos/*/*") if path.is_dir()]
    for bento in bentos:
        open_bundle(bento / "src" / "out" / "bundle")
        if missing := {"bento.yaml", "src/serving/packed.py", "env/docker/Dockerfile"} - names(bento):
            raise Fault(f"a bento without {sorted(missing)}")
    return bool(bentos)


SIGN = Writer("sign", (*HALLMARK, "sign", "own/bundle", "--key", "keys/key.pem"), signed_in_place)
MERGE = Writer("merge", (*HALLMARK, "merge", "out/bundle", "again", "-o", "merged"), merged)
RELEASE_OPTIONS = ("--tag", "v1", "--policy", "policy.yaml", "--key", "keys/key.pem")
RELEASE = Writer("release", (*HALLMARK, "release", "out/bundle", *RELEASE_OPTIONS), released)
PACK = Writer("pack (`make bento`)", ("serving.bento", "{folder}/out/bundle"), packed, ROOT)
WRITERS = (SIGN, MERGE, RELEASE, PACK)


def killed(writer: Writer, start: Path, kills: int, draw: random.Random, row: Row) -> None:
    """Kills the command `kills` times, each time in a fresh folder, and repeats it.

    An instant is drawn from the last 70 % of the time that an undisturbed one takes: before, Python imports.
    """
    calm = copy(start, start.with_name(f"{start.name} calm"))
    seconds, ways, old = writer.command(calm).run().seconds, itertools.cycle(SIGNALS), 0
    expected = names(calm)
    for _ in range(kills):
        folder = copy(start, start.with_name(f"{start.name} disturbed"))
        before = {name: digest for name, digest in digests(folder).items() if not name.startswith(".git/")}
        running, way = writer.command(folder).start(), next(ways)
        row.disturbed += running.end_after(draw.uniform(0.3, 1) * seconds, way)
        running.wait()
        require_kept(folder, before)
        old += not _whole(writer, folder, way)
        _repeat(writer, folder)
        row.went_on += 1
        require_nothing_left(names(folder), expected)
    row.result = f"the old was there {old} times, the new {kills - old} times, nothing left behind"


def _whole(writer: Writer, folder: Path, way: str) -> bool:
    try:
        return writer.made(folder)
    except (HallmarkError, OSError) as error:
        raise Fault(f"{writer.title}: after {way} something half-made is there: {error}") from None


def _repeat(writer: Writer, folder: Path) -> None:
    there = _whole(writer, folder, "a kill")
    ended = writer.command(folder).run(None)
    if ended.code and not (there and any(word in ended.said for word in THERE)):
        raise Fault(f"{writer.title}: repeated after a kill it ends with {ended.code}: {ended.said[-3000:]}")
    if not _whole(writer, folder, "being repeated"):
        raise Fault(f"{writer.title}: repeated after a kill it made nothing")
