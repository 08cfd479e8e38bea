"""JSON as it goes over a wire: fast where it can be, forgiving where providers are careless."""

import json
from collections.abc import Callable
from typing import Any, Final, TypeGuard

import msgspec

__all__ = ["MalformedJson", "decode", "encode", "is_array", "is_object", "too_crowded"]

encode = msgspec.json.Encoder().encode
"""Anything made of plain data -> bytes."""

_CONTAINER: Final = 64
_ITEM: Final = 32
"""Bytes that a small list or dict, and a number or text in one, take at least."""
_WINDOW: Final = 1 << 20


class MalformedJson(Exception):
    """Bytes that are no JSON. Carries nothing of them."""


def _refuse(word: str) -> Any:
    raise ValueError(word)


def decode(data: bytes, constant: Callable[[str], Any] = _refuse) -> Any:
    """JSON that somebody else wrote. A lone surrogate (an emoji cut in two by a careless host) and a byte that is no UTF-8 become U+FFFD;
    NaN and its like are refused, unless `constant` gives what stands for such a word."""
    try:
        return msgspec.json.decode(data)
    except RecursionError:
        raise MalformedJson from None
    except (msgspec.DecodeError, UnicodeDecodeError):
        return _forgiving(data, constant)


def is_object(value: Any) -> TypeGuard[dict[str, Any]]:
    """Whether decoded JSON is an object."""
    return isinstance(value, dict)


def is_array(value: Any) -> TypeGuard[list[Any]]:
    """Whether decoded JSON is an array."""
    return isinstance(value, list)


def too_crowded(data: bytes, most: int) -> bool:
    """Whether objects made of this JSON might take more than `most` bytes: `[],` thirteen million times is 39 MB, and a gigabyte then.

    A rough count that is too high for JSON with much punctuation in its texts.
    """
    if len(data) * _CONTAINER <= most:
        return False
    size = 0
    for start in range(0, len(data), _WINDOW):  # counting holds the interpreter
        end = start + _WINDOW
        size += (data.count(b"[", start, end) + data.count(b"{", start, end)) * _CONTAINER + data.count(b",", start, end) * _ITEM
        if size > most:
            return True
    return False


def _forgiving(data: bytes, constant: Callable[[str], Any]) -> Any:
    try:
        told = json.loads(data.decode("utf-8-sig", "replace"), parse_constant=constant)
        text = json.dumps(told, ensure_ascii=False)
        return msgspec.json.decode(text.encode("utf-16-le", "surrogatepass").decode("utf-16-le", "replace"))
    except (ValueError, RecursionError):
        raise MalformedJson from None
