"""What /robustness answers: the attestation's numbers, sorted for reading, and what each kind of number means."""

from __future__ import annotations

from typing import Any

from bundle.bundle import Bundle
from bundle.headline import main_names
from bundle.repeated import CLAIMED, PARTS, REPEATED
from serving.trust import Trust

MEANING = {
    "reference": "Measured on the training framework's float32 network with adversarial images in floating point; "
    "comparable with papers.",
    "served": "Measured on model.onnx, the file that answers here, with adversarial images of 8 bits, which a client "
    "can send.",
    "upper": "An upper bound: the share of images that were right under every attack that was run. A stronger attack "
    "may break more; it cannot break fewer.",
    "lower": "A lower bound that is proved, except with probability alpha an image, for the smoothed classifier that "
    "is named. /predict answers with another classifier.",
    "exact": "No attack: the share of the drawn images that were right.",
    "reliable": "False where a sanity check failed: then the numbers cannot be believed.",
    "interval": "95 % Clopper-Pearson. It covers the drawing of the images, for this model and these attacks; it does "
    "not cover attacks that were not run.",
}


def robustness(bundle: Bundle, host: dict[str, Any], trust: Trust) -> dict[str, Any]:
    """The measured robustness of a bundle's model; `host` is what this host's self-check found."""
    predicate = bundle.predicate
    return {
        "model_version": bundle.version,
        "model_digest": bundle.digest,
        **{field: {name: predicate[field][name] for name in names} for field, names in PARTS.items()},
        **{
            field: [claim for claim in predicate["claims"] if claim["metric"] == metric]
            for field, metric in CLAIMED.items()
        },
        **{field: predicate[name] for field, name in REPEATED.items()},
        "main_threats": main_names(predicate),
        "self_check": host,
        "trust": trust.describe(),
        "meaning": MEANING,
    }
