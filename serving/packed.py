"""The service as a bento packs it; bentofile.yaml names this module.

BentoML imports it when it builds a bento: the bundle that goes in must verify. It imports it again when a built bento
starts: then that bundle is the one to serve, unless HALLMARK_BUNDLE names another.
"""

from __future__ import annotations

import os
import sys
from pathlib import Path

from bundle.bundle import open_bundle
from bundle.digests import sha256_bytes
from bundle.errors import HallmarkError
from serving.service import Hallmark
from serving.settings import PREFIX

__all__ = ["Hallmark"]

#: The folder that has serving/: the repository, or src/ of a bento.
SOURCE = Path(__file__).resolve().parents[1]
BUNDLE = SOURCE / "out" / "bundle"


def _label() -> None:
    """Labels the bento with what it holds; raises SystemExit with 1 after one sentence where that does not verify."""
    try:
        bundle = open_bundle(BUNDLE)
    except HallmarkError as error:
        print(error, file=sys.stderr)
        raise SystemExit(1) from None
    Hallmark.labels.update({"model": bundle.digest, "attestation": sha256_bytes(bundle.statement_bytes)})


if (SOURCE.parent / "bento.yaml").is_file():
    os.environ.setdefault(PREFIX + "BUNDLE", str(BUNDLE))
else:
    _label()
