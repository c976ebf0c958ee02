"""What can be set about a service; the environment carries it from the command to BentoML's worker."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any

from bundle.errors import HallmarkError

PREFIX = "HALLMARK_"
DEVICES = ("auto", "cpu", "cuda")
SELF_CHECKS = ("required", "if-possible")


class SettingsError(HallmarkError):
    """A setting is not what it must be."""


@dataclass(frozen=True)
class Settings:
    """A service's settings; each is read from HALLMARK_ and its name in capitals.

    bundle, releases : the folder that is served, and the folder whose sub-folders are listed as versions.
    threads : CPU threads of one ONNX Runtime call, ≥ 1.
    device : `auto`, `cpu` or `cuda`.
    batch_rows : largest number of images in one call of the model, ≥ 1.
    request_rows : largest number of images in one /predict_batch, ≥ 1.
    queue_rows : images that may wait; more are refused with 503; ≥ request_rows.
    image_bytes : largest body of /predict, in bytes, ≥ 1.
    self_check : `required`, or `if-possible`, which also serves a bundle with private evidence: without its images the
        host cannot be tried.
    seconds : how long a body may take to arrive, and then how long an answer may take; ≥ 1.
    """

    bundle: Path = Path("out/bundle")
    releases: Path = Path("releases")
    threads: int = 2
    device: str = "auto"
    self_check: str = "required"
    batch_rows: int = 64
    request_rows: int = 1024
    queue_rows: int = 4096
    image_bytes: int = 10 * 1024 * 1024
    seconds: int = 30

    def __post_init__(self) -> None:
        """Raises SettingsError with the first value that cannot be."""
        for name in ("threads", "batch_rows", "request_rows", "image_bytes", "seconds"):
            if getattr(self, name) < 1:
                raise SettingsError(f"{name}: must be at least 1, got {getattr(self, name)}")
        if self.device not in DEVICES:
            raise SettingsError(f"device: must be one of {', '.join(DEVICES)}, got {self.device}")
        if self.self_check not in SELF_CHECKS:
            raise SettingsError(f"self_check: must be one of {', '.join(SELF_CHECKS)}, got {self.self_check}")
        if self.queue_rows < self.request_rows:
            wanted = f"at least request_rows, {self.request_rows}"
            raise SettingsError(f"queue_rows: must be {wanted}, got {self.queue_rows}")

    def environment(self) -> dict[str, str]:
        """The settings as environment variables; folders are absolute, since a worker may start elsewhere."""
        return {
            PREFIX + name.upper(): str(value.absolute() if isinstance(value, Path) else value)
            for name, value in asdict(self).items()
        }


def read_settings(environment: Mapping[str, str] = os.environ) -> Settings:
    """The settings that environment variables give; raises SettingsError where a value is not of its type."""
    defaults = Settings()
    given: dict[str, Any] = {}
    for field in fields(Settings):
        variable = PREFIX + field.name.upper()
        if variable in environment:
            given[field.name] = _value(variable, environment[variable], getattr(defaults, field.name))
    return Settings(**given)


def _value(variable: str, text: str, default: Path | int | str) -> Path | int | str:
    """A text as a value of the default's type."""
    if isinstance(default, int):
        try:
            return int(text)
        except ValueError:
            raise SettingsError(f"{variable}: must be a whole number, got {text!r}") from None
    return Path(text) if isinstance(default, Path) else text
