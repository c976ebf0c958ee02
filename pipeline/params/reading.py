"""YAML as people and DVC mean it: version 1.2's numbers, and one sentence where a file is none."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import yaml

from pipeline.params.complaints import ParamsError


class Yaml12Loader(yaml.SafeLoader):
    """PyYAML reads 1e-3 as text, as YAML 1.1 does; DVC and people mean the number of YAML 1.2."""


Yaml12Loader.add_implicit_resolver(
    "tag:yaml.org,2002:float",
    re.compile(r"^[-+]?(\d+(\.\d*)?|\.\d+)([eE][-+]?\d+)?$"),
    list("-+.0123456789"),
)


def read_yaml(path: Path, missing: str) -> Any:
    """A file's document; raises ParamsError where it is not YAML, and with `missing` where it is not there."""
    try:
        return parse_yaml(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise ParamsError(f"{path}: {missing}") from None
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise ParamsError(f"{path}: not YAML: {' '.join(str(error).split())}") from None


def parse_yaml(text: str) -> Any:
    """A text's document; raises what PyYAML raises."""
    return yaml.load(text, Loader=Yaml12Loader)
