"""What the splits of the data share, as fractions to judge and as a sentence: `data.leakage` of an attestation."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

#: What may have leaked, with what each is a fraction of.
LEAKS = {
    "copies": "test images that are, byte for byte, training or validation images",
    "near_copies": "further test images that look like a training or validation image (pHash within 2 of 64 bits)",
    "two_labels": "images whose very picture has another label too, in the split where they are most",
}


def leaked_fractions(leakage: Mapping[str, Any], splits: Mapping[str, Mapping[str, Any]]) -> dict[str, float]:
    """The leaks that were counted, by their names in LEAKS, as fractions; what nobody counted is not there.

    `leakage` is a manifest's, or an attestation's `data.leakage`; `splits` has the `count` of each split.
    """
    counted = {"copies": "test_images_also_in_train", "near_copies": "test_images_near_train"}
    fractions = {leak: leakage[name] / splits["test"]["count"] for leak, name in counted.items() if name in leakage}
    if torn := leakage.get("two_labels"):
        fractions["two_labels"] = max(count / splits[name]["count"] for name, count in torn.items())
    return fractions


def leakage_sentence(leakage: Mapping[str, Any]) -> str:
    """What the splits share, in one sentence for people."""
    counts = [
        f"test images that are also in train: {_count(leakage, 'test_images_also_in_train')}",
        f"that look like one there: {_count(leakage, 'test_images_near_train')}",
        f"images whose picture has two labels: {_sum(leakage, 'two_labels')}",
        f"repeated within a split: {_sum(leakage, 'repeated')}",
    ]
    return ", ".join(counts)


def _count(leakage: Mapping[str, Any], name: str) -> str:
    return str(leakage.get(name, "not counted"))


def _sum(leakage: Mapping[str, Any], name: str) -> str:
    return str(sum(leakage[name].values())) if name in leakage else "not counted"
