"""The container image's own steps, run: its install line in a fresh environment, its entry point as its user."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import httpx
import pytest
from packaging.utils import canonicalize_name

from bundle.bundle import open_bundle
from tests.serving.conftest import REPOSITORY, free_port, wait_until_ready
from tests.serving.image import OF_THE_BASE, Image, base_python, read_only
from tests.serving.pictures import digit, png

LIST = Path("env/python/requirements.txt")


def _bento(home: Path, bundle: Path, device: str) -> Path:
    command = [sys.executable, "-m", "serving.bento", str(bundle), "--device", device]
    environment = {**os.environ, "BENTOML_HOME": str(home)}
    ended = subprocess.run(command, cwd=REPOSITORY, env=environment, capture_output=True, text=True, check=False)
    assert ended.returncode == 0, ended.stderr
    return next(path.parent for path in home.glob("bentos/*/*/bento.yaml"))


@pytest.fixture(scope="module")
def image(folders: Path, tmp_path_factory: pytest.TempPathFactory) -> Image:
    """The image, built: half a gigabyte, from uv's cache where that has it."""
    bento = _bento(tmp_path_factory.mktemp("home"), folders / "bundle", "cpu")
    built = Image(bento, tmp_path_factory.mktemp("image"), base_python())
    built.build()
    return built


def test_every_step_but_the_base_images_own_was_run(image: Image) -> None:
    assert len(image.left_out) == len(OF_THE_BASE)
    assert len(image.ended) == 4  # the bento's folder, the environment, its packages, the entry point's mode
    assert image.user == "bentoml" and os.access(image.entry_point[0], os.X_OK)


def test_what_is_installed_is_the_list_and_nothing_else(image: Image) -> None:
    given = (image.bento / LIST).read_text().splitlines()
    listed = {canonicalize_name(line.split("==")[0]) for line in given if line[:1].isalnum()}
    lines = image.ended[2].splitlines()
    installed = {canonicalize_name(line.split()[1].split("==")[0]) for line in lines if line.startswith(" + ")}
    assert {"bentoml", "onnxruntime", "uvicorn"} <= installed <= listed


@pytest.mark.parametrize("device", ["cpu", "cuda"])
def test_a_package_without_its_right_hash_is_refused(folders: Path, tmp_path: Path, device: str) -> None:
    """As it is, the list can be installed; with another hash of BentoML, or none, it cannot."""
    bento = _bento(tmp_path / "home", folders / "bundle", device)
    assert _planned(bento, tmp_path / "right").returncode == 0
    listed, lines = bento / LIST, (bento / LIST).read_text().splitlines()
    first = next(number for number, line in enumerate(lines) if line.startswith("bentoml=="))
    while "--hash" in lines[first + 1]:
        del lines[first + 1]
    lines[first] = lines[first].rstrip("\\ ")
    listed.write_text("\n".join(lines) + "\n")
    refused = _planned(bento, tmp_path / "wrong")
    assert refused.returncode != 0 and "bentoml" in refused.stderr


def _planned(bento: Path, root: Path) -> subprocess.CompletedProcess[str]:
    """What the install line would do."""
    environment = {**os.environ, "UV_REQUIRE_HASHES": "1", "UV_CONSTRAINT": str(bento / LIST)}
    uv = str(Path(sys.executable).with_name("uv"))
    subprocess.run([uv, "venv", "--quiet", "--python", base_python(), str(root)], env=os.environ, check=True)
    command = [uv, "pip", "install", "--dry-run", "--python", str(root), "-r", str(bento / LIST)]
    return subprocess.run(command, env=environment, capture_output=True, text=True, check=False)


def test_the_entry_point_serves_as_its_user_on_a_read_only_root(image: Image, folders: Path, tmp_path: Path) -> None:
    """With the options of `docker run` in docs/deployment.md; HOME, BENTOML_HOME and TMPDIR are the one writable folder."""
    scratch = tmp_path / "tmp"
    scratch.mkdir()
    before = _files(image.root)
    with _serving(image, scratch, tmp_path / "log.txt") as (client, process):
        answer = client.post("/predict", files={"image": png(digit())})
        assert answer.status_code == 200, answer.text
        assert answer.json()["model_digest"] == open_bundle(folders / "bundle").digest
        process.send_signal(signal.SIGTERM)
        assert process.wait(timeout=20) == 0, (tmp_path / "log.txt").read_text()
    assert _files(image.root) == before
    assert not list(scratch.rglob("deviceid"))


@contextmanager
def _serving(image: Image, scratch: Path, log: Path) -> Iterator[tuple[httpx.Client, subprocess.Popen[bytes]]]:
    """A client of the image's entry point, once it is ready."""
    port = free_port()
    own = {**dict.fromkeys(("HOME", "BENTOML_HOME", "TMPDIR"), str(scratch)), "BENTOML_PORT": port}
    with log.open("wb") as output:
        process = subprocess.Popen(
            [*read_only(scratch), *image.entry_point],
            cwd=image.folder,
            env={**image.environment(), **own, "HALLMARK_THREADS": "1"},
            stdout=output,
            stderr=output,
            start_new_session=True,
        )
    try:
        with httpx.Client(base_url=f"http://127.0.0.1:{port}", timeout=30) as client:
            wait_until_ready(client, process, log)
            yield client, process
    finally:
        if process.poll() is None:
            os.killpg(process.pid, signal.SIGKILL)


def _files(folder: Path) -> dict[str, int]:
    return {str(path): path.stat().st_mtime_ns for path in folder.rglob("*") if path.is_file()}
