"""OpenAI Responses: a neutral request -> the body.

`store` is false: a thread is plain data here and is sent whole each time, so a copy that the provider keeps for 30 days would be of no
use and a surprise. What it would have kept, the model's reasoning, comes encrypted instead (`include`) and is sent back as it came.

The wire has no stop words, no seed and no names of speakers: these are left out. `options` go on top, unchanged; an object among them
(`reasoning`, `text`) is joined with what the request says there.
"""

from collections.abc import Mapping
from fnmatch import fnmatchcase
from typing import Any, Final

from allm.engine import Engine
from allm.providers.answer_ways import recast
from allm.providers.ids import wire_id, wire_name, wire_names
from allm.providers.openai_responses_input import input_of
from allm.providers.tool_schemas import plain_object
from allm.requests import JsonSchema, Reasoning, Request, ToolSpec
from allm.wire_json import is_object

__all__ = ["REASONING", "reasons", "responses_body"]

REASONING: Final[tuple[tuple[str, bool], ...]] = (
    ("*-chat-latest*", False), ("*audio*", False), ("*-search-*", False), ("o1-mini*", False), ("o1-preview*", False),
    ("o[1-9]*", True), ("gpt-[5-9]*", True), ("codex-*", True), ("computer-use-*", True), ("gpt-daybreak-*", True),
    ("gpt-rosalind-*", True),
)  # fmt: skip
"""Which models reason; the first pattern that fits decides, and what fits none does not. All others refuse to be asked for encrypted
reasoning ("Encrypted content is not supported with this model")."""

_LOW, _MEDIUM = 2048, 8192  # tokens: where an effort of low, then of medium, ends
_NOTHING: Final[dict[str, Any]] = {"type": "object", "properties": {}}


def reasons(model: str) -> bool:
    """Whether the model reasons."""
    name = model.lower().rpartition("/")[2].removeprefix("ft:")
    return next((does for pattern, does in REASONING if fnmatchcase(name, pattern)), False)


def responses_body(engine: Engine, request: Request, stream: bool) -> dict[str, Any]:
    """The body of a response. Raises ValidationError for what the wire cannot carry."""
    request = recast(request, engine.structured)
    model = request.model or engine.model
    names = wire_names(tool.name for tool in request.tools)
    kept = any(request.options.get(name) for name in ("previous_response_id", "conversation", "prompt"))
    body: dict[str, Any] = {"model": model, "input": input_of(request.messages, kept, names), "store": False}
    if reasons(model):
        body["include"] = ["reasoning.encrypted_content"]
    if stream:
        body["stream"] = True
    if request.tools:
        body["tools"] = [_tool(tool, names[tool.name]) for tool in request.tools]
    choosable = request.tools or request.options.get("tools") or request.tool_choice in ("auto", "none")  # others are refused
    if request.tool_choice is not None and choosable:
        body["tool_choice"] = _tool_choice(request.tool_choice, names)
    for name, field in (("temperature", "temperature"), ("top_p", "top_p"), ("max_tokens", "max_output_tokens")):
        if (value := getattr(request, name)) is not None:
            body[field] = value
    if request.reasoning is not None:
        body["reasoning"] = {"effort": _effort(request.reasoning)}
    if request.response_format is not None:
        body["text"] = {"format": _format(request.response_format)}
    body |= _cache(request.prompt_cache or {})
    return body | {name: _joined(body.get(name), value) for name, value in request.options.items()}


def _joined(ours: Any, given: Any) -> Any:
    return {**ours, **given} if is_object(ours) and is_object(given) else given


def _cache(wanted: Mapping[str, Any]) -> dict[str, Any]:
    kept: dict[str, Any] = {}
    if key := wanted.get("key"):
        kept["prompt_cache_key"] = key if len(key) <= 64 else wire_id(key)
    if wanted.get("retention") == "long":
        kept["prompt_cache_retention"] = "24h"
    return kept


def _tool(tool: ToolSpec, name: str) -> dict[str, Any]:
    # Strict is this wire's default, and refuses any schema with an optional property.
    parameters = plain_object(tool.schema) if tool.schema else _NOTHING
    function: dict[str, Any] = {"type": "function", "name": name, "parameters": parameters, "strict": False}
    return {**function, "description": tool.description} if tool.description else function


def _tool_choice(choice: str, names: Mapping[str, str]) -> str | dict[str, Any]:
    return choice if choice in ("auto", "none", "required") else {"type": "function", "name": names.get(choice, choice)}


def _effort(reasoning: Reasoning) -> str:
    """A number of tokens as the wire's word for it."""
    if isinstance(reasoning, str):
        return reasoning
    if reasoning == 0:
        return "none"
    return "low" if reasoning <= _LOW else "medium" if reasoning <= _MEDIUM else "high"


def _format(form: Any) -> dict[str, Any]:
    if isinstance(form, JsonSchema):
        return {"type": "json_schema", "name": wire_name(form.name), "schema": form.schema, "strict": form.strict}
    return {"type": "json_object" if form == "json" else "text"}
