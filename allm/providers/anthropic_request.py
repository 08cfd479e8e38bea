"""Anthropic Messages: a neutral request -> the body.

What a model takes is told by its version, `(4, 5)` in `claude-sonnet-4-5`:

    from     thinking                     answers by a schema
    -----    --------------------------   -------------------
    older    a budget of tokens           by a forced tool
    4.5      a budget of tokens           native
    4.6      a budget, or an effort       native
    4.7      an effort                    native

A Claude without a version is taken for the newest, a model of another maker behind this wire for the oldest: hosts that speak it know the
old ways. `adapter_opts["model_version"]` (two numbers) says otherwise.
"""

import re
from collections.abc import Mapping
from typing import Any, Final, cast

from allm.engine import Engine
from allm.errors import ValidationError
from allm.providers.answer_ways import ANSWER_TOOL, recast
from allm.providers.anthropic_terms import maker_at
from allm.providers.anthropic_thread import MOST_NAME, Block, Turns, turns_of
from allm.providers.ids import wire_names
from allm.providers.tool_schemas import plain_object
from allm.requests import JsonSchema, Request, ToolSpec
from allm.wire_json import is_object

__all__ = ["messages_body"]

MAX_TOKENS: Final = 4096
LEAST_BUDGET: Final = 1024
BUDGETS: Final = {"low": 2048, "medium": 8192, "high": 24576}
"""Tokens to think with, for models that take a number."""

_VERSION = re.compile(r"claude-(?:[a-z]+-)?(\d+)(?:[-.](\d{1,2})(?!\d))?")
_NEWEST, _OLDEST = (99, 0), (0, 0)
_BY_EFFORT, _BY_EFFORT_ONLY, _NATIVE_FORMAT, _ORDERS_IN_PLACE = (4, 6), (4, 7), (4, 5), (4, 8)

Version = tuple[int, int]


def messages_body(engine: Engine, request: Request, base_url: str, stream: bool) -> dict[str, Any]:
    """The body of a message. Raises ValidationError for what the wire cannot carry. There is no seed on this wire."""
    by_tool = engine.structured == "tool"  # the older models' way
    request = request if by_tool else recast(request, engine.structured)
    model = request.model or engine.model
    version = _version(engine, model)
    names = wire_names((tool.name for tool in request.tools), MOST_NAME)
    turns = _turns(engine, request, model, version, names, maker_at(base_url))
    body: dict[str, Any] = {"model": model, "max_tokens": _max_tokens(engine, request), "messages": turns.messages}
    if turns.system:
        body["system"] = turns.system
    if stream:
        body["stream"] = True
    if request.temperature is not None:
        body["temperature"] = min(request.temperature, 1)  # other wires go up to 2
    if request.top_p is not None:
        body["top_p"] = request.top_p
    if request.stop:
        body["stop_sequences"] = [_stop(word, i) for i, word in enumerate(request.stop)]
    _think(body, request, version)
    _tools(body, request, list(turns.tools), names)
    if request.response_format not in (None, "text"):
        _format(body, request, _OLDEST if by_tool else version)
    if request.prompt_cache is not None:
        _cache(body, request.prompt_cache)
    _simplify(body)
    return {**body, **_options(body, request)}


def _options(body: dict[str, Any], request: Request) -> dict[str, Any]:
    """What goes on top, unchanged; an effort or a task's budget does not take the answer's format away."""
    options = dict(request.options)
    config, thinking = options.get("output_config"), options.get("thinking")
    if is_object(config):
        options["output_config"] = {**body.get("output_config", {}), **config}
    if is_object(thinking) and request.max_tokens is None and isinstance(budget := thinking.get("budget_tokens"), int):
        options.setdefault("max_tokens", max(body["max_tokens"], budget + MAX_TOKENS))
    return options


def _version(engine: Engine, model: str) -> Version:
    told = engine.adapter_opts.get("model_version")
    if told:
        return int(told[0]), int(told[1])
    found = _VERSION.search(model.lower())
    if found is None:
        return _NEWEST if "claude" in model.lower() else _OLDEST
    return int(found[1]), int(found[2] or 0)


def _turns(engine: Engine, request: Request, model: str, version: Version, names: Mapping[str, str], maker: str | None) -> Turns:
    """`adapter_opts["system"]`: `in_place` keeps instructions between turns there, `first` sends them first. Older models and Sonnet 5
    refuse them in place."""
    place = engine.adapter_opts.get("system")
    known = version >= _ORDERS_IN_PLACE and version != _NEWEST and "opus" in model.lower()
    return turns_of(request.messages, place == "in_place" or (place is None and known), names, maker)


def _max_tokens(engine: Engine, request: Request) -> int:
    return request.max_tokens or int(engine.adapter_opts.get("max_tokens") or MAX_TOKENS)


def _stop(word: str, index: int) -> str:
    if not word.strip():
        raise ValidationError.at(f"stop[{index}]", "this wire takes no white space to stop at")
    return word


def _think(body: dict[str, Any], request: Request, version: Version) -> None:
    """How much to think. A budget is part of `max_tokens` on this wire, so that grows by it."""
    wanted = request.reasoning
    if wanted is None:
        return
    if wanted in ("none", 0):
        if version >= _BY_EFFORT:
            body["thinking"] = {"type": "disabled"}  # the newest think unless they are told not to
        return
    if version >= _BY_EFFORT_ONLY or (version >= _BY_EFFORT and isinstance(wanted, str)):
        body["thinking"] = {"type": "adaptive"}
        body["output_config"] = {"effort": _effort(wanted)}
    elif not _lacks_thinking(body["messages"]):
        budget = BUDGETS[wanted] if isinstance(wanted, str) else max(wanted, LEAST_BUDGET)
        body["thinking"] = {"type": "enabled", "budget_tokens": budget}
        if request.max_tokens is None or request.max_tokens <= budget:
            body["max_tokens"] += budget


def _effort(wanted: str | int) -> str:
    if isinstance(wanted, str):
        return wanted
    return next((word for word, budget in BUDGETS.items() if wanted <= budget), "high")


def _lacks_thinking(messages: list[Block]) -> bool:
    """Whether the model is in the midst of a turn that began without thinking: in this one it may not begin to."""
    first: Block | None = None
    for message in reversed(messages):
        if message["role"] == "assistant":
            first = message
        elif message["role"] == "user" and any(block["type"] != "tool_result" for block in message["content"]):
            break
    return first is not None and first["content"][0]["type"] not in ("thinking", "redacted_thinking")


def _tools(body: dict[str, Any], request: Request, called: list[str], names: Mapping[str, str]) -> None:
    if request.tools:
        body["tools"] = [_tool(tool, names[tool.name], i) for i, tool in enumerate(request.tools)]
        if request.tool_choice is not None:
            body["tool_choice"] = _tool_choice(request.tool_choice, names)
    elif called and not request.options.get("tools"):
        # A thread with calls is refused where no tools are declared.
        body["tools"] = [{"name": name, "input_schema": {"type": "object"}} for name in called]
        body["tool_choice"] = {"type": "none"}


def _tool(tool: ToolSpec, name: str, index: int) -> Block:
    if name == ANSWER_TOOL:
        raise ValidationError.at(f"tools[{index}].name", f"{tool.name!r} is the tool by which this wire gives answers; choose another name")
    item: Block = {"name": name, "input_schema": {"type": "object", **plain_object(tool.schema or {"properties": {}})}}
    if tool.description:
        item["description"] = tool.description
    return item


def _tool_choice(choice: str, names: Mapping[str, str]) -> Block:
    words = {"auto": "auto", "none": "none", "required": "any"}
    return {"type": words[choice]} if choice in words else {"type": "tool", "name": names.get(choice, choice)}


def _format(body: dict[str, Any], request: Request, version: Version) -> None:
    """An answer by a schema: natively, or as the arguments of a tool, which the decoder gives as text."""
    form = request.response_format
    schema: dict[str, Any] = form.schema if isinstance(form, JsonSchema) else {"type": "object"}
    if isinstance(form, JsonSchema) and version >= _NATIVE_FORMAT:
        closed = _answer_schema(schema)
        if closed is not None and (form.strict or closed == schema):
            body["output_config"] = {**body.get("output_config", {}), "format": {"type": "json_schema", "schema": closed}}
            return
    name = f" ({form.name})" if isinstance(form, JsonSchema) else ""
    answer = {
        "name": ANSWER_TOOL,
        "description": f"Gives the final answer{name}.",
        "input_schema": {"type": "object", **plain_object(schema)},
    }
    others = bool(request.tools) and request.tool_choice != "none"
    body["tools"] = [*body.get("tools", ()), answer]
    if body.get("thinking", {}).get("type") in ("enabled", "adaptive"):
        body["tool_choice"] = {"type": "auto"}  # who thinks may not be forced
    elif not others:
        body["tool_choice"] = {"type": "tool", "name": ANSWER_TOOL}
    elif request.tool_choice in (None, "auto", "required"):
        body["tool_choice"] = {"type": "any"}


_DROPPED = frozenset({
    "minimum", "maximum", "exclusiveMinimum", "exclusiveMaximum", "multipleOf", "minLength", "maxLength", "pattern", "maxItems",
    "uniqueItems", "minContains", "maxContains", "minProperties", "maxProperties", "$schema", "examples",
})  # fmt: skip
_KEPT = frozenset({"type", "title", "description", "enum", "const", "format", "default", "required", "$ref", "additionalProperties"})
_DEFINITIONS = ("$defs", "definitions")


class _Open(Exception):
    """A schema that the wire does not take."""


def _answer_schema(schema: dict[str, Any]) -> dict[str, Any] | None:
    """`schema` as the wire takes it: objects are closed, and constraints that it does not know are left to our own validation. None for
    a schema that says more than that: open objects, alternatives that exclude one another, schemas within themselves."""
    try:
        return None if _recursive(schema) else _closed(schema)
    except _Open:
        return None


def _closed(schema: Any) -> dict[str, Any]:
    if not is_object(schema):
        raise _Open
    closed: dict[str, Any] = {}
    for key, value in schema.items():
        if key in _KEPT or (key == "minItems" and value in (0, 1)):
            closed[key] = value
        elif is_object(value) and (key == "properties" or key in _DEFINITIONS):
            closed[key] = {name: _closed(inner) for name, inner in value.items()}
        elif key in ("anyOf", "allOf"):
            closed[key] = tuple(map(_closed, _items(value)))
        elif key == "items":
            closed[key] = _closed(value)
        elif key not in _DROPPED and key != "minItems":
            raise _Open
    if schema.get("type") == "object" or "properties" in schema:
        if schema.get("additionalProperties", False) is not False or "properties" not in schema:
            raise _Open
        closed["additionalProperties"] = False
    return closed


def _recursive(schema: dict[str, Any]) -> bool:
    """Whether a definition leads to itself: definitions that need none of the others left are taken away until none is left."""
    found: dict[str, Any] = {}
    for key in _DEFINITIONS:
        if is_object(named := schema.get(key)):
            found |= {f"#/{key}/{name}": inner for name, inner in named.items()}
    left = {ref: _references(inner) & found.keys() for ref, inner in found.items()}
    while left:
        done = [ref for ref, needs in left.items() if not needs & left.keys()]
        if not done:
            return True
        for ref in done:
            del left[ref]
    return "#" in _references(schema)


def _references(value: Any) -> set[str]:
    if is_object(value):
        ref = value.get("$ref")
        return {ref} if isinstance(ref, str) else set[str]().union(*map(_references, value.values()))
    return set[str]().union(*map(_references, _items(value)))


def _items(value: Any) -> tuple[Any, ...]:
    """The items of an array, none if it is no array."""
    return cast("tuple[Any, ...]", value) if isinstance(value, tuple) else ()


def _cache(body: dict[str, Any], wanted: dict[str, Any]) -> None:
    """Marks the ends of what stays the same: tools, system, and the thread so far."""
    mark = {"type": "ephemeral", **({"ttl": "1h"} if wanted.get("retention") == "long" else {})}
    for blocks in (body.get("tools", []), body.get("system", [])):
        _mark(blocks, mark)
    for message in reversed(body["messages"]):
        if _mark(message["content"], mark):
            return


def _mark(blocks: list[Block], mark: Block) -> bool:
    """Marks the last block that can be; reasoning cannot."""
    for i in reversed(range(len(blocks))):
        if blocks[i].get("type") not in ("thinking", "redacted_thinking"):
            blocks[i] = {**blocks[i], "cache_control": mark}
            return True
    return False


def _simplify(body: dict[str, Any]) -> None:
    """A single text without marks goes as text, in a message and in `system`."""
    for holder, key in ((body, "system"), *((message, "content") for message in body["messages"])):
        blocks = holder.get(key)
        if blocks and len(blocks) == 1 and blocks[0].keys() == {"type", "text"} and blocks[0]["type"] == "text":
            holder[key] = blocks[0]["text"]
