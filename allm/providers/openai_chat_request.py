"""OpenAI Chat Completions: a neutral request -> the body. Compatible hosts take the same."""

from typing import Any

from allm.engine import Engine
from allm.providers.answer_ways import recast
from allm.providers.ids import wire_id, wire_name, wire_names
from allm.providers.openai_chat_hosts import has_vendors_models, host_of, wants_nine
from allm.providers.openai_chat_messages import Dialect, messages_of
from allm.providers.tool_schemas import plain_object
from allm.requests import JsonSchema, Reasoning, Request, ToolSpec

__all__ = ["chat_body"]

_LOW, _MEDIUM = 2048, 8192  # tokens: where an effort of low, then of medium, ends


def chat_body(engine: Engine, request: Request, base_url: str, stream: bool) -> dict[str, Any]:
    """The body of a chat completion. Raises ValidationError for what the wire cannot carry."""
    request = recast(request, engine.structured)
    body: dict[str, Any] = {"model": request.model or engine.model}
    host = host_of(base_url)
    dialect = Dialect(host=host, nine=wants_nine(host, body["model"]), system_first=_system_first(engine, host))
    names = wire_names(tool.name for tool in request.tools)
    body["messages"] = messages_of(request.messages, names, dialect)
    if stream:
        body["stream"] = True
        if engine.adapter_opts.get("stream_options", True):
            body["stream_options"] = {"include_usage": True}
    if request.tools:
        body["tools"] = [_tool(tool, names[tool.name]) for tool in request.tools]
    if request.tool_choice is not None and (request.tools or request.options.get("tools")):  # refused without tools
        body["tool_choice"] = _tool_choice(request.tool_choice, names)
    for name in ("temperature", "top_p", "seed"):
        if (value := getattr(request, name)) is not None:
            body[name] = value
    if request.max_tokens is not None:
        body[_max_tokens_field(engine, host)] = request.max_tokens
    if request.stop:
        body["stop"] = request.stop
    if request.reasoning is not None:
        body["reasoning_effort"] = _effort(request.reasoning)
    if request.response_format is not None:
        body["response_format"] = _response_format(request.response_format)
    if request.prompt_cache is not None:
        if key := request.prompt_cache.get("key"):
            body["prompt_cache_key"] = key if len(key) <= 64 else wire_id(key)
        if request.prompt_cache.get("retention") == "long":
            body["prompt_cache_retention"] = "24h"
    return {**body, **request.options}


def _max_tokens_field(engine: Engine, host: str) -> str:
    """OpenAI's reasoning models refuse `max_tokens`, compatible hosts know nothing else."""
    return str(engine.adapter_opts.get("max_tokens_field") or ("max_completion_tokens" if has_vendors_models(host) else "max_tokens"))


def _system_first(engine: Engine, host: str) -> bool:
    """`adapter_opts["system"]`: `in_place` keeps system messages where they stand, `first` sends them first, as one. Without it that
    depends on the host: OpenAI's models take them anywhere, the templates of open models often only once and first."""
    place = engine.adapter_opts.get("system")
    return place == "first" or (place != "in_place" and not has_vendors_models(host))


def _tool(tool: ToolSpec, name: str) -> dict[str, Any]:
    parameters: dict[str, Any] = plain_object(tool.schema) if tool.schema else {"type": "object", "properties": {}}
    function: dict[str, Any] = {"name": name, "parameters": parameters}
    if tool.description:
        function["description"] = tool.description
    return {"type": "function", "function": function}


def _tool_choice(choice: str, names: dict[str, str]) -> str | dict[str, Any]:
    if choice in ("auto", "none", "required"):
        return choice
    return {"type": "function", "function": {"name": names.get(choice) or choice}}


def _effort(reasoning: Reasoning) -> str:
    """A number of tokens as the wire's word for it."""
    if isinstance(reasoning, str):
        return reasoning
    if reasoning == 0:
        return "none"
    return "low" if reasoning <= _LOW else "medium" if reasoning <= _MEDIUM else "high"


def _response_format(form: Any) -> dict[str, Any]:
    if isinstance(form, JsonSchema):
        return {"type": "json_schema", "json_schema": {"name": wire_name(form.name), "schema": form.schema, "strict": form.strict}}
    return {"type": "json_object" if form == "json" else "text"}
