"""Validation of a request before anything is sent. Every problem is a ValidationError that names the field's path."""

from typing import Any, TypeGuard, cast, get_args

from allm.errors import ValidationError
from allm.freezing import freeze
from allm.images import Image
from allm.messages import (
    FilePart,
    ImagePart,
    Message,
    ProviderPart,
    ReasoningPart,
    Role,
    TextPart,
    ToolCallPart,
    Unknown,
)  # fmt: skip
from allm.requests import JsonSchema, Request, ToolSpec

__all__ = ["validate"]

_ROLES = frozenset(get_args(Role))
_PARTS = (TextPart, ImagePart, FilePart, ReasoningPart, ToolCallPart, ProviderPart, Unknown)
_CHOICES = frozenset({"auto", "none", "required"})
_DETAILS = frozenset({"auto", "low", "high"})
_EFFORTS = frozenset({"none", "low", "medium", "high"})


def validate(request: Request) -> None:
    """Raises ValidationError for the first problem found."""
    if request.model is not None:
        _text(request.model, "model")
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
    _cache(request.prompt_cache)
    form: Any = request.response_format
    if form is not None and not isinstance(form, JsonSchema) and form not in ("json", "text"):
        raise ValidationError.at("response_format", f"expected allm.json_schema(...), 'json' or 'text', got {form!r}")


def _message(message: Any, path: str) -> None:
    if not isinstance(message, Message):
        raise ValidationError.at(path, f"expected a Message, got {type(message).__name__}")
    if not isinstance(message.role, str) or message.role not in _ROLES:
        raise ValidationError.at(f"{path}.role", f"unknown role {message.role!r}")
    if message.role == "tool" and not message.tool_call_id:
        raise ValidationError.at(f"{path}.tool_call_id", "a tool result names the call it answers")
    if message.name is not None:
        _text(message.name, f"{path}.name")
    if message.tool_call_id is not None:
        _text(message.tool_call_id, f"{path}.tool_call_id")
    content: Any = message.content
    if isinstance(content, str):
        _text(content, f"{path}.content")
        return
    if not _is_tuple(content):
        raise ValidationError.at(f"{path}.content", f"expected text or parts, got {type(content).__name__}")
    for i, part in enumerate(content):
        _part(part, f"{path}.content[{i}]")


def _part(part: Any, path: str) -> None:
    if not isinstance(part, _PARTS):
        raise ValidationError.at(path, f"expected a part, got {type(part).__name__}")
    if isinstance(part, TextPart | ReasoningPart):
        _text(part.text, f"{path}.text")
    elif isinstance(part, ImagePart):
        _image(part, path)
    elif isinstance(part, FilePart):
        _file(part, path)
    elif isinstance(part, ToolCallPart):
        if not (part.id and part.name):
            raise ValidationError.at(path, "a tool call has an id and a name")
        _texts(part, ("id", "name", "raw_arguments"), path)


def _image(part: ImagePart, path: str) -> None:
    if not isinstance(part.image, Image):
        raise ValidationError.at(f"{path}.image", f"expected an image, got {type(part.image).__name__}")
    _texts(part.image, ("url", "mime"), f"{path}.image")
    detail: Any = part.detail
    if not isinstance(detail, str) or detail not in _DETAILS:
        raise ValidationError.at(f"{path}.detail", f"expected auto, low or high, got {detail!r}")


def _file(part: FilePart, path: str) -> None:
    if (part.data is None) == (part.url is None):
        raise ValidationError.at(path, "a file has either data or a url")
    if part.data is not None and not isinstance(part.data, bytes):
        raise ValidationError.at(f"{path}.data", f"expected bytes, got {type(part.data).__name__}")
    _texts(part, ("url", "mime", "name"), path)


def _texts(value: Any, names: tuple[str, ...], path: str) -> None:
    for name in names:
        if (field := getattr(value, name)) is not None:
            _text(field, f"{path}.{name}")


def _text(value: Any, path: str) -> None:
    if not isinstance(value, str):
        raise ValidationError.at(path, f"expected text, got {type(value).__name__}")
    if not value.isascii():
        freeze(value, path)


def _is_tuple(value: Any) -> TypeGuard[tuple[Any, ...]]:
    return isinstance(value, tuple)


def _tools(request: Request) -> None:
    if not isinstance(request.tools, tuple):
        raise ValidationError.at("tools", f"expected tools, got {type(request.tools).__name__}")
    seen: set[str] = set()
    for i, tool in enumerate(request.tools):
        path = f"tools[{i}]"
        if not isinstance(tool, ToolSpec):
            raise ValidationError.at(path, f"expected a tool, got {type(tool).__name__}")
        _text(tool.name, f"{path}.name")
        _text(tool.description, f"{path}.description")
        if not tool.name:
            raise ValidationError.at(f"{path}.name", "it is empty")
        if tool.name in seen:
            raise ValidationError.at(f"{path}.name", f"two tools are called {tool.name!r}")
        seen.add(tool.name)
    choice: Any = request.tool_choice
    if choice is not None and not isinstance(choice, str):
        raise ValidationError.at("tool_choice", f"expected text, got {type(choice).__name__}")
    if choice is not None and choice not in _CHOICES and choice not in seen:
        raise ValidationError.at("tool_choice", f"expected auto, none, required or the name of a tool, got {choice!r}")


def _number(path: str, value: Any, least: float, most: float) -> None:
    if value is None:
        return
    if isinstance(value, bool) or not isinstance(value, int | float) or not least <= value <= most:
        raise ValidationError.at(path, f"expected a number from {least:g} to {most:g}, got {value!r}")


def _integer(path: str, value: Any, least: int | None) -> None:
    if value is None:
        return
    if isinstance(value, bool) or not isinstance(value, int) or (least is not None and value < least):
        raise ValidationError.at(path, f"expected a whole number{'' if least is None else f' of at least {least}'}, got {value!r}")
    freeze(value, path)


def _stop(stop: Any) -> None:
    if not _is_tuple(stop):
        raise ValidationError.at("stop", f"expected texts, got {type(stop).__name__}")
    for i, word in enumerate(stop):
        if not isinstance(word, str) or not word:
            raise ValidationError.at(f"stop[{i}]", f"expected text, got {word!r}")
        _text(word, f"stop[{i}]")


def _cache(value: Any) -> None:
    if value is None:
        return
    if not isinstance(value, dict):
        raise ValidationError.at("prompt_cache", f"expected an object, got {type(value).__name__}")
    told = cast("dict[str, Any]", value)
    if unknown := sorted(told.keys() - {"key", "retention"}):
        raise ValidationError.at(f"prompt_cache.{unknown[0]}", "unknown; there are key and retention")
    if told.get("key") is not None:
        _text(told["key"], "prompt_cache.key")
    if "retention" in told and told["retention"] not in ("short", "long"):
        raise ValidationError.at("prompt_cache.retention", f"expected short or long, got {told['retention']!r}")


def _reasoning(value: Any) -> None:
    if value is None or (isinstance(value, str) and value in _EFFORTS):
        return
    if isinstance(value, bool) or not isinstance(value, int) or value < 0:
        raise ValidationError.at("reasoning", f"expected none, low, medium, high or a number of tokens, got {value!r}")
