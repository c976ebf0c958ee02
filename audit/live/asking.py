"""Images on their way to a service, one PNG file per request or many in one array, and its answers as arrays.

How far an inspection is, on stderr: rate and time left where a person looks on, nothing where nobody does.
"""

from __future__ import annotations

from collections.abc import Callable, Generator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Literal, get_args

import numpy as np
from numpy.typing import NDArray
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

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


@contextmanager
def bar(what: str, total: int, unit: str) -> Generator[Callable[[int], None], None, None]:
    """A bar of so many units; what is yielded is told how many more are done."""
    console = Console(stderr=True)
    columns = TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TextColumn("{task.fields[rate]}")
    with Progress(
        *columns, TimeRemainingColumn(), console=console, transient=True, disable=not console.is_terminal
    ) as progress:
        task = progress.add_task(what, total=total, rate="")

        def advance(count: int) -> None:
            progress.advance(task, count)
            progress.update(task, rate=f"{progress.tasks[0].speed or 0:.1f} {unit}/s")

        yield advance
