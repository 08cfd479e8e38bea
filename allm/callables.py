"""Callables as data: an importable function or object is named `"module:qualname"`, so that what holds it stays JSON."""

import importlib
import sys
from collections.abc import Callable
from typing import Any

from allm.errors import EngineError

__all__ = ["path_of", "resolve"]


def path_of(target: Any, field: str) -> str:
    """`"module:qualname"` of an importable callable. Raises EngineError("not_portable") for lambdas, closures and instances."""
    if isinstance(target, str):
        return target
    module, name = getattr(target, "__module__", None), getattr(target, "__qualname__", None)
    if module and name and _lookup(sys.modules.get(module), name) is target:
        return f"{module}:{name}"
    raise EngineError(
        "not_portable",
        f"{field} holds {target!r}, which cannot be imported by name; use a module-level function, or allm.handoff between processes",
    )


def resolve(target: Any, field: str) -> Any:
    """The object behind `"module:qualname"`; anything but a string is returned as it is. Raises EngineError("not_importable")."""
    if not isinstance(target, str):
        return target
    module, colon, name = target.partition(":")
    try:
        found = _lookup(importlib.import_module(module), name) if colon else None
    except (ImportError, ValueError, TypeError) as error:  # of a missing module, an empty name, a relative one
        raise EngineError("not_importable", f"{field}: {target!r} cannot be imported: {error}") from None
    if found is None:
        raise EngineError("not_importable", f"{field}: there is no {target!r} (expected 'module:name')")
    return found


def resolve_callable(target: Any, field: str) -> Callable[..., Any]:
    """`resolve`, for what must be callable."""
    found: Any = resolve(target, field)
    if not callable(found):
        raise EngineError("not_importable", f"{field}: {target!r} is not callable")
    function: Callable[..., Any] = found
    return function


def _lookup(found: Any, name: str) -> Any:
    for part in name.split("."):
        found = getattr(found, part, None)
    return found
