"""Pickles of what is defined in `__main__`, in functions and notebooks: classes and closures by value, for a trusted process."""

import dataclasses
import io
from typing import Any, Final, cast

import cloudpickle

from allm.engine import Engine

__all__ = ["dumps"]

_CACHE: Final = "__msgspec_cache__"
"""What msgspec keeps on a class that it has once looked at. It does not pickle, and is made anew where it is missed."""


def dumps(value: Any) -> bytes:
    """The value as bytes, for `pickle.loads`. Raises whatever its parts raise when they are pickled."""
    with io.BytesIO() as file:
        pickler: Any = _Pickler(file)
        pickler.dump(value)
        return file.getvalue()


class _Pickler(cloudpickle.Pickler):  # type: ignore[misc]
    def reducer_override(self, obj: Any) -> Any:
        if obj is dataclasses.MISSING:  # by name: the fields of a dataclass are compared with it by identity
            return "MISSING"
        if isinstance(obj, Engine):
            return obj.handed_on()
        found: Any = super().reducer_override(obj)  # pyright: ignore[reportUnknownMemberType, reportUnknownVariableType]
        if isinstance(obj, type) and isinstance(found, tuple):
            _forget(cast("tuple[Any, ...]", found))
        return cast("Any", found)


def _forget(reduced: tuple[Any, ...]) -> None:
    """Of a class that goes by value: (function, arguments, (attributes of the class, those of its slots), ...)."""
    state: Any = reduced[2] if len(reduced) > 2 else None
    if isinstance(state, tuple) and isinstance(attributes := cast("tuple[Any, ...]", state)[0], dict):
        cast("dict[str, Any]", attributes).pop(_CACHE, None)
