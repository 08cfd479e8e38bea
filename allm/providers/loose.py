"""Answers that a typed decoder refused, read field by field: what does not fit is dropped, and what is near enough is taken.

A typed decoder is fast because it knows each field's type, and refuses the whole event for one of another: an id that is a number, an
`index` of null. The answer itself is mostly sound. So what was refused is decoded once more, untyped, and each field is tried for itself.
"""

import base64
from functools import cache
from types import UnionType
from typing import Any, Final, TypeVar, Union, get_args, get_origin

import msgspec

from allm.wire_json import decode, is_array, is_object

__all__ = ["bytes_of", "decode_answer", "read_loosely"]

T = TypeVar("T", bound=msgspec.Struct)

_NONE: Final = type(None)
_MISFIT: Final = object()


def decode_answer(data: bytes) -> Any:
    """JSON of an answer, whatever its shape. NaN and infinity, which hosts write into fields that nobody needs, become None. Raises
    MalformedJson."""
    return decode(data, lambda _: None)


def bytes_of(text: str) -> bytes:
    """The bytes that are written as base64: as a data URI, over several lines, in either alphabet. Raises ValueError for what is none."""
    if text[:5].lower() == "data:":
        text = text.partition(",")[2]
    return base64.b64decode("".join(text.splitlines()).replace("-", "+").replace("_", "/"), validate=True)


def read_loosely(told: dict[str, Any], kind: type[T]) -> T:
    """The struct of those fields of `told` that fit."""
    fields: dict[str, Any] = {}
    for name, encoded, wanted in _fields(kind):
        if encoded in told and (value := _fit(told[encoded], wanted)) is not _MISFIT:
            fields[name] = value
    return kind(**fields)


@cache
def _fields(kind: type[msgspec.Struct]) -> tuple[tuple[str, str, tuple[Any, ...]], ...]:
    """(name, name on the wire, types) of each field."""
    return tuple((field.name, field.encode_name, _options(field.type)) for field in msgspec.structs.fields(kind))


def _options(wanted: Any) -> tuple[Any, ...]:
    return get_args(wanted) if get_origin(wanted) in (Union, UnionType) else (wanted,)


def _fit(value: Any, options: tuple[Any, ...]) -> Any:
    """The value as the first of these types that takes it, or _MISFIT."""
    for option in options:
        if (fitted := _as(value, option)) is not _MISFIT:
            return fitted
    return _MISFIT


def _as(value: Any, wanted: Any) -> Any:
    if wanted is Any:
        return value
    if wanted is msgspec.Raw:
        return msgspec.Raw(msgspec.json.encode(value))
    if wanted is msgspec.UnsetType:
        return _MISFIT
    if wanted is _NONE:
        return None if value is None else _MISFIT
    if wanted is str:
        return _text(value)
    if isinstance(wanted, type) and issubclass(wanted, msgspec.Struct):
        return read_loosely(value, wanted) if is_object(value) else _MISFIT
    if get_origin(wanted) is list:
        return _list(value, _options(get_args(wanted)[0]))
    return _plain(value, wanted)


def _plain(value: Any, wanted: Any) -> Any:
    try:
        return msgspec.convert(value, wanted, strict=False)
    except (msgspec.ValidationError, RecursionError):
        return _MISFIT


def _list(value: Any, options: tuple[Any, ...]) -> Any:
    """The items that fit; one object stands for a list of one."""
    if is_object(value) and value:
        value = [value]
    if not is_array(value):
        return _MISFIT
    return [fitted for item in value if (fitted := _fit(item, options)) is not _MISFIT]


def _text(value: Any) -> Any:
    """A text; a number as one; the texts of parts, joined."""
    if isinstance(value, str):
        return value
    if isinstance(value, int | float) and not isinstance(value, bool):
        return str(value)
    if is_array(value):
        pieces = [each.get("text") if is_object(each) else each for each in value]
        return "".join([piece for piece in pieces if isinstance(piece, str)])
    return value["text"] if is_object(value) and isinstance(value.get("text"), str) else _MISFIT
