"""The locks: one set of pins for every Python and machine, each with its digests."""

from __future__ import annotations

import re
import tomllib

import pytest
from packaging.markers import Marker
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name
from pip_requirements_parser import RequirementsFile

from tests.supply import LOCKS, ROOT, locked

#: The interpreters that pyproject.toml names.
PYTHONS = ("3.11", "3.12", "3.13")
#: Extras that requirements.lock leaves out: MLflow's client brings twenty packages, for one command.
NOT_LOCKED = ("mlflow",)


def pins(lock: str) -> list[tuple[str, Marker | None]]:
    """Every pin of a lock as NAME==VERSION, with its marker."""
    parsed = RequirementsFile.from_file(str(ROOT / lock)).requirements
    return [(f"{item.name}=={item.get_pinned_version}", item.marker) for item in parsed]


def chosen(lock: str, python: str) -> list[str]:
    """The names that this lock installs on Linux with an interpreter."""
    where = {"python_version": python, "python_full_version": f"{python}.0", "sys_platform": "linux"}
    where |= {"platform_machine": "x86_64", "implementation_name": "cpython", "platform_system": "Linux"}
    where |= {"platform_python_implementation": "CPython"}
    taken = [pin for pin, marker in pins(lock) if marker is None or marker.evaluate({**where, "extra": ""})]
    return [canonicalize_name(pin.split("==")[0]) for pin in taken]


@pytest.mark.parametrize("lock", LOCKS)
def test_every_pin_has_its_digests(lock: str) -> None:
    assert len(pins(lock)) > 50 and locked(lock)
    for item in RequirementsFile.from_file(str(ROOT / lock)).requirements:
        assert item.hash_options, item.name
        assert all(re.fullmatch("sha256:[0-9a-f]{64}", found) for found in item.hash_options), item.name


@pytest.mark.parametrize("lock", LOCKS)
@pytest.mark.parametrize("python", PYTHONS)
def test_each_python_is_given_one_version_of_each_package(lock: str, python: str) -> None:
    names = chosen(lock, python)
    assert len(names) == len(set(names)) and {"numpy", "cryptography", "onnxruntime"} <= {
        "onnxruntime" if name.startswith("onnxruntime") else name for name in names
    }


@pytest.mark.parametrize("python", PYTHONS)
def test_what_pyproject_asks_for_is_locked_for_each_python(python: str) -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    extras = {name: lines for name, lines in project["optional-dependencies"].items() if name not in NOT_LOCKED}
    lines = [*project["dependencies"], *(line for extra in extras.values() for line in extra)]
    versions = dict(locked("requirements.lock"))
    for line in lines:
        asked = Requirement(line)
        if asked.marker is None or asked.marker.evaluate({"sys_platform": "linux"}):
            name = canonicalize_name(asked.name)
            assert name in chosen("requirements.lock", python), line
            assert asked.specifier.contains(versions[name]), line
    assert project["requires-python"] == ">=3.11,<3.14"
