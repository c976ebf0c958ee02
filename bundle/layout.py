"""The files of a bundle, by name. The set is exact: anything else in the folder is refused.

A bundle with private evidence (bundle.private) has no images.npz, and is otherwise the same.
"""

MODEL = "model.onnx"
WEIGHTS = "weights.safetensors"
NETWORK = "network.json"
OUTCOMES = "outcomes.parquet"
IMAGES = "images.npz"
CARD = "model-card.md"
BOM = "mlbom.cdx.json"
REPORT = "report.html"
ATTESTATION = "attestation.json"
ENVELOPE = "attestation.dsse.json"

#: Files whose SHA-256 the attestation's predicate lists; the model itself is the attestation's subject.
DESCRIBED = (WEIGHTS, NETWORK, OUTCOMES, IMAGES, BOM, CARD, REPORT)
REQUIRED = (MODEL, *DESCRIBED, ATTESTATION)
OPTIONAL = (ENVELOPE,)


def described(private: bool) -> tuple[str, ...]:
    """DESCRIBED, of a bundle with private evidence without the images."""
    return tuple(name for name in DESCRIBED if not (private and name == IMAGES))


def required(private: bool) -> tuple[str, ...]:
    """REQUIRED, of a bundle with private evidence without the images."""
    return tuple(name for name in REQUIRED if not (private and name == IMAGES))


#: Digits of the model's SHA-256 that people are shown.
VERSION_DIGITS = 12
