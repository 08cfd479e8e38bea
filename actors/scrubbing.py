"""Strikes a key out of what a provider says: some echo it in their errors. Pure.

A key may be any word ("none", "ollama", for a host that wants one): a short one is struck out as a whole word only, and what a body's
fields are called is read before anything is struck out. Texts of our own do not come here.
"""

import re
from typing import Any, cast

from allm.errors import ErrorInfo
from allm.wire_json import MalformedJson, decode, encode, is_array, is_object

__all__ = ["scrubbed", "struck_body"]

_LONG = 8
"""Characters from which on a key is no word that stands in other words."""


def scrubbed(error: ErrorInfo, key: str | None) -> ErrorInfo:
    """The error without the key, wherever a provider echoed it."""
    if not key:
        return error
    return ErrorInfo(
        error.kind,
        error.reason,
        _struck(error.message, key),
        error.status,
        error.retry_after,
        error.request_id,
        error.provider,
        _scrub(error.metadata, key, len(key) >= _LONG),
    )


def struck_body(body: bytes, key: str) -> bytes:
    """A body without the key. One that is JSON is the same JSON, with other texts in it."""
    try:
        return encode(_scrub(decode(body), key, names=False))
    except (MalformedJson, RecursionError):  # a text, or JSON that nobody reads
        return _struck(body.decode("utf-8", "surrogateescape"), key).encode("utf-8", "surrogateescape")


def _struck(text: str, key: str) -> str:
    if len(key) >= _LONG:
        return text.replace(key, "***")
    return re.sub(rf"(?<![\w-]){re.escape(key)}(?![\w-])", "***", text)


def _scrub(value: Any, key: str, names: bool) -> Any:
    """Plain data without the key, however deep it stands; in the names of fields, too, if `names`."""
    if isinstance(value, str):
        return _struck(value, key)
    if is_object(value):
        return {_struck(name, key) if names else name: _scrub(inner, key, names) for name, inner in value.items()}
    if is_array(value) or isinstance(value, tuple):
        return tuple(_scrub(inner, key, names) for inner in cast("tuple[Any, ...]", value))
    return value
