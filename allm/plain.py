"""Plain data: the base of every value, and the freezing of JSON payloads.

A value is a frozen struct tagged by `type` in JSON. Payloads that users or providers supply (arguments, metadata, schemas) are
frozen to JSON types when the value is made, so that equality holds after a round trip and nothing live hides inside one.
"""

import math
import re
from collections.abc import Mapping
from typing import Any, TypeAlias, cast

import msgspec

from allm.errors import ValidationError

__all__ = ["MAX_DEPTH", "FrozenList", "Json", "Value", "freeze", "freeze_dict", "tag_of"]

Json: TypeAlias = Any
"""None, bool, int, float, str, tuple of Json, dict of str to Json. Read-only by convention."""



class FrozenList(tuple[Any, ...]):
    """A JSON array: a tuple that also equals the list with the same items, as people write it in a comparison."""

    __slots__ = ()

    def __eq__(self, other: object) -> bool:
        return tuple.__eq__(self, tuple(cast("list[Any]", other)) if isinstance(other, list) else other)

    def __ne__(self, other: object) -> bool:
        return not self == other

    __hash__ = tuple.__hash__


MAX_DEPTH = 64
"""Levels of nesting that a payload or an untrusted document may have; the providers' own limits lie below it."""

_WORD = re.compile(r"(?<=[a-z0-9])(?=[A-Z])")
_SURROGATE = re.compile("[\ud800-\udfff]")
_LIMIT = 1 << 63


def tag_of(name: str) -> str:
    """The `type` tag of a class: `TextDelta` is `text_delta`."""
    return _WORD.sub("_", name).lower()


class Value(msgspec.Struct, frozen=True, tag_field="type", tag=tag_of, omit_defaults=True, repr_omit_defaults=True):
    """Base of all plain data: immutable, compared by value, JSON and pickle both ways."""


def freeze(value: Any, path: str = "value", depth: int = 0) -> Json:
    """`value` as JSON types: tuples for lists, dicts with string keys.

    Raises ValidationError that names the path of whatever is not JSON: a live object, NaN, a lone surrogate, an integer beyond
    64 bits (JSON readers disagree on these), or nesting deeper than MAX_DEPTH.
    """
    if value is None or value is True or value is False:
        return value
    if isinstance(value, str):
        return _text(value, path)
    if isinstance(value, int):
        if not -_LIMIT <= value < 2 * _LIMIT:
            raise ValidationError.at(path, "an integer beyond 64 bits")
        return int(value)
    if isinstance(value, float):
        if not math.isfinite(value):
            raise ValidationError.at(path, f"{value} is not JSON")
        return float(value)
    if depth >= MAX_DEPTH:
        raise ValidationError.at(path, f"nested deeper than {MAX_DEPTH} levels")
    if isinstance(value, Mapping):
        return {_key(key, path): freeze(item, f"{path}.{key}", depth + 1) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return FrozenList(freeze(item, f"{path}[{i}]", depth + 1) for i, item in enumerate(value))
    raise ValidationError.at(path, f"{type(value).__name__} is not JSON")


def freeze_dict(value: Any, path: str) -> dict[str, Json]:
    """`freeze` for a payload that must be an object."""
    if not isinstance(value, Mapping):
        raise ValidationError.at(path, f"expected an object, got {type(value).__name__}")
    return freeze(value, path) if value else {}


def _text(value: str, path: str) -> str:
    if not value.isascii() and _SURROGATE.search(value):
        raise ValidationError.at(path, "text with a lone surrogate cannot be encoded")
    return str(value)


def _key(key: Any, path: str) -> str:
    if not isinstance(key, str):
        raise ValidationError.at(path, f"the key {key!r} is no string")
    return _text(key, path)
