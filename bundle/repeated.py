"""What GET /robustness repeats of an attestation: one table for who answers it, describes it and checks it."""

from __future__ import annotations

#: Field of /robustness → field of the predicate that it repeats whole.
REPEATED = {
    "sample": "sample",
    "threats": "threats",
    "tier": "tier",
    "reliable": "reliable",
    "unions": "unions",
    "attacks": "attacks",
    "per_class": "perClass",
    "worst_class": "worstClass",
    "calibration": "calibration",
    "corruptions": "corruptionAccuracy",
    "minimum_distances": "minimumDistances",
    "agreement": "agreement",
    "bounds": "bounds",
    "smoothing": "smoothing",
    "sanity": "sanity",
    "parity": "parity",
    "not_tested": "notTested",
}
#: Field of /robustness → metric of the claims that it holds.
CLAIMED = {"clean": "clean_accuracy", "robust": "robust_accuracy"}
#: Field of /robustness → what it repeats of the predicate's field of the same name.
PARTS = {"method": ("name", "title", "paper", "reconstructed"), "data": ("name", "classes", "shape")}
