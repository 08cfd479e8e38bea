"""OpenAI Chat Completions: a body -> a neutral request, and what two bodies have in common that mean the same.

`normal` holds these to be equal:

    developer                    system: the newer name of the role
    max_completion_tokens        max_tokens: the newer name
    content of one text          that text
    an assistant's texts         joined: its content is one text
    null, `strict: false`, `detail: auto`, `stream: false`, no tools    absent: the documented defaults
    a stop word                  a list of one
    `stream_options`             absent: how usage is told is the library's business
    tool_choice `any`            `required`, which the hosts that know `any` know too
    tool_choice without tools    absent: there is nothing to choose
    image_url as text            as an object: the older form
    the name of a tool message   absent: it repeats the name in the call
    ids                          numbers in the order of use
    an assistant of no words     absent: some hosts refuse it
    arguments that are no object  `{}`: servers that parse them refuse anything else
"""

import json
from typing import Any

from allm import FilePart, Image, ImagePart, JsonSchema, Message, Request, TextPart, ToolCallPart, ToolSpec
from allm.messages import Part
from tests.wire.reading.common import (
    Fields,
    Inexpressible,
    Json,
    Reading,
    arguments_of,
    data_part,
    is_array,
    is_object,
    numbered,
    present,
    text_blocks,
)

__all__ = ["normal", "read"]

_ROLES = {"system": "system", "developer": "system", "user": "user", "assistant": "assistant", "tool": "tool"}
_CHOICES = {"auto": "auto", "none": "none", "required": "required", "any": "required"}
_EFFORTS = ("none", "low", "medium", "high")


def read(body: Json, model: str | None = None) -> Reading:
    """`model`: that of the path, where the body names none. Raises Inexpressible."""
    top = Fields(body)
    asked: Json = {"model": top.take("model") or model}
    asked["messages"] = tuple(_message(item, f"messages[{i}]") for i, item in enumerate(top.many("messages")))
    options: Json = {}
    stream = bool(top.take("stream", False))
    opts: Json = {} if top.take("stream_options") else {"stream_options": False}
    asked["tools"] = _tools(top.many("tools"), options)
    _choice(top.take("tool_choice"), asked, options)
    for name in ("temperature", "top_p", "seed"):
        asked[name] = top.take(name)
    asked["max_tokens"] = top.take("max_completion_tokens") or top.take("max_tokens")
    asked["stop"] = top.take("stop") or ()
    effort = top.take("reasoning_effort")
    (asked if effort in _EFFORTS else options)["reasoning" if effort in _EFFORTS else "reasoning_effort"] = effort
    _format(top.take("response_format"), asked, options)
    key, retention = top.take("prompt_cache_key"), top.take("prompt_cache_retention")
    if key or retention:
        asked["prompt_cache"] = {"key": key, "retention": "long" if retention == "24h" else "short"}
    return Reading(Request(**asked, options=present({**options, **top.left})), stream, opts)


def _message(item: Any, path: str) -> Message:
    told = Fields(item, path)
    role = _ROLES.get(told.take("role"))
    if role is None:
        raise Inexpressible(f"{path}.role")
    content, name, call_id = told.take("content", ""), told.take("name"), told.take("tool_call_id")
    parts = [_part(piece, f"{path}.content") for piece in content] if is_array(content) else None
    calls = [_call(call, f"{path}.tool_calls") for call in told.many("tool_calls")]
    if role != "assistant" and calls:
        raise Inexpressible(f"{path}.tool_calls")
    told.end("annotations")
    if calls:
        texts = parts if parts is not None else [TextPart(str(content))] if content else []
        return Message("assistant", (*texts, *calls), name=name)
    said = str(content) if parts is None else tuple(parts)
    return Message(role, said, name=None if role == "tool" else name, tool_call_id=call_id)  # type: ignore[arg-type]


def _part(item: Any, path: str) -> Part:
    piece = Fields(item, path)
    part: Part
    match kind := piece.take("type"):
        case "text":
            part = TextPart(piece.take("text"))
        case "image_url":
            given = piece.take("image_url")
            image = Fields({"url": given} if isinstance(given, str) else given, f"{path}.image_url")
            url, detail = image.take("url"), image.take("detail", "auto")
            part = data_part(url, detail=detail, path=path) if url.startswith("data:") else ImagePart(Image.from_url(url), detail)
            image.end()
        case "input_audio":
            audio = Fields(piece.take("input_audio"), f"{path}.input_audio")
            part = data_part(f"data:audio/{'wav' if audio.take('format') == 'wav' else 'mpeg'};base64,{audio.take('data')}")
            audio.end()
        case "file":
            file = Fields(piece.take("file"), f"{path}.file")
            name, data = file.take("filename"), file.take("file_data", "")
            file.end()
            part = data_part(data, name, path=f"{path}.file.file_data")
            if not isinstance(part, FilePart):
                raise Inexpressible(f"{path}.file.file_data")
        case _:
            raise Inexpressible(f"{path}<{kind}>")
    piece.end()
    return part


def _call(item: Any, path: str) -> ToolCallPart:
    call = Fields(item, path)
    function = Fields(call.take("function"), f"{path}.function")
    raw = function.take("arguments", "")
    part = ToolCallPart(call.take("id"), function.take("name"), arguments_of(raw), raw)
    call.take("type")
    call.end()
    function.end()
    return part


def _tools(given: list[Any], options: Json) -> tuple[ToolSpec, ...]:
    """The functions. Where a tool says more than a ToolSpec can, or is none, the list as it is goes into the options, too."""
    tools: list[ToolSpec] = []
    for tool in given:
        function = dict(tool.get("function") or {})
        more = {name for name, value in function.items() if value} - {"name", "description", "parameters"}
        if more or not function or tool.get("type") != "function" or tool.keys() - {"type", "function"}:
            options["tools"] = given
        if function:
            tools.append(ToolSpec(function["name"], function.get("description") or "", function.get("parameters") or {}))
    return tuple(tools)


def _choice(given: Any, asked: Json, options: Json) -> None:
    if isinstance(given, str):
        if given not in _CHOICES:
            raise Inexpressible("tool_choice")
        asked["tool_choice"] = _CHOICES[given]
    elif isinstance(given, dict) and given.keys() == {"type", "function"}:
        asked["tool_choice"] = given["function"]["name"]
    elif given is not None:
        options["tool_choice"] = given


def _format(given: Any, asked: Json, options: Json) -> None:
    """What a JsonSchema cannot say (a description) goes into the options, too."""
    if given is None:
        return
    if given.get("type") != "json_schema":
        asked["response_format"] = {"text": "text", "json_object": "json"}[given["type"]]
        return
    form = given["json_schema"]
    asked["response_format"] = JsonSchema(form["name"], form["schema"], bool(form.get("strict")))
    if form.keys() - {"name", "schema", "strict"}:
        options["response_format"] = given


def normal(body: Json) -> Json:
    """The body in the one form of all that mean the same."""
    made = {name: value for name, value in body.items() if value is not None and value != [] and name != "stream_options"}
    if made.get("stream") is False:
        del made["stream"]
    if "max_completion_tokens" in made:
        made["max_tokens"] = made.pop("max_completion_tokens")
    if "stop" in made:
        made["stop"] = [made["stop"]] if isinstance(made["stop"], str) else made["stop"]
    if made.get("tool_choice") == "any":
        made["tool_choice"] = "required"
    if "tools" not in made:
        made.pop("tool_choice", None)
    if made.get("response_format", {}).get("type") == "json_schema":
        form = made["response_format"]["json_schema"]
        made["response_format"] = {"type": "json_schema", "json_schema": {"strict": False, **present(form)}}
    if "tools" in made:
        made["tools"] = [_normal_tool(tool) for tool in made["tools"]]
    call_ids = [call["id"] for item in body["messages"] for call in item.get("tool_calls") or ()]
    number = numbered(call_ids)
    said = [item for item in body["messages"] if item["role"] != "assistant" or item.get("content") or item.get("tool_calls")]
    made["messages"] = [_normal_message(item, number) for item in said]
    return made


def _normal_tool(tool: Json) -> Json:
    function = tool.get("function")
    if not is_object(function):
        return tool
    said = {name: value for name, value in function.items() if value}
    return {"type": "function", "function": {"parameters": {"type": "object", "properties": {}}, **said}}


def _normal_message(item: Json, number: Any) -> Json:
    role = "system" if item["role"] == "developer" else item["role"]
    blocks = [_normal_block(block) for block in text_blocks(item.get("content"))]
    if role == "assistant":
        blocks = text_blocks("".join(block["text"] for block in blocks))
    made: Json = {"role": role, "content": blocks}
    if item.get("name") and role != "tool":
        made["name"] = item["name"]
    if role == "tool":
        made["tool_call_id"] = number(item["tool_call_id"])
    if item.get("tool_calls"):
        made["tool_calls"] = [
            {"type": "function", "id": number(call["id"]), "function": _normal_function(call["function"])} for call in item["tool_calls"]
        ]
    return made


def _normal_function(function: Json) -> Json:
    try:
        fine = is_object(json.loads(function["arguments"]))
    except ValueError:
        fine = False
    return function if fine else {**function, "arguments": "{}"}


def _normal_block(block: Json) -> Json:
    if block["type"] != "image_url":
        return block
    image = block["image_url"]
    said = {"url": image} if isinstance(image, str) else image
    return {"type": "image_url", "image_url": {name: value for name, value in said.items() if value != "auto"}}
