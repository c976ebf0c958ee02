"""What of the environment an attestation lists."""

from __future__ import annotations

from pathlib import Path

import pytest

from pipeline.run import environment

LOCK = """\
torch==2.13.0
one==1.0 \\
    --hash=sha256:{a} \\
    --hash=sha256:{b}
    # via
    #   two
two==2.0 ; python_full_version < '3.12' \\
    --hash=sha256:{a} \\
    --hash=sha256:{b} \\
    --hash=sha256:{c}
two==3.0 ; python_full_version >= '3.12' \\
    --hash=sha256:{c}
""".format(a="a" * 64, b="b" * 64, c="c" * 64)


@pytest.fixture
def lock(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setattr(environment, "LOCK", tmp_path / "requirements.lock")
    environment.LOCK.write_text(LOCK, encoding="utf-8")
    return environment.LOCK


@pytest.fixture
def installed(monkeypatch: pytest.MonkeyPatch) -> dict[str, str]:
    """An environment of one, two, three and torch, of which the pipeline needs the first two, and an absent one."""
    versions = {"one": "1.0", "two": "2.0", "three": "3.0", "torch": "2.13.0"}
    monkeypatch.setattr(environment, "version_of", versions.get)
    monkeypatch.setattr(environment, "_needed", lambda: {"two", "one", "absent", "torch"})
    return versions


def test_what_is_needed_and_there_is_listed_with_the_digests_that_say_which_file(
    lock: Path, installed: dict[str, str]
) -> None:
    assert environment.installed_packages() == [
        {"name": "one", "version": "1.0", "sha256": ["a" * 64, "b" * 64]},
        {"name": "torch", "version": "2.13.0"},
        {"name": "two", "version": "2.0"},  # three files: a wheel for one machine, one for another, or the source
    ]


def test_another_version_than_the_locks_has_no_digest(lock: Path, installed: dict[str, str]) -> None:
    installed["one"] = "1.1"
    assert environment.installed_packages()[0] == {"name": "one", "version": "1.1"}
    lock.unlink()
    assert all("sha256" not in item for item in environment.installed_packages())


def test_this_environment() -> None:
    """Whatever a machine has: what the pipeline imports is there, and what only tests need is not."""
    found = {item["name"]: item for item in environment.installed_packages()}
    assert list(found) == sorted(found)
    assert {"torch", "onnx", "numpy", "dvc", "jinja2", "pyyaml", "safetensors", "typing-extensions"} <= found.keys()
    assert not {"hallmark-robustness", "pytest", "hypothesis", "bentoml", "ruff", "pip-audit"} & found.keys()
    assert {name: item["version"] for name, item in found.items()} == {
        name: environment.version_of(name) for name in found
    }
    assert environment.installed_packages() == environment.installed_packages()


def test_nothing_is_known_of_code_without_metadata(monkeypatch: pytest.MonkeyPatch) -> None:
    def absent(name: str) -> None:
        raise environment.PackageNotFoundError(name)

    monkeypatch.setattr(environment, "distribution", absent)
    assert environment.installed_packages() == []
