"""A number for each key that equal keys share, in every process: what places a key in a partition.

`hash` will not do: for text it differs from process to process. `repr` will not, either: equal keys have different
ones, and one key may have many. So a key is written down by that by which its type compares:

| key | placed by |
|---|---|
| a whole number, of whatever type (`True`, `1.0`, `Decimal(1)`) | itself |
| another number | its exact value |
| `str`, `bytes` and types that compare as they do (`StrEnum`) | their content |
| `tuple` and `frozenset` | their elements |
| members of an `Enum` | their names |
| dataclasses with the ``__eq__`` made for them | the fields that are compared |
| dates and times, UUIDs, paths, IP addresses, `range` | their value |
| an object with a method ``partition_key()`` | what that returns |
| an object that is equal to itself alone (such as an actor's ref) | its identity, while it lives; in no other process is it the same |

Any other key is refused with `TypeError`: an ``__eq__`` does not tell by what it compares. So is NaN, which is not even equal
to itself.
"""

from __future__ import annotations

import datetime
import ipaddress
import numbers
import uuid
import zlib
from collections import UserString
from collections.abc import Callable, Hashable
from dataclasses import fields, is_dataclass
from decimal import Decimal
from enum import Enum
from pathlib import PurePath
from typing import Any

from pykka import ActorRef

__all__ = ["key_number"]

_EPOCH = datetime.datetime.min
_MICROSECOND = datetime.timedelta(microseconds=1)
_TUPLE: Any = tuple
_FROZENSET: Any = frozenset
_BY_TEXT = (uuid.UUID, ipaddress.IPv4Address, ipaddress.IPv6Address, ipaddress.IPv4Network, ipaddress.IPv6Network)


def key_number(key: Hashable) -> int:
    """Return the number of a key: a whole number is its own; `TypeError` when the key can have none."""
    written = _write(key)
    return written if isinstance(written, int) else zlib.crc32(repr(written).encode())


# What is written is made of ASCII text, bytes and tuples, whose `repr` is the same everywhere.


def _type_of(key: object) -> Any:
    return type(key)


def _part(key: Any) -> str | tuple[Any, ...]:
    """Write a key that is part of another."""
    written = _write(key)
    return hex(written) if isinstance(written, int) else written  # in decimals a number may have 4300 digits


def _write(key: Any) -> int | tuple[Any, ...]:
    kind = _type_of(key)
    if key is None or key is Ellipsis or key is NotImplemented:  # by Python 3.13 None compares by a method of its own
        return _text(repr(key))
    own: Callable[[], Hashable] | None = getattr(kind, "partition_key", None)
    if own is not None:
        return _write(key.partition_key())
    for equal, write in _BY_EQUALITY:
        if kind.__eq__ is equal:
            return write(key)
    if isinstance(key, (numbers.Number, Decimal)):
        return _number(key)
    if is_dataclass(key) and _is_generated(kind.__eq__):
        return ("fields", _text(kind.__qualname__), *(_part(getattr(key, field.name)) for field in fields(key) if field.compare))
    if kind.__eq__ is object.__eq__:
        return _identity(key)
    for type_, write in _BY_TYPE:
        if isinstance(key, type_):
            return write(key)
    raise TypeError(
        f"a key of type {kind.__qualname__} has no place that is the same for all keys that equal it: "
        "use text, numbers or tuples of them, or give the class a method partition_key() that returns such a value"
    )


def _is(key: Any, kind: type) -> bool:
    return isinstance(key, kind)


def _number(key: Any) -> int | tuple[Any, ...]:
    """Write a number by its exact value, so that equal numbers of different types are one."""
    if _is(key, numbers.Integral):
        return int(key)
    if _is(key, numbers.Complex) and not _is(key, numbers.Real):
        return _number(key.real) if key.imag == 0 else ("complex", _part(key.real), _part(key.imag))
    if key.is_nan() if _is(key, Decimal) else key != key:
        raise TypeError("NaN is equal to nothing, itself included: as a key it has no place")
    if not _is(key, numbers.Rational) and key in (float("inf"), float("-inf")):
        return ("infinite", int(key > 0))
    above, below = (key.numerator, key.denominator) if _is(key, numbers.Rational) else key.as_integer_ratio()
    return int(above) if below == 1 else ("ratio", hex(above), hex(below))


def _text(key: str) -> tuple[Any, ...]:
    return ("text", str.encode(key, "utf-8", "surrogatepass"))


def _set(key: frozenset[Any]) -> tuple[Any, ...]:
    return ("set", *sorted(map(repr, map(_part, _FROZENSET.__iter__(key)))))


def _range(key: range) -> tuple[Any, ...]:
    return ("range", hex(len(key)), *map(hex, key[:1]), *([hex(key.step)] if len(key) > 1 else ()))


def _moment(key: datetime.datetime) -> tuple[Any, ...]:
    key = key.replace(fold=0)  # as in comparisons
    offset = key.utcoffset()
    since = key.replace(tzinfo=None) - _EPOCH
    return ("datetime", since // _MICROSECOND) if offset is None else ("moment", (since - offset) // _MICROSECOND)


def _time(key: datetime.time) -> tuple[Any, ...]:
    key = key.replace(fold=0)
    offset = key.utcoffset()
    of_day = datetime.timedelta(hours=key.hour, minutes=key.minute, seconds=key.second, microseconds=key.microsecond)
    return ("time", of_day // _MICROSECOND) if offset is None else ("zoned", (of_day - offset) // _MICROSECOND)


def _path(key: PurePath) -> tuple[Any, ...]:
    text = str(key)
    return _text(text if key.__class__("A") != key.__class__("a") else text.lower())


def _identity(key: Any) -> int | tuple[Any, ...]:
    if isinstance(key, Enum):
        return ("member", _text(type(key).__qualname__), _text(key.name) if key.name else _part(key.value))
    if isinstance(key, ActorRef):
        return _text(key.actor_urn)
    return ("object", id(key))


def _is_generated(equal: Any) -> bool:
    """Whether `dataclass` has made this method, and not the class itself: it compiles its own from text."""
    code = getattr(equal, "__code__", None)
    return code is not None and code.co_filename.startswith("<") and "__class__" in code.co_names


_BY_EQUALITY: tuple[tuple[Any, Callable[[Any], int | tuple[Any, ...]]], ...] = (
    (int.__eq__, int.__int__),
    (str.__eq__, _text),
    (_TUPLE.__eq__, lambda key: ("tuple", *map(_part, _TUPLE.__iter__(key)))),
    (bytes.__eq__, lambda key: ("bytes", bytes.__add__(key, b""))),
    (float.__eq__, _number),
    (_FROZENSET.__eq__, _set),
    (datetime.datetime.__eq__, _moment),
    (datetime.date.__eq__, lambda key: ("date", key.toordinal())),
    (datetime.time.__eq__, _time),
    (datetime.timedelta.__eq__, lambda key: ("duration", key // _MICROSECOND)),
    (range.__eq__, _range),
)
"""How a key is written whose type compares by exactly this method."""

_BY_TYPE: tuple[tuple[Any, Callable[[Any], int | tuple[Any, ...]]], ...] = (
    (_BY_TEXT, lambda key: _text(str(key))),
    (PurePath, _path),
    (UserString, lambda key: _text(str(key))),
    (memoryview, lambda key: ("bytes", key.tobytes())),
)
