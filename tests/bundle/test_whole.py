"""Files and folders that are whole or absent: on the disk, exclusive where asked, and with nothing left in a bundle."""

from __future__ import annotations

import errno
import os
import signal
import stat
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from threading import Barrier
from typing import Any

import pytest

from audit.private.withholding import read_secret
from audit.releasing import sign_bundle
from bundle import digests, temporaries
from bundle.assembly import assemble
from bundle.bundle import open_bundle
from bundle.digests import whole_folder, write_whole
from bundle.errors import HallmarkError
from bundle.layout import ENVELOPE
from bundle.signatures import SignatureError, generate_key, key_id, read_private_key, read_public_key
from tests.bundles import make_bundle

ROOT = Path(__file__).parents[2]
AT_ONCE, ROUNDS = 8, 15
#: Signs a bundle and is killed the moment its temporary file is complete.
KILLED = """
import os, signal, sys
from pathlib import Path
from audit.releasing import sign_bundle
from bundle import digests, temporaries

digests.sync = lambda path: os.kill(os.getpid(), signal.SIGKILL)
sign_bundle(Path(sys.argv[1]), Path(sys.argv[2]))
"""


def at_once(work: Any) -> list[Any]:
    """What `work` gave, or the error that it raised, in as many threads as race here."""
    barrier = Barrier(AT_ONCE)

    def one(_: int) -> Any:
        barrier.wait()
        try:
            return work()
        except Exception as error:
            return error

    with ThreadPoolExecutor(AT_ONCE) as pool:
        return list(pool.map(one, range(AT_ONCE)))


def no_links(*_: object, **__: object) -> None:
    raise OSError(errno.EPERM, "Operation not permitted")


@pytest.fixture(params=["with hard links", "without hard links"])
def links(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """A memory stick's file system knows no hard links."""
    if request.param == "without hard links":
        monkeypatch.setattr(os, "link", no_links)


@pytest.fixture
def bundle(tmp_path: Path) -> Path:
    return make_bundle(tmp_path / "home" / "bundle", rows=12, eps=(32,), tier="quick")


@pytest.mark.usefixtures("links")
def test_of_keys_that_are_made_at_once_one_is_there_and_whole(tmp_path: Path) -> None:
    for number in range(ROUNDS):
        folder = tmp_path / str(number)
        found = at_once(lambda folder=folder: generate_key(folder))
        (made,) = (item for item in found if isinstance(item, str))
        assert all(isinstance(item, SignatureError) for item in found if item != made)
        assert key_id(read_public_key(folder / "key.pub")) == made
        assert key_id(read_private_key(folder / "key.pem").public_key()) == made
        assert sorted(os.listdir(folder)) == ["key.pem", "key.pub"]
        assert stat.S_IMODE((folder / "key.pem").stat().st_mode) == 0o600


@pytest.mark.usefixtures("links")
def test_of_secrets_that_are_made_at_once_nobody_gets_another_than_the_one_that_stays(tmp_path: Path) -> None:
    """Without hard links one may come upon the name before its content, and is refused."""
    for number in range(ROUNDS):
        path = tmp_path / str(number)
        found = at_once(lambda path=path: read_secret(path))
        refused = [item for item in found if isinstance(item, HallmarkError)]
        assert {*found} - {*refused} == {read_secret(path)}
        assert os.link is no_links or not refused
        assert all("random hexadecimal digits" in str(item) for item in refused)


@pytest.mark.usefixtures("links")
def test_a_new_file_never_takes_a_name_that_is_there(tmp_path: Path) -> None:
    (tmp_path / "link").symlink_to("nowhere")
    (tmp_path / "file").write_bytes(b"old")
    for name in ("file", "link"):
        with pytest.raises(FileExistsError):
            write_whole(tmp_path / name, b"new", new=True)
    assert (tmp_path / "file").read_bytes() == b"old"
    assert sorted(os.listdir(tmp_path)) == ["file", "link"]


def test_a_public_key_that_is_there_keeps_the_private_one_from_being_made(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It appears after the look and before the writing."""
    (tmp_path / "key.pub").write_bytes(b"somebody's")
    monkeypatch.setattr(os.path, "lexists", lambda _: False)
    with pytest.raises(SignatureError, match=r"key\.pub: is there already and is not overwritten"):
        generate_key(tmp_path)
    assert os.listdir(tmp_path) == ["key.pub"]


def test_a_killed_signing_leaves_the_bundle_as_it_was(bundle: Path, tmp_path: Path) -> None:
    generate_key(tmp_path / "keys")
    command = [sys.executable, "-c", KILLED, str(bundle), str(tmp_path / "keys" / "key.pem")]
    done = subprocess.run(command, cwd=ROOT, check=False)
    assert done.returncode == -signal.SIGKILL
    assert open_bundle(bundle).envelope is None
    assert sign_bundle(bundle, tmp_path / "keys" / "key.pem").written
    assert open_bundle(bundle).envelope is not None


def test_signers_at_once_never_replace_one_anothers_signature(bundle: Path, tmp_path: Path) -> None:
    names = [generate_key(tmp_path / str(number)) for number in range(AT_ONCE)]
    keys = iter([tmp_path / str(number) / "key.pem" for number in range(AT_ONCE)])
    found = at_once(lambda: sign_bundle(bundle, next(keys)))
    (made,) = (item for item in found if not isinstance(item, Exception))
    for other in (item for item in found if item is not made):
        assert isinstance(other, HallmarkError) and "another signature is there" in str(other)
    assert made.key_id in names and open_bundle(bundle).envelope == (bundle / ENVELOPE).read_bytes()


def test_a_bundle_that_was_left_half_way_is_made_again_in_its_folder(
    bundle: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As a killed attest leaves it, at each of its files: what a kill leaves is as if nothing were cleaned up."""
    made = open_bundle(bundle)
    parts: dict[str, Any] = {"model": made.model, "weights": made.weights, "outcomes": made.outcomes}
    parts |= {"images": made.images, "predicate": made.predicate}
    files = sorted(path.name for path in bundle.iterdir())
    for number in range(len(files)):
        with monkeypatch.context() as patch:
            left = iter(range(2 * number))  # a file is synced, and then its folder
            patch.setattr(digests, "sync", lambda _, left=left: next(left))
            patch.setattr(Path, "unlink", lambda *_, **__: None)
            with pytest.raises(StopIteration):
                assemble(bundle, **parts)
    assert len(os.listdir(bundle.parent)) > 1
    assemble(bundle, **parts)
    assert sorted(path.name for path in bundle.iterdir()) == files
    assert open_bundle(bundle).statement_bytes == made.statement_bytes


@pytest.mark.parametrize("new", [False, True])
def test_a_folder_aside_may_be_of_another_mount_of_the_same_disk(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, new: bool
) -> None:
    """Containers mount folders of one disk side by side; a name moves from none to another."""

    def within(move: Any) -> Any:
        def moved(source: Path, target: Path) -> None:
            if Path(source).parent != Path(target).parent:
                raise OSError(errno.EXDEV, "Invalid cross-device link")
            move(source, target)

        return moved

    monkeypatch.setattr(os, "link", within(os.link))
    monkeypatch.setattr(os, "replace", within(os.replace))
    write_whole(tmp_path / "mount" / "file", b"content", new=new, aside=tmp_path)
    assert (tmp_path / "mount" / "file").read_bytes() == b"content"
    assert (os.listdir(tmp_path), os.listdir(tmp_path / "mount")) == (["mount"], ["file"])


@pytest.mark.parametrize("reason", ["no folder", "not writable", "another disk"])
def test_without_room_aside_the_temporary_file_lies_beside(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, reason: str
) -> None:
    aside, seen = tmp_path / "aside", list[Path]()
    if reason != "no folder":
        aside.mkdir()
    if reason == "another disk":
        aside = Path("/proc/self")
    original = temporaries.tempfile.mkstemp

    def mkstemp(**options: Any) -> tuple[int, str]:
        if options["dir"] == aside:
            raise PermissionError(errno.EACCES, "Permission denied")
        return original(**options)

    monkeypatch.setattr(temporaries.tempfile, "mkstemp", mkstemp)

    def content(path: Path) -> None:
        seen.append(path.parent)
        path.write_bytes(b"content")

    write_whole(tmp_path / "folder" / "file", content, aside=aside)
    assert (seen, (tmp_path / "folder" / "file").read_bytes()) == ([tmp_path / "folder"], b"content")


@pytest.mark.parametrize("new", [False, True])
def test_content_is_on_the_disk_before_the_name_and_the_name_before_it_returns(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, new: bool
) -> None:
    """Without the first, a power cut leaves an empty file under the new name."""
    path, seen = tmp_path / "file", list[str]()
    original = os.fsync

    def fsync(opened: int) -> None:
        kind = "folder" if stat.S_ISDIR(os.fstat(opened).st_mode) else "file"
        seen.append(f"{kind}, {os.fstat(opened).st_size if kind == 'file' else path.exists()}")
        original(opened)

    monkeypatch.setattr(os, "fsync", fsync)
    write_whole(path, b"seven b", new=new)
    assert seen == ["file, 7", "folder, True"]


def test_a_folder_takes_its_name_on_the_disk(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    seen = list[tuple[str, bool]]()
    monkeypatch.setattr(digests, "sync", lambda path: seen.append((path.name, (tmp_path / "made").exists())))
    with whole_folder(tmp_path / "made") as folder:
        pass
    assert seen == [(folder.name, False), (tmp_path.name, True)]


def test_a_disk_that_fails_is_told_of_and_a_share_that_cannot_sync_is_not(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def failing(number: int) -> Any:
        def fsync(_: int) -> None:
            raise OSError(number, os.strerror(number))

        return fsync

    monkeypatch.setattr(os, "fsync", failing(errno.EIO))
    with pytest.raises(OSError, match="Input/output error"):
        write_whole(tmp_path / "file", b"content")
    assert os.listdir(tmp_path) == []
    monkeypatch.setattr(os, "fsync", failing(errno.EINVAL))
    write_whole(tmp_path / "file", b"content")


def test_a_folder_makes_way_only_when_it_is_empty(tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "file").write_bytes(b"old")
    (tmp_path / "link").symlink_to("empty")
    with whole_folder(tmp_path / "empty") as folder:
        (folder / "file").write_bytes(b"new")
    for name in ("full", "link"):
        with pytest.raises(FileExistsError, match=name), whole_folder(tmp_path / name) as folder:
            (folder / "file").write_bytes(b"new")
    assert (tmp_path / "empty" / "file").read_bytes() == b"new"
    assert (tmp_path / "full" / "file").read_bytes() == b"old"
    assert sorted(os.listdir(tmp_path)) == ["empty", "full", "link"]
