"""OpenAI Responses: a body -> a neutral request, and what two bodies have in common that mean the same.

`normal` holds these to be equal:

    input as text                        a message of the user
    instructions                         a first message of the system (not where the provider keeps what came before: there it stays)
    developer                            system: the newer name of the role
    content, output of one text          that text
    an assistant's texts in one item     joined: the library sends what the model said as one text
    `type: message`, ids and states of messages and calls    absent: nothing is found by them
    null, no text, `store: true`, `detail: auto`, `stream: false`, `include: []`, no tools, plain text    absent: the documented defaults
    an assistant's message without text  absent
    call ids                             numbers in the order of use
"""

import json
from typing import Any

from allm import FilePart, Image, ImagePart, JsonSchema, Message, ProviderPart, ReasoningPart, Request, TextPart, ToolCallPart, ToolSpec
from allm.messages import Part
from allm.providers.openai_responses_input import ITEMS
from tests.wire.reading.common import (
    Fields,
    Inexpressible,
    Json,
    Reading,
    arguments_of,
    data_part,
    is_object,
    numbered,
    present,
    text_blocks,
)

__all__ = ["normal", "read"]

_ROLES = {"system": "system", "developer": "system", "user": "user"}
_EFFORTS = ("none", "low", "medium", "high")
_KEPT = ("previous_response_id", "conversation", "prompt")


def read(body: Json, model: str | None = None) -> Reading:
    """Raises Inexpressible."""
    top = Fields(body)
    asked: Json = {"model": top.take("model") or model}
    if not asked["model"]:
        raise Inexpressible("model, which the stored prompt has")
    options: Json = {"store": top.take("store", True), "include": top.take("include", [])}
    messages = _messages(top.take("input", []))
    if not any(body.get(name) for name in _KEPT) and (instructions := top.take("instructions")):
        messages.insert(0, Message("system", instructions))
    asked["messages"] = tuple(messages)
    stream = bool(top.take("stream", False))
    asked["tools"] = _tools(top.many("tools"), options)
    choice = top.take("tool_choice")
    if is_object(choice) and choice.get("type") == "function":
        choice = choice["name"]
    (asked if isinstance(choice, str) else options)["tool_choice"] = choice
    for name, field in (("temperature", "temperature"), ("top_p", "top_p"), ("max_tokens", "max_output_tokens")):
        asked[name] = top.take(field)
    reasoning = present(top.take("reasoning", {}))
    if reasoning.get("effort") in _EFFORTS:
        asked["reasoning"] = reasoning.pop("effort")
    options["reasoning"] = reasoning or None
    _format(top.take("text"), asked, options)
    key, retention = top.take("prompt_cache_key"), top.take("prompt_cache_retention")
    if key or retention:
        asked["prompt_cache"] = {"key": key, "retention": "long" if retention == "24h" else "short"}
    return Reading(Request(**asked, options=present({**options, **top.left})), stream)


def _messages(given: Any) -> list[Message]:
    """Everything that the model did between two words of others is one message of the assistant's."""
    if isinstance(given, str):
        return [Message("user", given)]
    messages: list[Message] = []
    made: list[Part] = []

    def close() -> None:
        if made:
            messages.append(Message("assistant", tuple(made)))
        made.clear()

    for i, item in enumerate(given):
        path = f"input[{i}]"
        kind = item.get("type", "message")
        if kind == "function_call_output":
            close()
            messages.append(_result(item, path))
        elif kind == "message" and item.get("role") != "assistant":
            close()
            messages.append(_said(item, path))
        else:
            if kind == "message" and made and isinstance(made[-1], TextPart):
                close()
            made += _made(kind, item, path)
    close()
    return messages


def _said(item: Json, path: str) -> Message:
    told = Fields(item, path)
    told.take("type")
    role, content = _ROLES.get(told.take("role")), told.take("content", "")
    if role is None:
        raise Inexpressible(f"{path}.role")
    told.end()
    parts = content if isinstance(content, str) else tuple(_part(piece, f"{path}.content") for piece in content)
    return Message(role, parts)  # type: ignore[arg-type]


def _result(item: Json, path: str) -> Message:
    told = Fields(item, path)
    told.take("type")
    told.take("id")
    told.take("status")
    call_id, output = told.take("call_id"), told.take("output", "")
    told.end()
    parts = output if isinstance(output, str) else tuple(_part(piece, f"{path}.output") for piece in output)
    return Message("tool", parts, tool_call_id=call_id)


def _part(item: Json, path: str) -> Part:
    piece = Fields(item, path)
    kind = piece.take("type")
    part: Part
    if "file_id" in item:
        return ProviderPart("openai", kind, {name: value for name, value in item.items() if name != "type"})
    match kind:
        case "input_text":
            part = TextPart(piece.take("text"))
        case "input_image":
            url, detail = piece.take("image_url", ""), piece.take("detail", "auto")
            part = data_part(url, detail=detail, path=path) if url.startswith("data:") else ImagePart(Image.from_url(url), detail)
        case "input_file":
            url, name = piece.take("file_url"), piece.take("filename")
            part = FilePart(url=url, name=name) if url else data_part(piece.take("file_data", ""), name, path=f"{path}.file_data")
        case _:
            raise Inexpressible(f"{path}<{kind}>")
    piece.end()
    return part


def _made(kind: str, item: Json, path: str) -> list[Part]:
    told = Fields(item, path)
    match kind:
        case "message":
            more = present({"phase": told.take("phase")})
            texts = [_answer(piece, f"{path}.content") for piece in text_blocks(told.take("content"), "output_text")]
            for name in ("type", "role", "id", "status"):
                told.take(name)
            told.end()
            return [TextPart("".join(texts)), *([ProviderPart("openai", "message", more)] if more else [])]
        case "function_call":
            raw, name, call_id = told.take("arguments", ""), told.take("name"), told.take("call_id")
            more = present({name: told.take(name) for name in ("namespace", "caller")})
            for ignored in ("type", "id", "status"):
                told.take(ignored)
            told.end()
            left = [ProviderPart("openai", "function_call", {"call_id": call_id, **more})] if more else []
            return [ToolCallPart(call_id, name, arguments_of(raw), raw), *left]
        case "reasoning":
            if not item.get("encrypted_content"):
                raise Inexpressible(f"{path}.encrypted_content")
            text = "".join(piece["text"] for piece in item.get("summary") or ())
            return [ReasoningPart(text, data=json.dumps(item), provider="openai")]
        case _ if kind in ITEMS:
            return [ProviderPart("openai", kind, {name: value for name, value in item.items() if name != "type"})]
        case _:
            raise Inexpressible(f"{path}<{kind}>")


def _answer(item: Json, path: str) -> str:
    piece = Fields(item, path)
    if piece.take("type") not in ("output_text", "input_text"):
        raise Inexpressible(path)
    text: str = piece.take("text")
    piece.end("annotations", "logprobs")
    return text


def _tools(given: list[Any], options: Json) -> tuple[ToolSpec, ...]:
    """The functions. Where a tool says more than a ToolSpec can, or is none, the list as it is goes into the options, too."""
    tools: list[ToolSpec] = []
    for tool in given:
        said = {name for name, value in tool.items() if value is not None}
        if tool.get("type") == "function":
            tools.append(ToolSpec(tool["name"], tool.get("description") or "", tool.get("parameters") or {}))
        if (
            tool.get("type") != "function"
            or tool.get("strict") is not False
            or said - {"type", "name", "description", "parameters", "strict"}
        ):
            # Absent and null leave it to the provider, and only the latter is within its own types.
            options["tools"] = [{**each, **({"strict": each.get("strict")} if each.get("type") == "function" else {})} for each in given]
    return tuple(tools)


def _format(given: Any, asked: Json, options: Json) -> None:
    text = present(given or {})
    form = text.pop("format", None)
    if form and form["type"] == "json_schema":
        asked["response_format"] = JsonSchema(form["name"], form["schema"], bool(form.get("strict")))
        if form.keys() - {"type", "name", "schema", "strict"}:
            text["format"] = form
    elif form:
        asked["response_format"] = {"text": "text", "json_object": "json"}[form["type"]]
    options["text"] = text or None


def normal(body: Json) -> Json:
    """The body in the one form of all that mean the same."""
    made = {name: value for name, value in body.items() if value not in (None, [], "")}
    for name, default in (("stream", False), ("store", True)):
        if made.get(name) is default:
            del made[name]
    given: Any = body.get("input") or []
    items = [{"role": "user", "content": given}] if isinstance(given, str) else given
    if not any(body.get(name) for name in _KEPT) and made.get("instructions"):
        items = [{"role": "system", "content": made.pop("instructions")}, *items]
    number = numbered(item["call_id"] for item in items if item.get("type") == "function_call")
    made["input"] = [_normal_item(item, number) for item in items if item.get("role") != "assistant" or item["content"]]
    if "tools" in made:
        made["tools"] = [_normal_tool(tool) for tool in made["tools"]]
    if "reasoning" in made:
        made["reasoning"] = present(made["reasoning"])
    if "text" in made:
        made["text"] = _normal_text(made["text"])
    return {name: value for name, value in made.items() if value != {}}


def _normal_text(text: Json) -> Json:
    made = present(text)
    if made.get("format") == {"type": "text"}:
        del made["format"]
    if "format" in made and made["format"]["type"] == "json_schema":
        made["format"] = {"strict": False, **present(made["format"])}
    return made


def _normal_tool(tool: Json) -> Json:
    return {name: value for name, value in tool.items() if value not in (None, "")} if tool.get("type") == "function" else tool


def _normal_item(item: Json, number: Any) -> Json:
    kind = item.get("type", "message")
    if kind == "message":
        role = "system" if item["role"] == "developer" else item["role"]
        blocks = text_blocks(item["content"], "input_text")
        if role == "assistant":
            blocks = text_blocks("".join(block["text"] for block in blocks), "output_text")
        return {"role": role, "content": [_normal_block(block) for block in blocks], **present({"phase": item.get("phase")})}
    if kind not in ("function_call", "function_call_output"):
        return {name: value for name, value in item.items() if not (kind == "reasoning" and value == [] and name == "content")}
    made = {**item, "call_id": number(item["call_id"])}
    if kind == "function_call" and not arguments_of(item["arguments"]):
        made["arguments"] = "{}"  # what is no object goes back as an empty one
    if "output" in made:
        made["output"] = [_normal_block(block) for block in text_blocks(made["output"], "input_text")]
    return {name: value for name, value in made.items() if name not in ("id", "status")}


def _normal_block(block: Json) -> Json:
    return {"detail": "auto", **block} if block["type"] == "input_image" else block
