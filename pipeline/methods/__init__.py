"""One file a paper. Every Method with a `name` in this folder can be named in params.yaml; nothing else lists them."""

from __future__ import annotations

import difflib
import inspect
import pkgutil
from functools import cache
from importlib import import_module

from bundle.errors import HallmarkError
from pipeline.methods.method import Batch, Method, Task

__all__ = ["Batch", "Method", "Task", "method_class", "method_names"]


def method_names() -> list[str]:
    """The names that params.yaml may use."""
    return sorted(_registry())


def method_class(name: object) -> type[Method]:
    """The method of this name; raises HallmarkError with the nearest name."""
    registry = _registry()
    if not isinstance(name, str) or name not in registry:
        close = difflib.get_close_matches(str(name), registry, n=1)
        hint = f" (did you mean {close[0]}?)" if close else ""
        raise HallmarkError(f"method.name: must be one of {', '.join(method_names())}, got {name!r}{hint}")
    return registry[name]


@cache
def _registry() -> dict[str, type[Method]]:
    found: dict[str, type[Method]] = {}
    for module in pkgutil.iter_modules(__path__):
        if module.name == "__main__":
            continue
        for _, item in inspect.getmembers(import_module(f"{__name__}.{module.name}"), inspect.isclass):
            if issubclass(item, Method) and "name" in vars(item):
                found[item.name] = item
    return found
