"""Validation of a request before anything is sent. Every problem is a ValidationError that names the field's path."""

import math
from collections.abc import Sequence
from typing import Any, get_args

from allm.errors import ValidationError
from allm.messages import (
    FilePart, ImagePart, Message, ProviderPart, ReasoningPart, Role, TextPart, ToolCallPart, Unknown,
)  # fmt: skip
from allm.plain import freeze
from allm.requests import JsonSchema, Request, ToolSpec

__all__ = ["validate"]

_ROLES = frozenset(get_args(Role))
_PARTS = (TextPart, ImagePart, FilePart, ReasoningPart, ToolCallPart, ProviderPart, Unknown)
_CHOICES = frozenset({"auto", "none", "required"})
_EFFORTS = frozenset({"none", "low", "medium", "high"})


def validate(request: Request) -> None:
    """Raises ValidationError for the first problem found."""
    if not request.messages:
        raise ValidationError.at("messages", "there are none")
    for i, message in enumerate(request.messages):
        _message(message, f"messages[{i}]")
    _tools(request)
    _number("temperature", request.temperature, 0, 2)
    _number("top_p", request.top_p, 0, 1)
    _integer("max_tokens", request.max_tokens, 1)
    _integer("seed", request.seed, None)
    _stop(request.stop)
    _reasoning(request.reasoning)
    form: Any = request.response_format
    if form is not None and not isinstance(form, JsonSchema) and form not in ("json", "text"):
        raise ValidationError.at("response_format", f"expected allm.json_schema(...), 'json' or 'text', got {form!r}")


def _message(message: Any, path: str) -> None:
    if not isinstance(message, Message):
        raise ValidationError.at(path, f"expected a Message, got {type(message).__name__}")
    if message.role not in _ROLES:
        raise ValidationError.at(f"{path}.role", f"unknown role {message.role!r}")
    if message.role == "tool" and not message.tool_call_id:
        raise ValidationError.at(f"{path}.tool_call_id", "a tool result names the call it answers")
    content: Any = message.content
    if isinstance(content, str):
        if not content.isascii():
            freeze(content, f"{path}.content")
        return
    if not isinstance(content, tuple):
        raise ValidationError.at(f"{path}.content", f"expected text or parts, got {type(content).__name__}")
    for i, part in enumerate(content):
        _part(part, f"{path}.content[{i}]")


def _part(part: Any, path: str) -> None:
    if not isinstance(part, _PARTS):
        raise ValidationError.at(path, f"expected a part, got {type(part).__name__}")
    if isinstance(part, TextPart | ReasoningPart):
        if not isinstance(part.text, str):
            raise ValidationError.at(f"{path}.text", f"expected text, got {type(part.text).__name__}")
        freeze(part.text, f"{path}.text")
    elif isinstance(part, FilePart) and (part.data is None) == (part.url is None):
        raise ValidationError.at(path, "a file has either data or a url")
    elif isinstance(part, ToolCallPart) and not (part.id and part.name):
        raise ValidationError.at(path, "a tool call has an id and a name")


def _tools(request: Request) -> None:
    seen: set[str] = set()
    for i, tool in enumerate(request.tools):
        path = f"tools[{i}]"
        if not isinstance(tool, ToolSpec):
            raise ValidationError.at(path, f"expected a tool, got {type(tool).__name__}")
        if not tool.name:
            raise ValidationError.at(f"{path}.name", "it is empty")
        if tool.name in seen:
            raise ValidationError.at(f"{path}.name", f"two tools are called {tool.name!r}")
        seen.add(tool.name)
    choice = request.tool_choice
    if choice is not None and choice not in _CHOICES and choice not in seen:
        raise ValidationError.at("tool_choice", f"expected auto, none, required or the name of a tool, got {choice!r}")


def _number(path: str, value: Any, least: float, most: float) -> None:
    if value is None:
        return
    if isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value) or not least <= value <= most:
        raise ValidationError.at(path, f"expected a number from {least:g} to {most:g}, got {value!r}")


def _integer(path: str, value: Any, least: int | None) -> None:
    if value is None:
        return
    if isinstance(value, bool) or not isinstance(value, int) or (least is not None and value < least):
        raise ValidationError.at(path, f"expected a whole number{'' if least is None else f' of at least {least}'}, got {value!r}")
    freeze(value, path)


def _stop(stop: Sequence[Any]) -> None:
    for i, word in enumerate(stop):
        if not isinstance(word, str) or not word:
            raise ValidationError.at(f"stop[{i}]", f"expected text, got {word!r}")


def _reasoning(value: Any) -> None:
    if value is None or (isinstance(value, str) and value in _EFFORTS):
        return
    if isinstance(value, bool) or not isinstance(value, int) or value < 0:
        raise ValidationError.at("reasoning", f"expected none, low, medium, high or a number of tokens, got {value!r}")
