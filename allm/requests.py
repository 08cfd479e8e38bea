"""Requests: what is asked of a model, with no word of any provider in it."""

from collections.abc import Sequence
from typing import Any, Literal, TypeAlias, cast

from msgspec.structs import force_setattr

from allm.freezing import freeze, freeze_dict, frozen_schema
from allm.messages import Message
from allm.plain import Value

__all__ = ["JsonSchema", "Reasoning", "Request", "ToolSpec", "json_schema", "request"]

Reasoning: TypeAlias = Literal["none", "low", "medium", "high"] | int


class ToolSpec(Value, frozen=True):
    """A tool as the model sees it: no handler. `schema` is the JSON Schema of its arguments, an object."""

    name: str
    description: str = ""
    schema: dict[str, Any] = {}
    manual: bool = False

    def __post_init__(self) -> None:
        if self.schema:
            force_setattr(self, "schema", frozen_schema(self.schema, f"tools.{self.name}.schema"))


class JsonSchema(Value, frozen=True):
    """A response format: the answer is JSON that fits `schema`."""

    name: str
    schema: dict[str, Any]
    strict: bool = True

    def __post_init__(self) -> None:
        force_setattr(self, "schema", frozen_schema(self.schema, "response_format.schema"))


class Request(Value, frozen=True):
    """One request. What is None is left to the engine, and then to the provider."""

    messages: tuple[Message, ...]
    model: str | None = None
    tools: tuple[ToolSpec, ...] = ()
    tool_choice: str | None = None
    temperature: float | None = None
    top_p: float | None = None
    max_tokens: int | None = None
    stop: tuple[str, ...] = ()
    seed: int | None = None
    reasoning: Reasoning | None = None
    response_format: JsonSchema | Literal["json", "text"] | None = None
    structured_finalize: bool = False
    prompt_cache: dict[str, Any] | None = None
    options: dict[str, Any] = {}
    metadata: dict[str, Any] = {}

    def __post_init__(self) -> None:
        messages, tools = cast("tuple[Any, Any]", (self.messages, self.tools))
        if type(messages) is list:
            force_setattr(self, "messages", tuple(cast("list[Message]", messages)))
        if type(tools) is list:
            force_setattr(self, "tools", tuple(cast("list[ToolSpec]", tools)))
        stop: Any = self.stop
        if type(stop) is not tuple:
            force_setattr(self, "stop", (stop,) if isinstance(stop, str) else freeze(stop, "stop"))
        if self.prompt_cache:
            force_setattr(self, "prompt_cache", freeze_dict(self.prompt_cache, "prompt_cache"))
        if self.options:
            force_setattr(self, "options", freeze_dict(self.options, "options"))
        if self.metadata:
            force_setattr(self, "metadata", freeze_dict(self.metadata, "metadata"))


def request(messages: Sequence[Message], **fields: Any) -> Request:
    """A Request; `fields` are its fields. An unknown one is a TypeError."""
    if unknown := fields.keys() - set(Request.__struct_fields__):
        raise TypeError(f"unknown fields {sorted(unknown)}; what only the provider knows goes into options={{...}}")
    return Request(tuple(messages), **fields)


def json_schema(name: str, schema: dict[str, Any], strict: bool = True) -> JsonSchema:
    """A response format for `Request.response_format`."""
    return JsonSchema(name, schema, strict)
