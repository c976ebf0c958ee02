"""A full disk cuts off no compiled code, which CPython would keep and fail to read for good."""

from __future__ import annotations

import shutil
import sys
from pathlib import Path
from types import SimpleNamespace

import pytest

from bundle import process
from bundle.process import SPARE, spare_full_disk


@pytest.mark.parametrize(("free", "written"), [(8192, False), (SPARE, True)])
def test_no_compiled_code_is_written_to_a_disk_that_is_nearly_full(
    monkeypatch: pytest.MonkeyPatch, free: int, written: bool
) -> None:
    monkeypatch.setattr(sys, "dont_write_bytecode", False)
    monkeypatch.setattr(shutil, "disk_usage", lambda _: SimpleNamespace(free=free))
    spare_full_disk()
    assert sys.dont_write_bytecode is not written


def test_what_is_compiled_fits_many_times() -> None:
    code = Path(process.__file__).parents[1]
    rooms = ("audit", "bundle", "pipeline", "serving")
    assert sum(path.stat().st_size for room in rooms for path in (code / room).rglob("*.py")) * 4 < SPARE
