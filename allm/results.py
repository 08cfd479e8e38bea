"""What handlers give, as JSON types: structs, dataclasses, models, sets, dates, numpy's scalars and their like, subclasses included."""

import dataclasses
import datetime
import decimal
import enum
import os
import uuid
from collections import deque
from collections.abc import ItemsView, KeysView, Mapping, ValuesView
from typing import Any, Final, cast

import msgspec

from allm.errors import ValidationError
from allm.plain import MAX_DEPTH

__all__ = ["plain"]

_BINARY: Final = (bytes, bytearray, memoryview)
_ARRAYS: Final = (list, tuple, set, frozenset, deque, range, KeysView, ValuesView, ItemsView)
_NO_KEYS: Final = (tuple, frozenset, *_BINARY)
_SMALLEST: Final = -(1 << 63)
_LARGEST: Final = (1 << 64) - 1


def plain(value: Any, depth: int = 0) -> Any:
    """The value as JSON types; what cannot be such stays, for `freeze` to refuse with its path.

    An integer beyond 64 bits becomes text, digit by digit, as readers of JSON disagree on such numbers. So do paths, dates and decimals.
    Raises ValidationError for keys that are one in JSON, and for nesting without end.
    """
    if depth > MAX_DEPTH:
        raise ValidationError.at("result", f"nested deeper than {MAX_DEPTH} levels")
    if isinstance(value, Mapping):
        return _object(cast("Mapping[Any, Any]", value), depth)
    if isinstance(value, _ARRAYS):
        return [plain(item, depth + 1) for item in cast("list[Any]", value)]
    if isinstance(value, enum.Enum):
        return plain(value.value, depth + 1)
    if callable(getattr(cast("Any", type(value)), "model_dump", None)):  # of pydantic
        return plain(value.model_dump(mode="json"), depth + 1)
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return {field.name: plain(getattr(value, field.name), depth + 1) for field in dataclasses.fields(value)}
    if isinstance(value, int) and not _SMALLEST <= int(value) <= _LARGEST:
        return str(int(value))
    if (array := _unboxed(value)) is not value:
        return plain(array, depth + 1)
    try:
        return msgspec.to_builtins(_base(value), builtin_types=_BINARY, str_keys=True)
    except (TypeError, ValueError, RecursionError):
        return _fields(value, depth) if isinstance(value, msgspec.Struct) else value


def _object(value: Mapping[Any, Any], depth: int) -> Any:
    entries = [(_key(key), item) for key, item in value.items()]
    if len({key for key, _ in entries}) < len(entries):
        raise ValidationError.at("result", f"several of the keys {[key for key, _ in entries]} are one in JSON")
    return {key: plain(item, depth + 1) for key, item in entries}


def _key(key: Any) -> Any:
    """A key as text: a number or a truth value as JSON writes it, a date, a UUID, an enum as their values are. What is none stays."""
    if isinstance(key, str) and not isinstance(key, enum.Enum):
        return key
    if key is None or isinstance(key, _NO_KEYS):
        return cast("Any", key)
    found = plain(key)
    if isinstance(found, str):
        return found
    return msgspec.json.encode(found).decode() if isinstance(found, bool | int | float) else key


def _base(value: Any) -> Any:
    """An object of a subclass of a date, a decimal or a UUID as one of that class itself, which alone msgspec knows; a path as text."""
    kind = cast("type[Any]", type(value))
    if isinstance(value, datetime.datetime) and kind is not datetime.datetime:
        whole = (value.year, value.month, value.day, value.hour, value.minute, value.second, value.microsecond)
        return datetime.datetime(*whole, tzinfo=value.tzinfo, fold=value.fold) if value == value else None  # NaT equals nothing
    if isinstance(value, datetime.date) and kind not in (datetime.date, datetime.datetime):
        return datetime.date(value.year, value.month, value.day)
    if isinstance(value, datetime.time) and kind is not datetime.time:
        return datetime.time(value.hour, value.minute, value.second, value.microsecond, tzinfo=value.tzinfo, fold=value.fold)
    if isinstance(value, datetime.timedelta) and kind is not datetime.timedelta:
        return datetime.timedelta(days=value.days, seconds=value.seconds, microseconds=value.microseconds)
    if isinstance(value, decimal.Decimal) and kind is not decimal.Decimal:
        return decimal.Decimal(value)
    if isinstance(value, uuid.UUID) and kind is not uuid.UUID:
        return uuid.UUID(int=value.int)
    return os.fspath(cast("os.PathLike[str]", value)) if isinstance(value, os.PathLike) else value


def _unboxed(value: Any) -> Any:
    """What numpy's scalars and arrays, and those that are made like them, hold in Python's own types; a date of theirs as text."""
    kind = cast("type[Any]", type(value))
    if not callable(getattr(kind, "tolist", None)) or not hasattr(kind, "dtype"):
        return value
    return str(value) if getattr(value.dtype, "kind", "") in ("M", "m") and not getattr(value, "shape", ()) else value.tolist()


def _fields(value: msgspec.Struct, depth: int) -> Any:
    """A struct that holds something which is not JSON: which field it is in is to be said."""
    names = zip(value.__struct_fields__, value.__struct_encode_fields__, strict=True)
    return {encoded: plain(getattr(value, name), depth + 1) for name, encoded in names}
