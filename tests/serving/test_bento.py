"""A real bento: what is in it, that it serves by itself, and what its image would run."""

from __future__ import annotations

import os
import re
import shutil
import signal
import subprocess
import sys
import time
import tomllib
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path

import httpx
import pytest
import yaml
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

from bundle.bundle import open_bundle
from bundle.digests import sha256_bytes
from tests.links import stored
from tests.serving.conftest import REPOSITORY, free_port
from tests.serving.image import instructions
from tests.serving.pictures import digit, npy

TOKEN = "a-secret-of-who-builds"
#: Makes a process see neither the repository nor what only training and audits need, as in the image.
ALONE = f"""
import importlib.abc, sys

class Absent(importlib.abc.MetaPathFinder):
    def find_spec(self, name, path=None, target=None):
        if name.split(".")[0] in ("torch", "torchvision", "lightning", "dvc", "pipeline", "audit", "sklearn"):
            raise ImportError(f"{{name}} is not in the image")

sys.meta_path.insert(0, Absent())
sys.path[:] = [path for path in sys.path if path != {str(REPOSITORY)!r}]
"""


@dataclass(frozen=True)
class Built:
    """What a build printed, and where its bento lies."""

    ended: subprocess.CompletedProcess[str]
    folder: Path


def _build(home: Path, bundle: Path, *options: str) -> Built:
    """`make bento`, with a secret in the environment."""
    ended = subprocess.run(
        [sys.executable, "-m", "serving.bento", str(bundle), *options],
        cwd=REPOSITORY,
        env={**os.environ, "BENTOML_HOME": str(home), "HALLMARK_TOKEN": TOKEN},
        capture_output=True,
        text=True,
        check=False,
    )
    return Built(ended, next((path.parent for path in home.glob("bentos/*/*/bento.yaml")), home))


@pytest.fixture(scope="module")
def built(folders: Path, tmp_path_factory: pytest.TempPathFactory) -> Built:
    """From a folder of links, as DVC and hubs may keep one."""
    linked = stored(folders / "bundle", tmp_path_factory.mktemp("linked") / "bundle", tmp_path_factory.mktemp("store"))
    built = _build(tmp_path_factory.mktemp("home"), linked)
    assert built.ended.returncode == 0, built.ended.stderr
    return built


@pytest.fixture
def copy(built: Built, tmp_path: Path) -> Path:
    """The bento as it lies in the image, in a folder of its own."""
    return shutil.copytree(built.folder, tmp_path / "bento")


def test_a_bento_is_named_after_its_model(built: Built, folders: Path) -> None:
    bundle = open_bundle(folders / "bundle")
    described = yaml.safe_load((built.folder / "bento.yaml").read_text())
    assert described["name"] == "hallmark-digits-d2r_cag" and described["version"] == bundle.version
    assert described["labels"] == {"model": bundle.digest, "attestation": sha256_bytes(bundle.statement_bytes)}
    assert re.match(rf"hallmark-digits-d2r_cag:{bundle.version}: \d\.\d MB in /", built.ended.stdout)
    assert sum(path.stat().st_size for path in built.folder.rglob("*") if path.is_file()) < 3e6


def test_a_bento_holds_what_serves_and_nothing_else(built: Built, folders: Path) -> None:
    source = built.folder / "src"
    assert {path.name for path in source.iterdir()} == {"serving", "bundle", "out", "LICENSE", "bentofile.yaml"}
    for room in ("serving", "bundle"):
        assert _files(source / room) == _files(REPOSITORY / room)
    assert _files(source / "out" / "bundle") == _files(folders / "bundle")
    assert not any(path.is_symlink() for path in source.rglob("*"))
    assert open_bundle(source / "out" / "bundle").version == open_bundle(folders / "bundle").version


def test_no_secret_and_no_path_of_the_builder_is_in_a_bento(built: Built) -> None:
    for path in filter(Path.is_file, built.folder.rglob("*")):
        content = path.read_bytes()
        assert TOKEN.encode() not in content and str(REPOSITORY).encode() not in content, path


def test_a_bundle_that_does_not_verify_is_not_packed(folders: Path, tmp_path: Path) -> None:
    refused = _build(tmp_path, folders / "releases" / "tampered").ended
    assert refused.returncode == 1 and refused.stdout == ""
    assert refused.stderr.startswith("model.onnx: SHA-256 is ") and len(refused.stderr.splitlines()) == 1
    assert not list(tmp_path.glob("bentos/*/*"))


def test_a_bento_that_is_there_is_not_built_again(built: Built, folders: Path) -> None:
    ended = _build(built.folder.parents[2], folders / "bundle").ended
    assert ended.returncode == 1 and len(ended.stderr.splitlines()) == 1
    assert "already exists" in ended.stderr


def test_a_killed_build_leaves_nothing_that_keeps_the_next_from_succeeding(folders: Path, tmp_path: Path) -> None:
    """Killed in the instant before the bento has its name."""
    killing = "import os, signal, sys; from serving import bento; bento.move_in = lambda *_: os.kill(os.getpid(), 9); "
    command = [sys.executable, "-c", f"{killing} bento.run_command(bento.main)", str(folders / "bundle")]
    killed = subprocess.run(
        command, cwd=REPOSITORY, env={**os.environ, "BENTOML_HOME": str(tmp_path)}, capture_output=True, check=False
    )
    assert killed.returncode == -signal.SIGKILL, killed.stderr
    assert len(os.listdir(tmp_path / "tmp")) == 1 and not list(tmp_path.glob("bentos/*/*"))
    assert _build(tmp_path, folders / "bundle").ended.returncode == 0
    (bento,) = tmp_path.glob("bentos/*/*/bento.yaml")
    assert os.listdir(tmp_path / "tmp") == []
    assert (bento.parents[1] / "latest").read_text() == bento.parent.name


@pytest.mark.parametrize(("bundle", "code"), [("bundle", 0), ("releases/tampered", 1)])
def test_the_plain_command_packs_out_bundle_where_it_verifies(
    folders: Path, tmp_path: Path, bundle: str, code: int
) -> None:
    repository = tmp_path / "repository"
    for name in ("serving", "bundle", "deploy"):
        shutil.copytree(REPOSITORY / name, repository / name, ignore=shutil.ignore_patterns("__pycache__"))
    for name in ("bentofile.yaml", "LICENSE", "README.md"):
        shutil.copy2(REPOSITORY / name, repository / name)
    shutil.copytree(folders / bundle, repository / "out" / "bundle")
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
    ended = subprocess.run(
        [str(Path(sys.executable).with_name("bentoml")), "build", "--version", "plain"],
        cwd=repository,
        env={**environment, "BENTOML_HOME": str(tmp_path / "home"), "BENTOML_DO_NOT_TRACK": "True"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert ended.returncode == code, ended.stderr
    found = list((tmp_path / "home").glob("bentos/hallmark/plain/src/out/bundle/model.onnx"))
    assert len(found) == 1 - code
    if code:
        assert ended.stderr.splitlines()[-1].startswith("model.onnx: SHA-256 is ")


def test_a_bento_serves_by_itself(copy: Path, tmp_path: Path, folders: Path) -> None:
    """What the ENTRYPOINT runs, without the repository, torch and the other rooms."""
    with _entry_point(copy, tmp_path) as (client, process):
        ready = client.get("/readyz")
        assert ready.headers["X-Model-Digest"] == open_bundle(folders / "bundle").digest
        answer = client.post("/predict_batch", files={"images": npy(digit()[None, ..., None])})
        assert answer.status_code == 200, answer.text
        assert answer.json()["model_version"] == open_bundle(folders / "bundle").version
        static = re.findall(r'(?:src|href)="(static/[^"]+)"', client.get("/").text)
        assert static and {client.get(path).status_code for path in static} == {200}
        assert client.get("/openapi.json").status_code == 200
        assert client.get("/evidence/outcomes.parquet").status_code == 200
        process.send_signal(signal.SIGTERM)
        assert process.wait(timeout=20) == 0


@pytest.mark.parametrize("containerized", [{}, {"BENTOML_CONTAINERIZED": "true"}])
def test_a_bento_whose_bundle_changed_ends_instead_of_restarting(
    copy: Path, tmp_path: Path, containerized: dict[str, str]
) -> None:
    with (copy / "src/out/bundle/model.onnx").open("ab") as model:
        model.write(b"x")
    ended = subprocess.run(
        ["bash", str(copy / "env/docker/entrypoint.sh")],
        cwd=copy,
        env=_image_environment(copy, tmp_path, free_port()) | containerized,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert ended.returncode == 1
    assert ended.stderr.splitlines()[-1].startswith("model.onnx: SHA-256 is ")


def test_the_dockerfile_builds_from_what_is_in_the_bento(built: Built) -> None:
    steps = instructions((built.folder / "env/docker/Dockerfile").read_text())
    assert [rest for name, rest in steps if name == "FROM"] == ["python:3.12-slim AS base-container"]
    copied = [rest.split()[-2] for name, rest in steps if name == "COPY"]
    assert "." in copied and all((built.folder / path).exists() for path in copied)
    values = dict(rest.split("=", 1) for name, rest in steps if name in ("ARG", "ENV") and "=" in rest)
    assert values["UV_REQUIRE_HASHES"] == "$UV_REQUIRE_HASHES" and ("ARG", "UV_REQUIRE_HASHES=1") in steps
    installing = [rest for name, rest in steps if name == "RUN" and "env/python/requirements.txt" in rest]
    assert len(installing) == 1 and (built.folder / "env/python/requirements.txt").is_file()


def test_the_image_runs_as_a_user_and_answers_on_3000(built: Built) -> None:
    steps = instructions((built.folder / "env/docker/Dockerfile").read_text())
    assert [rest for name, rest in steps if name == "USER"] == ["bentoml"]
    assert ("ARG", "BENTO_USER_UID=1034") in steps
    assert ("EXPOSE", "3000") in steps
    entry = next(rest for name, rest in steps if name == "ENTRYPOINT")
    path = re.fullmatch(r'\[ "/home/bentoml/bento/(\S+)" \]', entry)
    assert path and (built.folder / path[1]).is_file()
    assert [name for name, _ in steps].index("USER") < [name for name, _ in steps].index("ENTRYPOINT")


def test_an_image_with_cuda_brings_its_libraries(folders: Path, tmp_path: Path) -> None:
    built = _build(tmp_path, folders / "bundle", "--device", "cuda")
    assert built.folder.name == f"{open_bundle(folders / 'bundle').version}-cuda"
    assert "nvidia-cudnn-cu13==" in (built.folder / "env/python/requirements.txt").read_text()
    dockerfile = (built.folder / "env/docker/Dockerfile").read_text()
    assert "ARG LD_LIBRARY_PATH=/app/.venv/lib/python3.12/site-packages/nvidia/cu13/lib:" in dockerfile


@pytest.mark.parametrize("device", ["cpu", "cuda"])
def test_the_image_installs_what_the_lock_says_without_torch(device: str) -> None:
    locked = _packages(REPOSITORY / "requirements.lock")
    for package, hashes in _packages(REPOSITORY / f"deploy/{device}.txt").items():
        assert hashes and hashes == locked.get(package), package
    names = {name for name, _ in _packages(REPOSITORY / f"deploy/{device}.txt")}
    assert not names & {"torch", "torchvision", "lightning", "dvc", "pytest"}
    runtime = {"cpu": "onnxruntime", "cuda": "onnxruntime-gpu"}[device]
    assert names & {"onnxruntime", "onnxruntime-gpu"} == {runtime}
    assert _needed() - {"onnxruntime", "onnxruntime-gpu"} <= names


def _files(folder: Path) -> set[str]:
    found = (path.relative_to(folder) for path in folder.rglob("*") if path.is_file())
    return {path.as_posix() for path in found if "__pycache__" not in path.parts}


def _image_environment(bento: Path, scratch: Path, port: str) -> dict[str, str]:
    """The variables that the image sets, and nothing of this process but where Python lies."""
    (scratch / "alone").mkdir(exist_ok=True)
    (scratch / "alone" / "sitecustomize.py").write_text(ALONE)
    return {
        "PATH": f"{Path(sys.executable).parent}:/usr/bin:/bin",
        "PYTHONPATH": str(scratch / "alone"),
        "HOME": str(scratch),
        "BENTO_PATH": str(bento),
        "BENTOML_HOME": str(scratch / "home"),
        "BENTOML_PORT": port,
        "BENTOML_DO_NOT_TRACK": "True",
        "HALLMARK_THREADS": "1",
    }


@contextmanager
def _entry_point(bento: Path, scratch: Path) -> Iterator[tuple[httpx.Client, subprocess.Popen[bytes]]]:
    """A client of a bento that its entry point serves, once it is ready."""
    port, log = free_port(), scratch / "log.txt"
    with log.open("wb") as output:
        process = subprocess.Popen(
            ["bash", str(bento / "env/docker/entrypoint.sh")],
            cwd=bento,
            env=_image_environment(bento, scratch, port) | {"BENTOML_CONTAINERIZED": "true"},
            stdout=output,
            stderr=output,
            start_new_session=True,
        )
    try:
        with httpx.Client(base_url=f"http://127.0.0.1:{port}", timeout=30) as client:
            end = time.monotonic() + 60
            while not _is_ready(client):
                assert process.poll() is None and time.monotonic() < end, log.read_text()
                time.sleep(0.1)
            yield client, process
    finally:
        if process.poll() is None:
            os.killpg(process.pid, signal.SIGKILL)


def _is_ready(client: httpx.Client) -> bool:
    try:
        return client.get("/readyz").status_code == 200
    except httpx.TransportError:
        return False


def _packages(path: Path) -> dict[tuple[str, str], frozenset[str]]:
    """The hashes of each (name, version) in a file of pinned requirements."""
    pinned: dict[tuple[str, str], frozenset[str]] = {}
    for block in re.split(r"(?m)^(?=[A-Za-z0-9])", path.read_text()):
        if found := re.match(r"([\w.-]+)==([^\s;\\]+)", block):
            key = (canonicalize_name(found[1]), found[2])
            pinned[key] = frozenset(re.findall(r"--hash=(\S+)", block))
    return pinned


def _needed() -> set[str]:
    """What the serving extra needs here, by pyproject.toml and the metadata of what is installed."""
    project = tomllib.loads((REPOSITORY / "pyproject.toml").read_text())["project"]
    direct = map(Requirement, [*project["dependencies"], *project["optional-dependencies"]["serving"]])
    waiting = [item for item in direct if item.marker is None or item.marker.evaluate()]
    found: set[tuple[str, frozenset[str]]] = set()
    while waiting:
        requirement = waiting.pop()
        key = (canonicalize_name(requirement.name), frozenset(requirement.extras))
        if key in found:
            continue
        found.add(key)
        for text in metadata.requires(requirement.name) or []:
            needed = Requirement(text)
            extras = {"", *requirement.extras}
            if needed.marker is None or any(needed.marker.evaluate({"extra": extra}) for extra in extras):
                waiting.append(needed)
    return {name for name, _ in found}
