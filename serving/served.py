"""The model that answers: a bundle that was verified, tried on this host and warmed up."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from bundle.bundle import Bundle, open_bundle
from bundle.errors import HallmarkError
from bundle.process import available_cpus
from bundle.served.replay import SELF_CHECK_ROWS, SelfCheck, count_apart, self_check
from bundle.served.runtime import OnnxClassifier
from serving.exchange import RETRY, Problem
from serving.input.bodies import Admission
from serving.model.batcher import Batcher, Observer, QueueFull, predictions
from serving.model.trust import Trust, check_trust
from serving.output.page import Page
from serving.output.robustness import robustness
from serving.output.versions import EvidenceFile, Versions, evidence
from serving.settings import Settings


@dataclass(frozen=True)
class Served:
    """Everything that the routes need. The evidence's arrays are not held in memory: its files are."""

    settings: Settings
    trust: Trust
    version: str
    digest: str
    classes: list[str]
    shape: tuple[int, int, int]
    resize: Mapping[str, Any] | None
    check: SelfCheck
    statement: dict[str, Any]
    envelope: Any
    robustness: dict[str, Any]
    evidence: dict[str, EvidenceFile]
    versions: Versions
    page: Page
    batcher: Batcher
    admission: Admission

    async def predict(self, rows: NDArray[np.uint8]) -> list[dict[str, Any]]:
        """One answer per row; rows (N, H, W, C) are valid. Raises Problem `busy` where they would wait too long."""
        try:
            async with asyncio.timeout(self.settings.seconds):
                return predictions(await self.batcher.logits(rows), self.classes)
        except QueueFull:
            raise Problem("busy", "queue: is full; send the request again later.", RETRY) from None
        except TimeoutError:
            raise Problem("busy", f"model: gave no answer within {self.settings.seconds} seconds.", RETRY) from None


@dataclass(frozen=True)
class Opened:
    """A verified bundle that may be served here, its model, and how this host answers."""

    bundle: Bundle
    trust: Trust
    classifier: OnnxClassifier
    check: SelfCheck

    def host(self) -> dict[str, Any]:
        """The self-check as /robustness says it, beside the host that the bundle was made on."""
        made_on = self.bundle.predicate["environment"]
        return {
            **asdict(self.check),
            "threads": self.classifier.threads,
            "fell_back": self.classifier.fell_back,
            "attested": {"provider": made_on.get("judged_by"), "threads": made_on.get("threads")},
        }


def open_checked(settings: Settings) -> Opened:
    """Verifies the bundle, holds it against the settings' trust, and replays its closest rows on this host.

    Raises HallmarkError where the bundle is refused or this host answers otherwise than the bundle
    allows. The replay warms the model up as well.
    """
    bundle = open_bundle(settings.bundle)
    trust = check_trust(settings, bundle)
    threads = settings.threads or available_cpus()
    classifier = OnnxClassifier(bundle.model, threads=threads, device=settings.device)
    _check_contract(bundle, classifier)
    check = _check_host(settings, bundle, classifier)
    if not check.passed:
        raise HallmarkError(f"self-check: {check.sentence()}; serve it where it answers as attested")
    return Opened(bundle, trust, classifier, check)


def prepare(settings: Settings, observe: Observer | None = None) -> Served:
    """The served model, ready to answer; `observe` is told of each batch. Raises HallmarkError as open_checked() does."""
    opened = open_checked(settings)
    bundle, classifier = opened.bundle, opened.classifier
    _warm_up(classifier, settings.batch_rows)
    versions = Versions(bundle, settings.releases)  # which reads the envelope
    return Served(
        settings=settings,
        trust=opened.trust,
        version=bundle.version,
        digest=bundle.digest,
        classes=bundle.class_names,
        shape=classifier.image_shape,
        resize=bundle.predicate["data"].get("resize"),
        check=opened.check,
        statement=dict(bundle.statement),
        envelope=None if bundle.envelope is None else json.loads(bundle.envelope),
        robustness=robustness(bundle, opened.host(), opened.trust),
        evidence=evidence(bundle),
        versions=versions,
        page=Page(bundle),
        batcher=Batcher(
            classifier.logits, batch_rows=settings.batch_rows, queue_rows=settings.queue_rows, observe=observe
        ),
        admission=Admission(settings.body_bytes),
    )


def _warm_up(classifier: OnnxClassifier, rows: int) -> None:
    """Runs batches of 1, 2, 4 … and `rows` rows: ONNX Runtime plans memory, and CUDA its kernels, by shape."""
    sizes = {min(1 << power, rows) for power in range(rows.bit_length() + 1)}
    for size in sorted(sizes):
        classifier.logits(np.zeros((size, *classifier.image_shape), np.uint8))


def _check_host(settings: Settings, bundle: Bundle, classifier: OnnxClassifier) -> SelfCheck:
    """The self-check; of no rows where the images are withheld and the settings allow that.

    Without them it is tried with noise that each answer depends on its own image alone.
    """
    if bundle.evidence == "open":
        return self_check(classifier, bundle.outcomes, bundle.images, bundle.predicate)
    if settings.self_check == "required":
        raise HallmarkError(
            "self-check: not possible: private evidence; HALLMARK_SELF_CHECK=if-possible serves the bundle without it"
        )
    allowed = bundle.predicate["selfCheck"]["allowedMoved"]
    noise = np.random.default_rng(0).integers(0, 256, (SELF_CHECK_ROWS, *classifier.image_shape), dtype=np.uint8)
    found = count_apart(classifier, noise, bundle.predicate)
    if found > allowed:
        told = f"{found} of {len(noise)} images of noise are answered otherwise alone than in a batch"
        raise HallmarkError(f"self-check: {told}; the bundle allows {allowed}")
    return SelfCheck(0, 0, allowed, classifier.provider)


def _check_contract(bundle: Bundle, classifier: OnnxClassifier) -> None:
    attested = (*bundle.predicate["data"]["shape"], len(bundle.class_names))
    found = (*classifier.image_shape, classifier.classes)
    if attested != found:
        raise HallmarkError(f"model.onnx: takes (H, W, C) and gives K as {found}, the attestation says {attested}")
