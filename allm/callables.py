"""Callables as data: an importable function or object is named `"module:qualname"`, so that what holds it stays JSON."""

import importlib
import importlib.util
import inspect
import re
import sys
from collections.abc import Callable, Mapping
from typing import Any, Final, cast

from allm.errors import EngineError, ValidationError
from allm.plain import Value
from allm.trust import is_listed, named_code

__all__ = ["Importable", "as_importable", "described", "importable", "is_findable", "path_of", "resolve", "resolve_callable"]

_PATH: Final = re.compile(r"[^\s:]+:[^\s:]+")


class Importable(Value, frozen=True):
    """The name of a function or object, `"module:qualname"`, where text by itself would be text. See `importable`."""

    path: str

    def __post_init__(self) -> None:
        path: Any = self.path
        if not isinstance(path, str) or not _PATH.fullmatch(path):
            raise ValidationError.at("importable.path", f"expected 'module:object', got {path!r:.80}")
        named_code(path, "importable.path")


def importable(path: str) -> Importable:
    """The function or object `"module:object"`, imported at its first use: for an engine's `instructions`, where text is text."""
    return Importable(path)


def as_importable(value: Any) -> Any:
    """The Importable that a document's object is; anything else as it is."""
    if isinstance(value, Mapping):
        fields = cast("Mapping[str, Any]", value)
        if fields.get("type") == "importable" and "path" in fields:
            return Importable(fields["path"])
    return cast("Any", value)


def path_of(target: Any, field: str) -> str:
    """`"module:qualname"` of an importable callable. Raises EngineError("not_portable") for lambdas, closures and instances."""
    if isinstance(target, str):
        return target
    if isinstance(target, Importable):
        return target.path
    module, name = getattr(target, "__module__", None), getattr(target, "__qualname__", None)
    if module and name and _lookup(sys.modules.get(module), name) is target:
        return f"{module}:{name}"
    what = described(target)
    del target  # it may hold a secret, and error reporters show the locals of each frame
    raise EngineError(
        "not_portable",
        f"{field} holds {what}, which cannot be imported by name; use a module-level function, or allm.handoff between processes",
    )


def described(target: Any) -> str:
    """What a callable is, for people; never its repr, which may show what it holds (a partial's arguments, a dataclass's fields)."""
    name = getattr(target, "__qualname__", None)
    if isinstance(name, str) and (inspect.isroutine(target) or isinstance(target, type)):
        return f"the {'class' if isinstance(target, type) else 'function'} {target.__module__}.{name}"
    kind = cast("Any", type(target))
    return f"an object of {kind.__module__}.{kind.__qualname__}"


def resolve(target: Any, field: str) -> Any:
    """The object behind `"module:qualname"` or an Importable; anything else is returned as it is. Raises EngineError("not_importable")."""
    if isinstance(target, Importable):
        target = target.path
    if not isinstance(target, str):
        return target
    module, colon, name = target.partition(":")
    try:
        found = _found(module, name) if colon else None
    except (
        Exception,
        SystemExit,
    ) as error:  # of a missing module, an empty name, a relative one; or what a module does when it is imported
        raise EngineError("not_importable", f"{field}: {target!r} cannot be imported: {error}") from None
    if found is None:
        raise EngineError("not_importable", f"{field}: there is no {target!r} (expected 'module:name')")
    return found


def resolve_callable(target: Any, field: str) -> Callable[..., Any]:
    """`resolve`, for what must be callable."""
    found: Any = resolve(target, field)
    if not callable(found):
        what = repr(target) if isinstance(target, str | Importable) else described(target)
        raise EngineError("not_importable", f"{field}: {what} is not callable")
    function: Callable[..., Any] = found
    return function


def is_findable(path: str) -> bool:
    """Whether `"module:object"` names something here: the object where the module is loaded, else the module (which is not loaded)."""
    module, _, name = path.partition(":")
    if (loaded := sys.modules.get(module)) is not None:
        return _lookup(loaded, name) is not None
    try:
        return importlib.util.find_spec(module) is not None
    except (ImportError, ValueError, AttributeError):  # of a parent that is missing, or is no package
        return False


def _found(module: str, name: str) -> Any:
    found = _lookup(importlib.import_module(module), name)
    return found if found is None or not is_listed(module) or _is_defined(module, name, found) else None


def _is_defined(module: str, name: str, found: Any) -> bool:
    """Whether a listed module defines this, and classes are all that leads to it. See `allm.trust`."""
    way = name.split(".")[:-1]
    if not all(isinstance(_lookup(sys.modules[module], ".".join(way[:end])), type) for end in range(1, len(way) + 1)):
        return False
    if inspect.ismodule(found):
        return False
    if inspect.isroutine(found) or isinstance(found, type):
        return is_listed(getattr(found, "__module__", None) or "")
    return True  # an object that the module has made


def _lookup(found: Any, name: str) -> Any:
    for part in name.split("."):
        found = getattr(found, part, None)
    return found
