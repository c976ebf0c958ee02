"""A house with private evidence: the bundle that is handed out, and what its owner holds back."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import pytest

from audit.private.challenge import draw_challenge
from audit.private.proof import ProofCheck, check_proof, prove
from audit.private.withholding import make_private
from bundle.bundle import open_bundle
from tests.bundles import make_bundle

ROWS = 30
SECRET = bytes(range(32))


@dataclass(frozen=True)
class House:
    """A private bundle, and its owner's part."""

    bundle: Path
    owned: Path

    def challenge(self, count: int, seed: str = "seed") -> Path:
        path = self.bundle.parent / f"challenge-{count}-{seed}.json"
        path.write_bytes(draw_challenge(open_bundle(self.bundle), count, seed).encode())
        return path

    def proof(self, challenge: Path) -> Path:
        path = challenge.with_name(f"proof-{challenge.name}")
        path.write_bytes(prove(challenge, self.owned))
        return path

    def check(self, count: int, seed: str = "seed") -> ProofCheck:
        challenge = self.challenge(count, seed)
        return check_proof(open_bundle(self.bundle), self.proof(challenge), challenge)


def private(source: Path, root: Path) -> House:
    make_private(source, root / "private", root / "owned", SECRET)
    return House(root / "private", root / "owned")


@pytest.fixture(scope="module")
def source(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_bundle(tmp_path_factory.mktemp("source") / "bundle", rows=ROWS, tier="quick")


@pytest.fixture(scope="module")
def honest(source: Path, tmp_path_factory: pytest.TempPathFactory) -> House:
    return private(source, tmp_path_factory.mktemp("honest"))
