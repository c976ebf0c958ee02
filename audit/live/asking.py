"""Images on their way to a service, one PNG file a request or many in one array, and its answers as arrays."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Literal, get_args

import numpy as np
from numpy.typing import NDArray

from audit.client import Client, ClientError, Prediction

Way = Literal["png", "npy"]
WAYS: tuple[Way, ...] = get_args(Way)
#: Rows after which progress is told.
ROWS = 256


@dataclass(frozen=True)
class Answers:
    """A service's answers: labels (N,), and the probability of every class (N, K)."""

    labels: NDArray[np.int64]
    probabilities: NDArray[np.float64]


class Asker:
    """Asks a service whose classes have these names; `advance` is told after so many more answers."""

    def __init__(self, client: Client, classes: Sequence[str], advance: Callable[[int], None]) -> None:
        self._client, self._classes, self._advance = client, list(classes), advance

    def ask(self, images: NDArray[np.uint8], way: Way) -> Answers:
        """The answers to images uint8 (N, H, W, C), N ≥ 1; raises ClientError where they are of other classes."""
        found: list[Prediction] = []
        step = ROWS if way == "npy" else 1
        for start in range(0, len(images), step):
            part = images[start : start + step]
            found += self._client.predict_batch(part) if way == "npy" else [self._client.predict(part[0])]
            self._advance(len(part))
        return self._arrays(found)

    def probabilities(self, images: NDArray[np.uint8]) -> NDArray[np.float64]:
        """The probabilities (N, K) alone, asked in arrays."""
        return self.ask(images, "npy").probabilities

    def _arrays(self, found: list[Prediction]) -> Answers:
        for item in found:
            named = self._classes[item.label] if 0 <= item.label < len(self._classes) else None
            if item.name != named or sorted(item.probabilities) != sorted(self._classes):
                raise ClientError(f"{self._client.url}: answers with other classes than the attestation names")
        shares = [[item.probabilities[name] for name in self._classes] for item in found]
        return Answers(np.array([item.label for item in found]), np.array(shares, np.float64))
