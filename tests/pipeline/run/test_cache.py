"""Parts of an evaluation: kept whole, found again, made anew where they are damaged."""

from __future__ import annotations

import io
import zipfile
from pathlib import Path

import pytest
import torch

from pipeline.run.cache import Cache, Part
from tests.audit.tampering import encrypted

IMAGES = torch.rand(3, 1, 2, 2, generator=torch.Generator().manual_seed(0))


def packed_otherwise(whole: bytes) -> bytes:
    """With LZMA, whose damage zipfile tells in an error of its own kind."""
    written = io.BytesIO()
    with zipfile.ZipFile(io.BytesIO(whole)) as archive, zipfile.ZipFile(written, "w", zipfile.ZIP_LZMA) as packed:
        for name in archive.namelist():
            packed.writestr(name, archive.read(name))
    return written.getvalue()


def counted(calls: list[str]) -> dict[str, Part]:
    calls.append("computed")
    return {"a": Part(IMAGES, {"flags": ["Ä"], "square_broken": 2}), "b": Part(1 - IMAGES)}


def test_a_part_is_computed_once_and_comes_back_bit_for_bit(tmp_path: Path):
    calls: list[str] = []
    for _ in range(2):
        found = Cache(tmp_path).parts("linf-8/pgd/0000", lambda: counted(calls))
        assert list(found) == ["a", "b"] and torch.equal(found["a"].images, IMAGES)
        assert found["a"].notes == {"flags": ["Ä"], "square_broken": 2} and found["b"].notes == {}
    assert calls == ["computed"]


@pytest.mark.parametrize(
    "damage",
    [lambda whole: whole[: len(whole) // 2], lambda whole: b"", lambda whole: b"no npz", encrypted, packed_otherwise],
)
def test_a_damaged_part_is_made_again(tmp_path: Path, damage):
    calls: list[str] = []
    Cache(tmp_path).parts("key", lambda: counted(calls))
    path = tmp_path / "key.npz"
    path.write_bytes(damage(path.read_bytes()))
    assert torch.equal(Cache(tmp_path).parts("key", lambda: counted(calls))["b"].images, 1 - IMAGES)
    assert len(calls) == 2


def test_parts_inside_a_part_survive_the_kill_of_the_whole(tmp_path: Path):
    """The second of two components is interrupted: only it is computed again."""
    calls: list[str] = []

    def whole(stop: bool) -> dict[str, Part]:
        keep = Cache(tmp_path).below("autoattack/0000")
        first = keep("apgd-ce", lambda: counted(calls)["a"])
        if stop:
            raise KeyboardInterrupt
        return {"autoattack": Part(first.images + keep("square", lambda: counted(calls)["b"]).images)}

    with pytest.raises(KeyboardInterrupt):
        Cache(tmp_path).parts("autoattack/0000", lambda: whole(stop=True))
    found = Cache(tmp_path).parts("autoattack/0000", lambda: whole(stop=False))
    assert torch.allclose(found["autoattack"].images, torch.ones_like(IMAGES)) and len(calls) == 2


def test_notes_are_kept_and_removed(tmp_path: Path):
    cache = Cache(tmp_path / "folder")
    assert cache.value("sanity", lambda: [{"check": "planted"}]) == [{"check": "planted"}]
    assert cache.value("sanity", lambda: "other") == [{"check": "planted"}]
    cache.remove()
    assert cache.value("sanity", lambda: "other") == "other"


def test_without_a_folder_nothing_is_kept():
    calls: list[str] = []
    cache = Cache()
    for _ in range(2):
        cache.parts("key", lambda: counted(calls))
    cache.remove()
    assert len(calls) == 2
