"""Anthropic Messages: a body -> a neutral request, and what two bodies have in common that mean the same.

`normal` holds these to be equal:

    system, content of one text           that text
    user turns in a row                   one turn: the provider joins them
    blank text                            absent: the provider refuses it in most places
    null, no description, no system, no tools, `type: custom`, and `is_error`, `disable_parallel_tool_use`, `stream` that are false
                                          absent: the defaults
    marks of the cache                    wherever they stand, for how long is kept: where they stand is the library's business
    output_format                         output_config.format: the newer name
    white space at the end of the last answer    absent: the provider refuses it
    ids                                   numbers in the order of use
"""

import base64
from typing import Any

from allm import FilePart, Image, ImagePart, JsonSchema, Message, ProviderPart, ReasoningPart, Request, TextPart, ToolCallPart, ToolSpec
from allm.messages import Part
from tests.wire.reading.common import Fields, Inexpressible, Json, Reading, is_array, is_object, numbered, present, text_blocks

__all__ = ["normal", "read"]

_CHOICES = {"auto": "auto", "none": "none", "any": "required"}
_NOTHING = (("type", "custom"), ("description", ""))
_PLAIN = {"name", "description", "input_schema", "type", "cache_control"}


def read(body: Json, model: str | None = None) -> Reading:
    """Raises Inexpressible."""
    top = Fields(body)
    asked: Json = {"model": top.take("model") or model, "max_tokens": top.take("max_tokens")}
    options: Json = {}
    turns = top.many("messages")
    messages = [Message("system", tuple(TextPart(block["text"]) for block in text_blocks(top.take("system"))))]
    for i, turn in enumerate(turns):
        messages += _turn(turn, f"messages[{i}]")
    _check(messages)
    asked["messages"] = tuple(messages if messages[0].content else messages[1:])
    stream = bool(top.take("stream", False))
    asked["tools"] = _tools(top.many("tools"), options)
    _choice(top.take("tool_choice"), asked, options)
    for name, field in (("temperature", "temperature"), ("top_p", "top_p"), ("stop", "stop_sequences")):
        asked[name] = top.take(field, () if name == "stop" else None)
    _thinking(top, asked, options)
    form = top.take("output_format") or options["output_config"].pop("format", None)
    if form:
        asked["response_format"] = JsonSchema("answer", form["schema"])
    kept = _marks(body)
    if len(kept) > 1:
        raise Inexpressible("cache_control.ttl")
    if kept:
        asked["prompt_cache"] = {"retention": "long" if kept == {"1h"} else "short"}
    in_place = any(turn["role"] == "system" for turn in turns)
    request = Request(**asked, options={name: value for name, value in {**options, **top.left}.items() if value})
    return Reading(request, stream, {"system": "in_place"} if in_place else {})


def _check(messages: list[Message]) -> None:
    calls = {call.id for message in messages for call in message.tool_calls}
    if any(message.role == "tool" and message.tool_call_id not in calls for message in messages):
        raise Inexpressible("a tool_use_id that names no call")


def _marks(body: Json) -> set[str]:
    """For how long the marks in this body keep what is before them; one for the whole body is an option."""
    found: set[str] = set()
    values: list[Any] = [body.get("system"), body.get("messages"), body.get("tools")]
    while values:
        value = values.pop()
        if is_object(value):
            values += value.values()
            if is_object(mark := value.get("cache_control")):
                found.add(mark.get("ttl", "5m"))
        elif is_array(value):
            values += value
    return found


def _thinking(top: Fields, asked: Json, options: Json) -> None:
    """An effort, or a budget; what says more than that is an option."""
    thinking, config = present(top.take("thinking", {})), present(top.take("output_config", {}))
    options["output_config"] = config
    match thinking:
        case {"type": "enabled", "budget_tokens": int(budget)} if thinking.keys() == {"type", "budget_tokens"}:
            asked["reasoning"] = budget
        case {"type": "adaptive"} if thinking.keys() == {"type"} and config.get("effort") in ("low", "medium", "high"):
            asked["reasoning"] = config.pop("effort")
        case _:
            options["thinking"] = thinking


def _turn(turn: Any, path: str) -> list[Message]:
    told = Fields(turn, path)
    role, content = told.take("role"), text_blocks(told.take("content"))
    told.end()
    if role not in ("user", "assistant", "system"):
        raise Inexpressible(f"{path}.role")
    messages: list[Message] = []
    said: list[Part] = []
    for i, block in enumerate(content):
        if block["type"] != "tool_result":
            said += _block(block, f"{path}.content[{i}]")
            continue
        if said:
            raise Inexpressible(f"{path}.content[{i}]: a result behind what was said")
        messages.append(_result(block, f"{path}.content[{i}]"))
    return [*messages, Message(role, tuple(said))] if said or not messages else messages


def _result(block: Json, path: str) -> Message:
    told = Fields(block, path)
    told.take("cache_control")
    told.take("type")
    parts = [part for piece in text_blocks(told.take("content")) for part in _block(piece, f"{path}.content")]
    call_id, failed = told.take("tool_use_id"), told.take("is_error", False)
    told.end()
    return Message("tool", tuple(parts), tool_call_id=call_id, metadata={"is_error": True} if failed else {})


def _block(given: Json, path: str) -> list[Part]:
    told = Fields(given, path)
    told.take("cache_control")
    kind = told.take("type")
    more: list[Part] = []
    part: Part
    match kind:
        case "text":
            part, citations = TextPart(told.take("text")), told.take("citations")
            more = [ProviderPart("anthropic", "citations", {"citations": citations})] if citations else []
        case "thinking":
            part = ReasoningPart(told.take("thinking"), told.take("signature"), provider="anthropic")
        case "redacted_thinking":
            part = ReasoningPart("", data=told.take("data"), provider="anthropic")
        case "tool_use":
            part = ToolCallPart(told.take("id"), told.take("name"), told.take("input"))
            more = [ProviderPart("anthropic", "tool_use", {"caller": told.take("caller")})] if "caller" in given else []
        case "image" | "document" if given["source"]["type"] in ("base64", "url", "text") and given.keys() <= {
            "type",
            "source",
            "title",
            "cache_control",
        }:
            part = _media(kind, told.take("source"), told.take("title"))
        case _:
            return [
                ProviderPart("anthropic", kind, {name: value for name, value in given.items() if name not in ("type", "cache_control")})
            ]
    told.end()
    return [part, *more]


def _media(kind: str, source: Json, title: str | None) -> Part:
    if source["type"] == "url":
        return ImagePart(Image(url=source["url"])) if kind == "image" else FilePart(url=source["url"], mime="application/pdf", name=title)
    data = source["data"].encode() if source["type"] == "text" else base64.b64decode(source["data"])
    mime = source["media_type"]
    return ImagePart(Image(data=data, mime=mime)) if kind == "image" else FilePart(data=data, mime=mime, name=title)


def _tools(given: list[Any], options: Json) -> tuple[ToolSpec, ...]:
    """The functions. Where a tool says more than a ToolSpec can, or is none, the list as it is goes into the options, too."""
    tools: list[ToolSpec] = []
    for tool in given:
        own = tool.get("type") in (None, "custom")
        if own:
            tools.append(ToolSpec(tool["name"], tool.get("description") or "", tool["input_schema"]))
        if not own or tool.keys() - _PLAIN:
            options["tools"] = given
    return tuple(tools)


def _choice(given: Any, asked: Json, options: Json) -> None:
    if given is None:
        return
    word = given["name"] if given["type"] == "tool" else _CHOICES[given["type"]]
    if given.get("disable_parallel_tool_use") or "tools" in options:
        options["tool_choice"] = given
    if word in _CHOICES.values() or any(tool.name == word for tool in asked["tools"]):
        asked["tool_choice"] = word


def normal(body: Json) -> Json:
    """The body in the one form of all that mean the same."""
    made: Json = {**body, "cached_for": sorted(_marks(body))}
    made["system"] = [_normal_block(block, str) for block in text_blocks(body.get("system"))]
    made["tools"] = [_normal_tool(tool) for tool in body.get("tools") or ()]
    turns: list[Json] = []
    for turn in body["messages"]:
        blocks = [block for block in text_blocks(turn["content"]) if block["type"] != "text" or block["text"].strip()]
        if turns and turns[-1]["role"] == turn["role"]:
            turns[-1]["content"] += blocks
        else:
            turns.append({"role": turn["role"], "content": blocks})
    if turns and turns[-1]["role"] == "assistant" and turns[-1]["content"][-1]["type"] == "text":
        turns[-1]["content"][-1] = {**turns[-1]["content"][-1], "text": turns[-1]["content"][-1]["text"].rstrip()}
    number = numbered(block["id"] for turn in turns for block in turn["content"] if block["type"] == "tool_use")
    made["messages"] = [{**turn, "content": [_normal_block(block, number) for block in turn["content"]]} for turn in turns]
    if choice := made.get("tool_choice"):
        made["tool_choice"] = {name: value for name, value in choice.items() if value is not False}
    if form := made.pop("output_format", None):
        made["output_config"] = {**made.get("output_config", {}), "format": form}
    if made.get("stream") is False:
        del made["stream"]
    return {name: value for name, value in made.items() if value is not None and value != []}


def _normal_tool(tool: Json) -> Json:
    return {name: value for name, value in tool.items() if name != "cache_control" and (name, value) not in _NOTHING}


def _normal_block(block: Json, number: Any) -> Json:
    made = {name: value for name, value in present(block).items() if name != "cache_control" and (name, value) != ("is_error", False)}
    for name in ("id", "tool_use_id"):
        if name in made and made["type"] in ("tool_use", "tool_result"):
            made[name] = number(made[name])
    if made["type"] == "tool_result":
        made["content"] = [_normal_block(piece, number) for piece in text_blocks(made.get("content"))]
    if made["type"] == "image" and str(made["source"].get("data", "")).startswith("/9j/"):
        made["source"] = {**made["source"], "media_type": "image/jpeg"}  # one was recorded as image/png: its bytes say what it is
    return made
