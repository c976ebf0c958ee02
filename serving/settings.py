"""What can be set about a service; the environment carries it from the command to BentoML's worker."""

from __future__ import annotations

import os
import re
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, fields
from pathlib import Path
from typing import Any

from bundle.errors import HallmarkError
from serving.middleware import check_token, read_origins

PREFIX = "HALLMARK_"
#: The smallest value of each number.
LEAST = {
    "threads": 0,
    "batch_rows": 1,
    "request_rows": 1,
    "queue_rows": 1,
    "image_bytes": 1,
    "image_pixels": 0,
    "body_bytes": 1,
    "seconds": 1,
}
#: Kubernetes and Docker's links tell every container about a service called hallmark in variables of this prefix. Only
#: HALLMARK_PORT is a setting's too, and has the service's address.
_ADDRESS = re.compile(r"(tcp|udp|sctp)://")
#: Settings that name files or folders.
PATHS = ("bundle", "releases", "trust", "policy", "baseline")
CHOICES = {
    "device": ("auto", "cpu", "cuda"),
    "self_check": ("required", "if-possible"),
    "require_signature": ("no", "yes"),
    "access_log": ("no", "yes"),
}


@dataclass(frozen=True)
class Settings:
    """A service's settings; each is read from HALLMARK_ and its name in capitals.

    bundle, releases : the folder that is served, and the folder whose sub-folders are listed as versions.
    threads : CPU threads of one ONNX Runtime call, ≥ 0; 0 takes as many as this process may use (bundle.served.runtime).
    device : `auto`, `cpu` or `cuda`.
    batch_rows : largest number of images in one call of the model, ≥ 1.
    request_rows : largest number of images in one /predict_batch, ≥ 1.
    queue_rows : images that may wait; more are refused with 503; ≥ request_rows.
    image_bytes : largest body of /predict, in bytes, ≥ 1.
    image_pixels : most pixels of an image that is to be resized, before and after, ≥ 0; 0 goes by the model's own size
        (serving.input.images.pixels_limit).
    body_bytes : bytes of all bodies that are read or answered at once; a request beyond them is refused with 503. One
        request is always let in.
    self_check : `required`, or `if-possible`, which also serves a bundle with private evidence: without its images the
        host cannot be tried.
    seconds : how long a body may take to arrive at the most, and then how long an answer may take; ≥ 1.
    trust : files and folders of public keys, separated as in PATH; then only a bundle that one of them signed is served.
    require_signature : `yes` does not start without `trust`, so that a setting that got lost opens no door.
    policy : a file that bundle.gate reads; a bundle that does not meet it is not served. Empty asks for nothing.
    baseline : the bundle that a policy's `not_worse` compares with; empty where no rule asks for one.
    token : what `Authorization: Bearer` must carry on every route but the platform's; empty lets everybody in.
    cors : origins, separated by spaces, whose pages may read the answers; `*` for any, empty for none.
    access_log : `yes` writes one line of JSON per request to standard output.
    """

    bundle: Path = Path("out/bundle")
    releases: Path = Path("releases")
    threads: int = 0
    device: str = "auto"
    self_check: str = "required"
    batch_rows: int = 64
    request_rows: int = 1024
    queue_rows: int = 4096
    image_bytes: int = 10 * 1024 * 1024
    image_pixels: int = 0
    body_bytes: int = 256 * 1024 * 1024
    seconds: int = 30
    require_signature: str = "no"
    trust: str = ""
    policy: str = ""
    baseline: str = ""
    token: str = field(default="", repr=False)
    cors: str = ""
    access_log: str = "yes"

    def __post_init__(self) -> None:
        """Raises HallmarkError with the first value that cannot be."""
        for name, least in LEAST.items():
            if getattr(self, name) < least:
                raise HallmarkError(f"{name}: must be at least {least}, got {getattr(self, name)}")
        for name, choices in CHOICES.items():
            if getattr(self, name) not in choices:
                raise HallmarkError(f"{name}: must be one of {', '.join(choices)}, got {getattr(self, name)}")
        if self.token:
            check_token(self.token)
        read_origins(self.cors)
        if self.require_signature == "yes" and not self.trust:
            raise HallmarkError(
                "trust: must name the public keys whose signatures count, since require_signature is yes"
            )
        if self.queue_rows < self.request_rows:
            wanted = f"at least request_rows, {self.request_rows}"
            raise HallmarkError(f"queue_rows: must be {wanted}, got {self.queue_rows}")

    def environment(self) -> dict[str, str]:
        """The settings as environment variables; paths are absolute, since a worker may start elsewhere."""
        return {PREFIX + name.upper(): _text(name, value) for name, value in asdict(self).items()}


def read_settings(environment: Mapping[str, str] = os.environ) -> Settings:
    """The settings that environment variables give; raises HallmarkError where a value is not of its type."""
    defaults = Settings()
    given: dict[str, Any] = {}
    for name in (item.name for item in fields(Settings)):
        variable = PREFIX + name.upper()
        if variable in environment:
            given[name] = _value(variable, environment[variable], getattr(defaults, name))
    return Settings(**given)


def read_port(environment: Mapping[str, str] = os.environ) -> int:
    """The port that HALLMARK_PORT names, else 3000; raises HallmarkError where it names none."""
    variable = PREFIX + "PORT"
    given = environment.get(variable)
    if given is None or _ADDRESS.match(given):
        return 3000
    if not re.fullmatch(r"[0-9]{1,5}", given) or not 1 <= int(given) <= 65535:
        raise HallmarkError(f"{variable}: must be a port, a whole number from 1 to 65535, got {given!r}")
    return int(given)


def _value(variable: str, text: str, default: Path | int | str) -> Path | int | str:
    """A text as a value of the default's type."""
    if isinstance(default, int):
        try:
            return int(text)
        except ValueError:
            raise HallmarkError(f"{variable}: must be a whole number, got {text!r}") from None
    return Path(text) if isinstance(default, Path) else text


def _text(name: str, value: Path | int | str) -> str:
    """A value as text, every path of it absolute."""
    if name in PATHS:
        return os.pathsep.join(str(Path(part).absolute()) for part in str(value).split(os.pathsep) if part)
    return str(value)
