"""OpenAI Chat Completions: a neutral request -> the body. Compatible hosts take the same."""

import base64
from typing import Any

from allm.engine import Engine
from allm.errors import ValidationError
from allm.messages import (
    FilePart,
    ImagePart,
    Message,
    Part,
    ProviderPart,
    ReasoningPart,
    TextPart,
    ToolCallPart,
    Unknown,
)
from allm.requests import JsonSchema, Reasoning, Request, ToolSpec
from allm.wire_json import encode

__all__ = ["chat_body"]

_LOW, _MEDIUM = 2048, 8192  # tokens: where an effort of low, then of medium, ends


def chat_body(engine: Engine, request: Request, base_url: str, stream: bool) -> dict[str, Any]:
    """The body of a chat completion. Raises ValidationError for what the wire cannot carry."""
    body: dict[str, Any] = {"model": request.model or engine.model}
    body["messages"] = [item for i, message in enumerate(request.messages) for item in _message(message, f"messages[{i}]")]
    if stream:
        body["stream"] = True
        if engine.adapter_opts.get("stream_options", True):
            body["stream_options"] = {"include_usage": True}
    if request.tools:
        body["tools"] = [_tool(tool) for tool in request.tools]
    if request.tool_choice is not None:
        body["tool_choice"] = _tool_choice(request.tool_choice)
    for name in ("temperature", "top_p", "seed"):
        if (value := getattr(request, name)) is not None:
            body[name] = value
    if request.max_tokens is not None:
        body[_max_tokens_field(engine, base_url)] = request.max_tokens
    if request.stop:
        body["stop"] = request.stop
    if request.reasoning is not None:
        body["reasoning_effort"] = _effort(request.reasoning)
    if request.response_format is not None:
        body["response_format"] = _response_format(request.response_format)
    if request.prompt_cache is not None:
        if request.prompt_cache.get("key"):
            body["prompt_cache_key"] = request.prompt_cache["key"]
        if request.prompt_cache.get("retention") == "long":
            body["prompt_cache_retention"] = "24h"
    return {**body, **request.options}


def _max_tokens_field(engine: Engine, base_url: str) -> str:
    """OpenAI's reasoning models refuse `max_tokens`, compatible hosts know nothing else."""
    host = base_url.lower().partition("://")[2].partition("/")[0].partition(":")[0]
    own = host == "api.openai.com" or host.endswith((".api.openai.com", ".azure.com"))
    return str(engine.adapter_opts.get("max_tokens_field") or ("max_completion_tokens" if own else "max_tokens"))


def _message(message: Message, path: str) -> list[dict[str, Any]]:
    item: dict[str, Any] = {"role": message.role}
    if message.name:
        item["name"] = message.name
    match message.role:
        case "assistant":
            item.update(_assistant(message))
            return [item]
        case "tool":
            item["tool_call_id"] = message.tool_call_id
            item["content"] = message.text if isinstance(message.content, str) else _contents(message, path)
            return [item]
        case "system" | "user":
            item["content"] = message.content if isinstance(message.content, str) else _contents(message, path)
            return [item]


def _assistant(message: Message) -> dict[str, Any]:
    """Reasoning and other makers' blocks have no place on this wire and stay in the thread."""
    item: dict[str, Any] = {"content": message.text or None}
    calls = [_call(call) for call in message.tool_calls]
    if calls:
        item["tool_calls"] = calls
    elif item["content"] is None:
        item["content"] = ""
    return item


def _call(call: ToolCallPart) -> dict[str, Any]:
    arguments = call.raw_arguments if call.raw_arguments is not None else encode(call.arguments).decode()
    return {"id": call.id, "type": "function", "function": {"name": call.name, "arguments": arguments}}


def _contents(message: Message, path: str) -> str | list[dict[str, Any]]:
    if all(isinstance(part, TextPart) for part in message.parts) and len(message.parts) == 1:
        return message.text
    items = [_content(part, f"{path}.content[{i}]") for i, part in enumerate(message.parts)]
    return [item for item in items if item is not None]


def _content(part: Part, path: str) -> dict[str, Any] | None:
    match part:
        case TextPart(text):
            return {"type": "text", "text": text}
        case ImagePart(image, detail):
            url = image.url or image.to_data_uri()
            return {"type": "image_url", "image_url": {"url": url, **({"detail": detail} if detail != "auto" else {})}}
        case FilePart():
            return _file(part, path)
        case ProviderPart(provider, _, data):
            return dict(data) if provider == "openai" else None
        case ReasoningPart() | Unknown():
            return None
        case ToolCallPart():
            raise ValidationError.at(path, "a tool call belongs into an assistant's message")


def _file(part: FilePart, path: str) -> dict[str, Any]:
    if part.data is None:
        raise ValidationError.at(path, "this wire takes files by their bytes, not by URL")
    text = base64.b64encode(part.data).decode("ascii")
    mime = part.mime or "application/pdf"
    if mime in ("audio/wav", "audio/x-wav", "audio/mpeg", "audio/mp3"):
        return {"type": "input_audio", "input_audio": {"data": text, "format": "wav" if "wav" in mime else "mp3"}}
    return {"type": "file", "file": {"filename": part.name or "file", "file_data": f"data:{mime};base64,{text}"}}


def _tool(tool: ToolSpec) -> dict[str, Any]:
    function: dict[str, Any] = {"name": tool.name, "parameters": tool.schema or {"type": "object", "properties": {}}}
    if tool.description:
        function["description"] = tool.description
    return {"type": "function", "function": function}


def _tool_choice(choice: str) -> str | dict[str, Any]:
    if choice in ("auto", "none", "required"):
        return choice
    return {"type": "function", "function": {"name": choice}}


def _effort(reasoning: Reasoning) -> str:
    """A number of tokens as the wire's word for it."""
    if isinstance(reasoning, str):
        return reasoning
    if reasoning == 0:
        return "none"
    return "low" if reasoning <= _LOW else "medium" if reasoning <= _MEDIUM else "high"


def _response_format(form: Any) -> dict[str, Any]:
    if isinstance(form, JsonSchema):
        return {"type": "json_schema", "json_schema": {"name": form.name, "schema": form.schema, "strict": form.strict}}
    return {"type": "json_object" if form == "json" else "text"}
