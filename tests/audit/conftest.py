"""Bundles and keys that every test of the audit copies."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from audit.releasing import sign_bundle
from bundle.signatures import generate_key
from tests.bundles import make_bundle


@dataclass(frozen=True)
class Masters:
    """Folders that no test changes: two unsigned bundles, a signed one, a trusted key and another."""

    unsigned: Path
    second: Path
    signed: Path
    trusted: Path
    other: Path
    key_id: str


@pytest.fixture(autouse=True)
def wide(monkeypatch: pytest.MonkeyPatch) -> None:
    """No cell of a table is folded; what narrow terminals show, tests/audit/versions/test_summary.py says."""
    monkeypatch.setenv("COLUMNS", "240")


@pytest.fixture(scope="session")
def masters(tmp_path_factory: pytest.TempPathFactory) -> Masters:
    root = tmp_path_factory.mktemp("masters")
    key_id = generate_key(root / "trusted")
    generate_key(root / "other")
    unsigned = make_bundle(root / "unsigned")
    second = make_bundle(root / "second", seed=1, noise=0.3)
    signed = shutil.copytree(unsigned, root / "signed")
    sign_bundle(signed, root / "trusted" / "key.pem")
    return Masters(unsigned, second, signed, root / "trusted", root / "other", key_id)


@pytest.fixture(autouse=True)
def model_store(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """No test meets the BentoML model store of whoever runs it."""
    monkeypatch.setenv("BENTOML_HOME", str(tmp_path / "bentoml"))
    return tmp_path / "bentoml" / "models"


@pytest.fixture
def unsigned(masters: Masters, tmp_path: Path) -> Path:
    return shutil.copytree(masters.unsigned, tmp_path / "unsigned")


@pytest.fixture
def signed(masters: Masters, tmp_path: Path) -> Path:
    return shutil.copytree(masters.signed, tmp_path / "signed")


@pytest.fixture
def bentoml_store(model_store: Path) -> Iterator[Path]:
    """BentoML's own idea of its store, which it forms once per process, for the length of a test."""
    pytest.importorskip("bentoml")
    from bentoml._internal.configuration.containers import BentoMLContainer
    from bentoml._internal.models import ModelStore

    model_store.mkdir(parents=True)
    BentoMLContainer.model_store.set(ModelStore(model_store))
    yield model_store
    BentoMLContainer.model_store.reset()
