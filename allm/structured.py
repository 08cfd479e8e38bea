"""Structured output: response formats from types, answers read as these types, and what is wrong with an answer in words for the model.

A type that was given as a response format is remembered in this process, as long as it lives, under a name that is plain data. An
answer that carries the name (`metadata["response_type"]`) is read as the type; nothing is ever imported because data names it.
"""

import hashlib
import re
from collections import OrderedDict
from collections.abc import Iterator, Mapping
from itertools import count
from typing import Any, Final, Literal, NamedTuple, TypeAlias, cast
from weakref import ref

import msgspec

from allm.errors import ValidationError
from allm.freezing import freeze
from allm.hints import convert, schema_of
from allm.requests import JsonSchema
from allm.schemas import problem

__all__ = ["as_format", "parse", "problem_of", "runs_code", "type_name"]

Format: TypeAlias = JsonSchema | Literal["json", "text"]

_FENCE: Final = "```"
_THOUGHT: Final = "</think>"
_HINTS_KEPT: Final = 256


class _Entry(NamedTuple):
    """A type that was given: itself if it still lives, its format, the schema before it was closed, and whether the answer is an object
    with it as `value`."""

    weak: "ref[Any] | None"
    strong: Any
    format: JsonSchema
    schema: dict[str, Any]
    wrapped: bool

    @property
    def type(self) -> Any:
        return self.weak() if self.weak is not None else self.strong

    @property
    def name(self) -> str:
        """With the module, so that another process does not take its own type of this name for it."""
        return f"{getattr(self.type, '__module__', '')}:{self.format.name}"


_entries: dict[str, _Entry] = {}
"""By the names of their formats, which are unlike each other for types that live at one time."""

_hints: "OrderedDict[str, None]" = OrderedDict()
"""Names of those that are no classes (`list[Answer]`), which nothing else keeps: the latest ones stay."""


_schemas: "OrderedDict[str, dict[str, Any]]" = OrderedDict()
"""Schemas that were given as they are, by their hash: the latest ones stay."""


def as_format(given: Any) -> Format:
    """The response format that is meant: `allm.json_schema(...)`, `"json"` or `"text"` as it is; a type as the schema of its JSON.

    A type whose JSON is no object is asked for as the field `value` of one. The schema is `strict` where it has nothing that strict
    modes refuse: open objects, anything of any type, tuples of several types. Raises ValidationError for what is no type.
    """
    if isinstance(given, JsonSchema):
        return given
    if given == "json" or given == "text":
        word: Literal["json", "text"] = given
        return word
    if isinstance(given, Mapping) and given.keys() >= {"name", "schema"}:  # as it stands in an engine's params
        return msgspec.convert(dict(cast("Mapping[str, Any]", given)), JsonSchema)
    if isinstance(given, str | Mapping) or given is None or given is Any:
        raise ValidationError.at("response_format", f"expected allm.json_schema(...), a type, 'json' or 'text', got {given!r}")
    known = next((entry for entry in list(_entries.values()) if _is_same(entry.type, given)), None)
    return known.format if known is not None else _remember(given)


def type_name(format: Any) -> str | None:
    """The name under which the type of this format, or else its schema, is remembered here; None for what is no schema."""
    if not isinstance(format, JsonSchema):
        return None
    entry = _entries.get(format.name)
    if entry is not None and entry.type is not None and entry.format == format:
        return entry.name
    name = "schema:" + hashlib.sha256(msgspec.json.encode(format.schema, order="sorted")).hexdigest()[:16]
    _schemas[name] = format.schema
    _schemas.move_to_end(name)
    while len(_schemas) > _HINTS_KEPT:
        _schemas.pop(next(iter(_schemas)), None)
    return name


def parse(text: str, name: Any = None) -> Any:
    """The answer as JSON that fits the schema, or as the type, that is remembered by this name. Raises ValidationError telling what does
    not fit."""
    value = _read(text)
    if isinstance(name, str) and (schema := _schemas.get(name)) is not None:
        if (wrong := problem(value, schema)) is not None:
            raise ValidationError.at("parsed", wrong)
        return value
    entry = _entries.get(name.rpartition(":")[2]) if isinstance(name, str) else None
    hint = entry.type if entry is not None and entry.name == name else None
    if entry is None or hint is None:
        return value
    try:
        if not entry.wrapped:
            return convert(value, hint, "parsed")
        return convert(value["value"] if isinstance(value, Mapping) and "value" in value else value, hint, "parsed")
    except ValidationError as error:  # the schema says it better
        wrong = problem(value, entry.schema)
        raise ValidationError.at("parsed", wrong) if wrong else error from None


def problem_of(text: str, format: Any) -> str | None:
    """What is wrong with an answer that was to fit the format, in words for the model; None if nothing is."""
    if format is None or format == "text":
        return None
    try:
        parse(text, type_name(format))
    except ValidationError as error:
        return error.message.removeprefix("parsed").lstrip(".: ")
    return None


def runs_code(format: JsonSchema) -> bool:
    """Whether the check of an answer may run code of the user's: the format was made from a type that lives here."""
    entry = _entries.get(format.name)
    return entry is not None and entry.type is not None and entry.format == format


def _read(text: str) -> Any:
    """JSON, also with a code fence around it or words beside it, or as a text in JSON. Linear in the text: a model that runs away writes
    blanks without end."""
    wrong: Exception | None = None
    for piece in _pieces(text):
        try:
            told = msgspec.json.decode(piece)
            return freeze(_object_in(told) if isinstance(told, str) else told, "parsed")
        except (ValueError, RecursionError) as error:
            wrong = wrong or error
    raise ValidationError.at("parsed", f"the answer is no JSON: {wrong}") from None


def _pieces(text: str) -> Iterator[str]:
    """What may be the JSON in an answer, most likely first: all of it, what is fenced, what the words before lead to."""
    if _THOUGHT in text and text.lstrip()[:1] not in ("{", "["):  # open models think aloud where their host does not tell that apart
        text = text.rpartition(_THOUGHT)[2]
    if text.startswith("{}") and len(text) > 2:  # what some hosts begin all arguments with: the answer as a tool's
        yield text[2:]
    start = text.find(_FENCE)
    if start >= 0 and not text[:start].strip():  # the error shall be told of what is in the fence
        yield _fenced(text, start)
    yield text
    if start > 0:
        yield _fenced(text, start)
    begun = min((place for place in (text.find("{"), text.find("[")) if place >= 0), default=0)
    ended = max(text.rfind("}"), text.rfind("]")) + 1
    if begun < ended < len(text) or (begun and ended == len(text)):
        yield text[begun:ended]


def _object_in(told: str) -> Any:
    """The object that this text is, if it is one's JSON: a host encoded it twice."""
    try:
        inner = msgspec.json.decode(told)
    except (ValueError, RecursionError):
        return told
    return cast("dict[str, Any]", inner) if isinstance(inner, dict) else told


def _fenced(text: str, start: int) -> str:
    """What stands between the first fence and the last one, without the word for the language."""
    line = text.find("\n", start)
    end = text.rfind(_FENCE)
    return text[line + 1 : end] if start < line < end else text


# Remembering


def _is_same(one: Any, other: Any) -> bool:
    if isinstance(one, type) or isinstance(other, type) or one is None:
        return one is other
    return type(one) is type(other) and bool(one == other)


def _remember(hint: Any) -> JsonSchema:
    try:
        schema = schema_of(hint)
    except ValidationError as error:
        raise ValidationError.at("response_format", error.message) from None
    schema, wrapped = _as_object(schema)
    strict = _closed(schema)
    is_class = isinstance(hint, type) and not hasattr(hint, "__origin__")
    for name in _names(hint.__name__ if is_class else str(hint)):
        format = JsonSchema(name, strict or schema, strict is not None)
        entry = _Entry(_weak(hint, name) if is_class else None, None if is_class else hint, format, schema, wrapped)
        if _entries.setdefault(name, entry) is not entry:
            continue
        if not is_class:
            _hints[name] = None
            if len(_hints) > _HINTS_KEPT:
                _entries.pop(_hints.popitem(last=False)[0], None)
        return format
    raise AssertionError("there is always one name more")


def _weak(hint: Any, name: str) -> "ref[Any]":
    def forget(_: object) -> None:
        _entries.pop(name, None)

    return ref(hint, forget)


def _names(wanted: str) -> Iterator[str]:
    """Of letters, digits, _ and -, as the providers want it, up to 60; a number behind it where another type has it."""
    base = re.sub(r"[^A-Za-z0-9_-]+", "_", re.sub(r"[\w.]*\.", "", wanted)).strip("_")[:50] or "answer"
    return (base if n == 1 else f"{base}_{n}" for n in count(1))


def _as_object(schema: dict[str, Any]) -> tuple[dict[str, Any], bool]:
    """(schema, whether it was wrapped): the providers want an object at the top, and no reference."""
    definitions = {"$defs": schema["$defs"]} if "$defs" in schema else {}
    if isinstance(reference := schema.get("$ref"), str):
        schema = {**definitions.get("$defs", {})[reference.removeprefix("#/$defs/")], **definitions}
    if schema.get("type") == "object":
        return schema, False
    inner = {name: item for name, item in schema.items() if name != "$defs"}
    wrapped = {"type": "object", "properties": {"value": inner}, "required": ["value"], "additionalProperties": False}
    return {**wrapped, **definitions}, True


# Strict modes

_STRICT: Final = frozenset({
    "type", "properties", "required", "additionalProperties", "items", "enum", "const", "anyOf", "$ref", "$defs", "description", "pattern",
    "format", "minimum", "maximum", "exclusiveMinimum", "exclusiveMaximum", "multipleOf", "minItems", "maxItems",
})  # fmt: skip
_FORMATS: Final = frozenset({"date-time", "time", "date", "duration", "email", "hostname", "ipv4", "ipv6", "uuid"})


def _closed(schema: Any) -> dict[str, Any] | None:
    """The schema as strict modes want it, each field required and no default; None if it has what they refuse.

    (OpenAI's structured outputs: every field required, no further ones, no defaults, a type or a choice everywhere.)
    """
    if not isinstance(schema, Mapping):
        return None
    given = {name: item for name, item in cast("Mapping[str, Any]", schema).items() if name != "default"}
    if not _STRICT.issuperset(given) or not {"type", "anyOf", "$ref", "enum", "const"}.intersection(given):
        return None
    if given.get("format", "date") not in _FORMATS:
        return None
    if given.get("type") == "array" and "items" not in given:
        return None
    if given.get("type") == "object":
        if given.get("additionalProperties") is not False:
            return None
        given["required"] = list(given.get("properties", ()))
    for name in ("properties", "$defs"):
        if name in given and not _close_all(given, name, given[name].items()):
            return None
    if "anyOf" in given and not _close_all(given, "anyOf", enumerate(given["anyOf"])):
        return None
    if "items" in given:
        given["items"] = _closed(given["items"])
    return None if given.get("items", {}) is None else given


def _close_all(given: dict[str, Any], name: str, items: Any) -> bool:
    closed = {key: _closed(inner) for key, inner in items}
    given[name] = list(closed.values()) if name == "anyOf" else closed
    return None not in closed.values()
