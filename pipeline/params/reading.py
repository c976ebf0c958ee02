"""YAML files of settings: one sentence where a file is none."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from bundle.yaml12 import YamlError, read
from pipeline.params.complaints import ParamsError


def read_yaml(path: Path, missing: str) -> Any:
    """A file's document; raises ParamsError where it is not YAML, and with `missing` where it is not there."""
    try:
        return read(path)
    except FileNotFoundError:
        raise ParamsError(f"{path}: {missing}") from None
    except OSError as error:
        raise ParamsError(f"{path}: cannot be read ({error.strerror})") from None
    except YamlError as error:
        raise ParamsError(f"{path}: not YAML: {error}") from None
