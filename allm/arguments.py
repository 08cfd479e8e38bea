"""The arguments of a tool call, from the text that a model wrote."""

from typing import Any, Final

from allm.errors import ValidationError
from allm.freezing import freeze_dict
from allm.wire_json import MalformedJson, decode, is_object

__all__ = ["read_arguments"]

_MOST_ARGUMENTS: Final = 1 << 20
"""Characters of a tool call's arguments that are read: the loop must not stand still for a model that writes without end."""


def read_arguments(raw: str) -> tuple[str, dict[str, Any]]:
    """(what the model wrote, the arguments as an object). An object that a host encoded twice, or a model fenced, is read, and one behind
    the `{}` that a host begins all arguments with; `{}` stands for none, and for what is no JSON object or beyond the limits (the raw text
    tells)."""
    text = raw.strip()
    if not text or len(raw) > _MOST_ARGUMENTS:
        return raw, {}
    given = text.strip("`").removeprefix("json").strip() if text.startswith("```") and text.endswith("```") else raw
    if text.startswith("{}") and len(text) > 2:
        given = text[2:]
    try:
        told = decode(given.encode())
        if isinstance(told, str) and is_object(inner := decode(told.encode())):
            given, told = told, inner
        return given, freeze_dict(told, "arguments")
    except (MalformedJson, ValidationError, UnicodeEncodeError):
        return raw, {}
