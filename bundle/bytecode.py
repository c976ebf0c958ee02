"""Compiled code beside a full disk: none is written where there is hardly room.

CPython before 3.12.8 and 3.13.1 keeps a compiled file that a full disk cut off (its issue 126606): every later start, with
room too, would end in `EOFError: marshal data too short`.
"""

from __future__ import annotations

import shutil
import sys
from pathlib import Path

#: Bytes; the code of all rooms takes less.
ROOM = 16_000_000


def spare_full_disk() -> None:
    """Has this process write no compiled code where the disk that this code is on is nearly full."""
    try:
        free = shutil.disk_usage(Path(__file__).parent).free
    except OSError:
        return
    if free < ROOM:
        sys.dont_write_bytecode = True
