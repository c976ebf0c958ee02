"""The wheel: everything but code that the rooms need is in it, and a service starts from it."""

from __future__ import annotations

import os
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

from tests.bundles import make_bundle

ROOT = Path(__file__).resolve().parent.parent
#: Opens a bundle and renders its page from the wheel alone.
PROGRAM = """
import sys
from pathlib import Path

wheel, repository, bundle = sys.argv[1:]
sys.path[:] = [wheel, *(path for path in sys.path if Path(path or ".").resolve() != Path(repository))]

import serving.service
from serving.served import prepare
from serving.settings import Settings

assert serving.service.__file__.startswith(wheel), serving.service.__file__
served = prepare(Settings(bundle=Path(bundle), threads=1, device="cpu"))
print(served.version, len(served.page.render(served.robustness, served.versions.all())))
"""


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The wheel's content, unpacked."""
    folder = tmp_path_factory.mktemp("wheel")
    command = [sys.executable, "-m", "hatchling", "build", "-t", "wheel", "-d", str(folder / "dist")]
    subprocess.run(command, cwd=ROOT, check=True, capture_output=True)
    with zipfile.ZipFile(next((folder / "dist").glob("*.whl"))) as archive:
        archive.extractall(folder / "unpacked")
    return folder / "unpacked"


@pytest.mark.parametrize("room", ["pipeline", "bundle", "serving", "audit"])
def test_a_wheel_has_every_file_of_a_room(wheel: Path, room: str) -> None:
    def files(folder: Path) -> set[str]:
        found = (path.relative_to(folder) for path in folder.rglob("*") if path.is_file())
        return {path.as_posix() for path in found if "__pycache__" not in path.parts}

    assert files(wheel / room) == files(ROOT / room)
    assert "py.typed" in files(wheel / room), "whoever imports the room is to see its types"


def test_a_service_starts_from_a_wheel(wheel: Path, tmp_path: Path) -> None:
    bundle = make_bundle(tmp_path / "bundle")
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
    ended = subprocess.run(
        [sys.executable, "-c", PROGRAM, str(wheel), str(ROOT), str(bundle)],
        cwd=tmp_path,
        env=environment,
        capture_output=True,
        text=True,
        check=False,
    )
    assert ended.returncode == 0, ended.stderr
    version, length = ended.stdout.split()
    assert len(version) == 12 and int(length) > 10_000
