"""The data of the plots that DVC shows of a run; its metrics are bundle.pages.metrics."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from bundle.numbers.claims import ALL_ATTACKS
from bundle.pages.headline import attack_names, clean_claim, headline_threat, robust_claim
from bundle.pages.wording import SHOWN, attack_label
from bundle.table.threats import RADIUS_FIELD, Norm


def plot_files(predicate: Mapping[str, Any]) -> dict[str, bytes]:
    """CSV by file name: accuracy by attack, accuracy by radius, and the training."""
    threat = headline_threat(predicate)
    return {
        "robust_accuracy.csv": _csv("attack,accuracy,lower,upper", _by_attack(predicate, threat["name"])),
        "by_radius.csv": _csv("radius,served,reference", _by_radius(predicate, threat["norm"])),
        "training.csv": _csv("epoch,loss,clean,pgd_10", _training(predicate)),
    }


def _by_attack(predicate: Mapping[str, Any], threat: str) -> Iterable[Iterable[Any]]:
    """The main threat in the served setting, a row an attack: a bar plot has room for no more."""
    claims = [("clean", clean_claim(predicate, "served"))]
    for name in (*attack_names(predicate, threat), ALL_ATTACKS):
        claims.append((attack_label(name).replace(",", ""), robust_claim(predicate, "served", threat, name)))
    for name, claim in claims:
        yield name, claim["value"], *claim["interval"]


def _by_radius(predicate: Mapping[str, Any], norm: Norm) -> Iterable[Iterable[Any]]:
    """Accuracy under every attack against the radius, for the main threat's norm; at 0 nobody attacks."""
    field = RADIUS_FIELD[norm]
    yield 0.0, *(clean_claim(predicate, setting)["value"] for setting in SHOWN)
    for item in sorted((item for item in predicate["threats"] if item["norm"] == norm), key=lambda item: item[field]):
        yield item[field], *(robust_claim(predicate, setting, item["name"])["value"] for setting in SHOWN)


def _training(predicate: Mapping[str, Any]) -> Iterable[Iterable[Any]]:
    for row in predicate["selection"].get("curve", ()):
        yield row["epoch"], row["loss"], row["clean"], row["pgd_10"]


def _csv(head: str, rows: Iterable[Iterable[Any]]) -> bytes:
    lines = [",".join(f"{cell:.6g}" if isinstance(cell, float) else str(cell) for cell in row) for row in rows]
    return ("\n".join([head, *lines]) + "\n").encode()
