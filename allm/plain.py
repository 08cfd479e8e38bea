"""Plain data: the base of every value, and the freezing of JSON payloads.

A value is a frozen struct tagged by `type` in JSON. Payloads that users or providers supply (arguments, metadata, schemas) are
frozen to JSON types when the value is made, so that equality holds after a round trip and nothing live hides inside one.
"""

import math
import re
from collections.abc import Mapping
from typing import Any, NoReturn, TypeAlias, cast

import msgspec

__all__ = ["MAX_DEPTH", "FrozenDict", "FrozenList", "Json", "NotJson", "Value", "frozen", "tag_of"]

Json: TypeAlias = Any
"""None, bool, int, float, str, tuple of Json, dict of str to Json. Read-only by convention."""


class FrozenList(tuple[Any, ...]):
    """A JSON array: a tuple that also equals the list with the same items, as people write it in a comparison."""

    __slots__ = ()

    def __eq__(self, other: object) -> bool:
        return super().__eq__(tuple(cast("list[Any]", other)) if isinstance(other, list) else other)

    def __ne__(self, other: object) -> bool:
        return not self == other

    def __hash__(self) -> int:
        return super().__hash__()


class FrozenDict(dict[str, Any]):
    """A JSON object of a value: a dict that cannot be changed. `{**payload}` makes one that can."""

    __slots__ = ("_hash",)

    def __hash__(self) -> int:  # type: ignore[override]
        try:
            return self._hash
        except AttributeError:  # worked out when first asked for: most are never
            self._hash: int = hash(frozenset(self.items()))
            return self._hash

    def __reduce__(self) -> Any:
        return FrozenDict, (dict(self),)

    def __copy__(self) -> "FrozenDict":
        return self

    def __deepcopy__(self, memo: Any) -> "FrozenDict":
        return self


def _read_only(*_: Any, **__: Any) -> NoReturn:
    raise TypeError("this belongs to a value and cannot be changed; make a copy: {**payload}")


for _name in ("__setitem__", "__delitem__", "__ior__", "update", "pop", "popitem", "clear", "setdefault"):
    setattr(FrozenDict, _name, _read_only)


MAX_DEPTH = 64
"""Levels of nesting that a payload or an untrusted document may have; the providers' own limits lie below it."""

_WORD = re.compile(r"(?<=[a-z0-9])(?=[A-Z])")
_SURROGATE = re.compile("[\ud800-\udfff]")
_LIMIT = 1 << 63


def tag_of(name: str) -> str:
    """The `type` tag of a class: `TextDelta` is `text_delta`."""
    return _WORD.sub("_", name).lower()


_EMPTY = FrozenDict()


class Value(msgspec.Struct, frozen=True, tag_field="type", tag=tag_of, omit_defaults=True, repr_omit_defaults=True):
    """Base of all plain data: immutable, compared and hashed by value, JSON and pickle both ways."""

    def __hash__(self) -> int:
        # msgspec's own fails at plain dicts, which all empty payloads are
        fields = [getattr(self, name) for name in self.__struct_fields__]
        settled = [item if item.__class__ is not dict else FrozenDict(item) if item else _EMPTY for item in fields]
        try:
            return hash((self.__class__, *settled))
        except TypeError:
            return hash((self.__class__, *map(_hashable, fields)))


def _hashable(value: Any) -> Any:
    """A stand-in with the hash of all that equals `value`: in tuples and dicts, too, and for a handler whose class has no hash."""
    if isinstance(value, dict):
        return FrozenDict({name: _hashable(item) for name, item in cast("dict[str, Any]", value).items()})
    if isinstance(value, list | tuple):
        return tuple(map(_hashable, cast("tuple[Any, ...]", value)))
    try:
        hash(value)
    except TypeError:
        return cast("Any", type(value))
    return value


class NotJson(Exception):
    """What `frozen` refuses, and the way down to it, innermost first; the path of what is fine is never built."""

    def __init__(self, problem: str) -> None:
        super().__init__(problem)
        self.problem = problem
        self.path: list[str] = []


def frozen(value: Any, depth: int = 0) -> Json:
    """`value` as JSON types: tuples for lists, dicts with string keys. Raises NotJson. See `allm.freezing.freeze`."""
    kind = cast("type[Any]", type(value))
    if kind is str:
        return value if value.isascii() else _text(value)
    if value is None or kind is bool:
        return value
    if kind is int:
        return _integer(value)
    if kind is float:
        return _number(value)
    if kind is FrozenDict and depth <= 0:
        return value  # handed on from value to value: what it is was checked when it was made
    if depth >= MAX_DEPTH:
        raise NotJson(f"nested deeper than {MAX_DEPTH} levels")
    if kind is dict or isinstance(value, Mapping):
        return _object(cast("Any", value), depth + 1)
    if isinstance(value, list | tuple):
        return _array(cast("Any", value), depth + 1)
    return _subclass(value)


def _object(value: Mapping[Any, Any], depth: int) -> Json:
    result: dict[str, Json] = {}
    for key, item in value.items():
        if type(key) is type(item) is str and key.isascii() and item.isascii():  # the usual
            result[key] = item
            continue
        if not isinstance(key, str):
            raise NotJson(f"the key {key!r} is no string")
        try:
            result[_text(key if type(key) is str else str.__str__(key))] = frozen(item, depth)
        except NotJson as refused:
            refused.path.append(f".{key!a}" if not key.isidentifier() else f".{key}")
            raise
    return FrozenDict(result)


def _array(value: Any, depth: int) -> Json:
    result: list[Json] = []
    for item in value:
        try:
            result.append(frozen(item, depth))
        except NotJson as refused:
            refused.path.append(f"[{len(result)}]")
            raise
    return FrozenList(result)


def _subclass(value: Any) -> Json:
    """Enums and other subclasses of the JSON types become these."""
    if isinstance(value, str):
        return _text(str.__str__(value))
    if isinstance(value, int):
        return _integer(int(value))
    if isinstance(value, float):
        return _number(float(value))
    raise NotJson(f"{type(value).__name__} is not JSON")


def _text(value: str) -> str:
    if not value.isascii() and _SURROGATE.search(value):
        raise NotJson("text with a lone surrogate cannot be encoded")
    return value


def _integer(value: int) -> int:
    if not -_LIMIT <= value < 2 * _LIMIT:
        raise NotJson("an integer beyond 64 bits")
    return value


def _number(value: float) -> float:
    if not math.isfinite(value):
        raise NotJson(f"{value} is not JSON")
    return value
