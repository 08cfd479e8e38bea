"""Gemini generateContent: a body -> a neutral request, and what two bodies have in common that mean the same.

`normal` holds these to be equal:

    keys_in_snake_case                   camelCase: the service takes both
    parameters, responseSchema           parametersJsonSchema, responseJsonSchema: types in small letters, `nullable` as a type
    one part, one tool                   a list of it
    contents of one role in a row        one content
    a content without a role             the user's
    the role of systemInstruction        absent: nothing is read from it
    empty text without a signature, null, an empty object    absent
    base64 in the letters of addresses   in those of mail: the service takes both
    modes in small letters               in capitals
    ids of calls                         absent: a result belongs to its call by its place, as models that give none have it
    `model` in the body                  absent: the path has it
    parameters of another type, or none  an object: they are nothing else
"""

import base64
import json
import re
from typing import Any

from allm import FilePart, Image, ImagePart, JsonSchema, Message, ProviderPart, ReasoningPart, Request, TextPart, ToolCallPart, ToolSpec
from allm.arrays import with_items
from allm.messages import Part
from tests.wire.reading.common import Fields, Inexpressible, Json, Reading, is_array, is_object

__all__ = ["normal", "read"]

_FREE = frozenset({"args", "response", "properties", "parametersJsonSchema", "responseJsonSchema", "labels"})
_MAIL = str.maketrans("-_", "+/")
_MODES = {"AUTO": "auto", "NONE": "none", "ANY": "required"}
_LEVELS = {"low", "medium", "high"}
_SAMPLING = {"temperature": "temperature", "top_p": "topP", "max_tokens": "maxOutputTokens", "seed": "seed", "stop": "stopSequences"}


def read(body: Json, model: str | None = None) -> Reading:
    """`model`: that of the path. Raises Inexpressible."""
    top = Fields(_camel(body))
    top.take("model")
    asked: Json = {"model": model}
    options: Json = {}
    messages = _Thread()
    if instruction := top.take("systemInstruction"):
        messages.add({**instruction, "role": "system"}, "systemInstruction")
    for i, content in enumerate(top.many("contents")):
        messages.add(content, f"contents[{i}]")
    asked["messages"] = tuple(messages.messages)
    asked["tools"] = _tools(_listed(top.take("tools", [])), options)
    _choice(top.take("toolConfig", {}), asked, options)
    config = top.take("generationConfig", {})
    for name, field in _SAMPLING.items():
        if field in config:
            asked[name] = config.pop(field)
    _thinking(config, asked)
    _format(config, asked)
    options["generationConfig"] = config
    return Reading(Request(**asked, options={name: value for name, value in {**options, **top.left}.items() if value}))


class _Thread:
    """The messages so far. A call without an id gets one, and the next result of its name without one answers it."""

    def __init__(self) -> None:
        self.messages: list[Message] = []
        self._waiting: list[ToolCallPart] = []
        self._made = 0

    def add(self, given: Any, path: str) -> None:
        content = Fields(given, path)
        role = {"user": "user", "model": "assistant", "function": "user", "system": "system"}.get(content.take("role", "user"))
        if role is None:
            raise Inexpressible(f"{path}.role")
        said: list[Part] = []
        for i, part in enumerate(_listed(content.take("parts", []))):
            at = f"{path}.parts[{i}]"
            if "functionResponse" in part:
                if said:
                    raise Inexpressible(f"{at}: a result behind what was said")
                self.messages.append(self._result(Fields(part, at).take("functionResponse"), at))
            elif "functionCall" in part:
                said.append(self._call(part, at))
            else:
                said += _part(part, at, role)
        content.end()
        if said:
            self.messages.append(Message(role, tuple(said)))  # type: ignore[arg-type]

    def _call(self, given: Json, path: str) -> ToolCallPart:
        part = Fields(given, path)
        call, signature = Fields(part.take("functionCall"), path), part.take("thoughtSignature")
        self._made += 1
        made = ToolCallPart(call.take("id", f"call_r_b{self._made}.1"), call.take("name"), call.take("args", {}), signature=signature)
        part.end()
        call.end()
        self._waiting.append(made)
        return made

    def _result(self, given: Json, path: str) -> Message:
        told = Fields(given, path)
        name, call_id, response = told.take("name"), told.take("id"), told.take("response", {})
        call = next((each for each in self._waiting if call_id in (None, each.id) and each.name == name), None)
        if call is None:
            raise Inexpressible(f"{path}: a result without its call")
        self._waiting.remove(call)
        inside = [part for piece in told.many("parts") for part in _part(piece, f"{path}.parts", "user")]
        told.end()
        name, said = next(iter(response.items())) if len(response) == 1 else ("", None)
        plain = name in ("output", "error") and isinstance(said, str) and not _is_json(said)
        text = str(said) if plain else json.dumps(response)
        metadata = {"is_error": True} if plain and name == "error" else {}
        return Message("tool", (TextPart(text), *inside) if inside else text, tool_call_id=call.id, metadata=metadata)


def _is_json(text: str) -> bool:
    """Whether the text would be sent as an object or an array instead."""
    try:
        return isinstance(json.loads(text), dict | list)
    except ValueError:
        return False


def _part(given: Json, path: str, role: str) -> list[Part]:
    part = Fields(given, path)
    signature, thought = part.take("thoughtSignature"), part.take("thought", False)
    made: Part
    match [*part.left]:
        case []:
            return [ProviderPart("gemini", "thought", given)] if thought and signature else []
        case ["text"]:
            text = part.take("text")
            made = ReasoningPart(text, signature, provider="gemini") if thought else TextPart(text, signature)
            if thought and not signature:
                raise Inexpressible(f"{path}.thought: unsigned")
            return [made]
        case ["inlineData"]:
            blob = Fields(part.take("inlineData"), path)
            data, mime = base64.b64decode(blob.take("data").translate(_MAIL)), blob.take("mimeType")
            made = ImagePart(Image(data=data, mime=mime)) if mime.startswith("image/") else FilePart(data=data, mime=mime)
            blob.end()
        case ["fileData"]:
            file = Fields(part.take("fileData"), path)
            url, mime = file.take("fileUri"), file.take("mimeType")
            made = ImagePart(Image(url=url, mime=mime)) if (mime or "").startswith("image/") else FilePart(url=url, mime=mime)
            file.end()
        case [kind] if role != "system":
            return [ProviderPart("gemini", kind, given)]
        case kinds:
            raise Inexpressible(f"{path}.{' '.join(kinds)}")
    return [made, *([ProviderPart("gemini", "thoughtSignature", {"thoughtSignature": signature})] if signature else [])]


def _tools(given: list[Any], options: Json) -> tuple[ToolSpec, ...]:
    """The functions. Other tools make the whole list an option."""
    tools: list[ToolSpec] = []
    for tool in given:
        for told in tool.get("functionDeclarations") or ():
            schema = told.get("parametersJsonSchema") or _schema(told.get("parameters") or {})
            tools.append(ToolSpec(told["name"], told.get("description") or "", schema))
            if told.keys() - {"name", "description", "parameters", "parametersJsonSchema"}:
                options["tools"] = given
        if tool.keys() != {"functionDeclarations"}:
            options["tools"] = given
    return tuple(tools)


def _choice(given: Json, asked: Json, options: Json) -> None:
    config = dict(given.get("functionCallingConfig") or {})
    mode, names = str(config.get("mode", "")).upper(), list[str](config.get("allowedFunctionNames") or ())
    known = [tool.name for tool in asked["tools"]]
    if mode in _MODES and (not names or (mode == "ANY" and len(names) == 1 and names[0] in known)):
        asked["tool_choice"] = names[0] if names else _MODES[mode]
    if "tools" in options or not asked.get("tool_choice"):
        options["toolConfig"] = given
    elif given.keys() != {"functionCallingConfig"}:
        options["toolConfig"] = {name: value for name, value in given.items() if name != "functionCallingConfig"}


def _thinking(config: Json, asked: Json) -> None:
    thinking: Json = config.get("thinkingConfig", {})
    match thinking:
        case {"thinkingBudget": int(budget), "includeThoughts": True} if len(thinking) == 2 and budget > 0:
            asked["reasoning"] = budget
        case {"thinkingBudget": 0} if len(thinking) == 1:
            asked["reasoning"] = 0
        case {"thinkingLevel": str(level), "includeThoughts": True} if len(thinking) == 2 and level.lower() in _LEVELS:
            asked["reasoning"] = level.lower()
        case _:
            return
    del config["thinkingConfig"]


def _format(config: Json, asked: Json) -> None:
    schema = config.get("responseJsonSchema") or _schema(config.get("responseSchema"))
    if config.get("responseMimeType") != "application/json":
        return
    asked["response_format"] = JsonSchema("answer", schema) if schema else "json"
    for name in ("responseMimeType", "responseJsonSchema", "responseSchema"):
        config.pop(name, None)


def _listed(value: Any) -> list[Any]:
    return value if is_array(value) else [value]


def _camel(value: Any) -> Any:
    """With its keys in camelCase, outside of what users and models name; nulls are absent."""
    if is_array(value):
        return [_camel(item) for item in value]
    if not is_object(value):
        return value
    named = {re.sub(r"_([a-z])", lambda found: found[1].upper(), name): item for name, item in value.items()}
    return {name: item if name in _FREE else _camel(item) for name, item in named.items() if item is not None}


def _schema(value: Any) -> Any:
    """A schema in the service's own form as JSON Schema."""
    if is_array(value):
        return [_schema(item) for item in value]
    if not is_object(value):
        return value
    made: Json = {
        name: {key: _schema(item) for key, item in inner.items()} if name == "properties" else _schema(inner)
        for name, inner in value.items()
    }
    if isinstance(made.get("type"), str):
        made["type"] = made["type"].lower()
        if made.pop("nullable", False):
            made["type"] = [made["type"], "null"]
    return made


def normal(body: Json) -> Json:
    """The body in the one form of all that mean the same."""
    made = _camel(body)
    made.pop("model", None)
    contents: list[Json] = []
    for content in made["contents"]:
        role, parts = content.get("role", "user"), [_normal_part(part) for part in _listed(content.get("parts", []))]
        role = "user" if role == "function" else role
        if contents and contents[-1]["role"] == role:
            contents[-1]["parts"] += parts
        else:
            contents.append({"role": role, "parts": parts})
    made["contents"] = [{**content, "parts": [part for part in content["parts"] if part not in ({"text": ""}, {})]} for content in contents]
    if system := made.get("systemInstruction"):
        made["systemInstruction"] = [part for part in _listed(system["parts"]) if part != {"text": ""}]
    made["tools"] = [_normal_tool(tool) for tool in _listed(made.get("tools", []))]
    if calling := made.get("toolConfig", {}).get("functionCallingConfig"):
        calling = {**calling, "mode": calling["mode"].upper()} if isinstance(calling.get("mode"), str) else calling
        made["toolConfig"] = {**made["toolConfig"], "functionCallingConfig": calling}
    if config := made.get("generationConfig"):
        made["generationConfig"] = _normal_config(config)
    return {name: value for name, value in made.items() if value not in ({}, [])}


def _normal_config(config: Json) -> Json:
    made = {name: value for name, value in config.items() if name != "responseSchema"}
    if "responseSchema" in config:
        made["responseJsonSchema"] = _schema(config["responseSchema"])
    if "responseJsonSchema" in made:
        made["responseJsonSchema"] = with_items(made["responseJsonSchema"])  # what an array that does not say so may hold
    if isinstance(level := made.get("thinkingConfig", {}).get("thinkingLevel"), str):
        made["thinkingConfig"] = {**made["thinkingConfig"], "thinkingLevel": level.lower()}
    return made


def _normal_part(part: Json) -> Json:
    made = dict(part)
    if "inlineData" in made:
        made["inlineData"] = {**made["inlineData"], "data": made["inlineData"]["data"].translate(_MAIL)}
    for name in ("functionCall", "functionResponse"):
        if name in made:
            made[name] = {
                "args" if name == "functionCall" else "response": {},
                **{key: item for key, item in made[name].items() if key != "id"},
            }
    return made


def _normal_tool(tool: Json) -> Json:
    if "functionDeclarations" not in tool:
        return tool
    declared: list[Json] = []
    for told in tool["functionDeclarations"]:
        schema = told.get("parametersJsonSchema") or _schema(told.get("parameters"))
        rest = {name: value for name, value in told.items() if name not in ("parameters", "parametersJsonSchema") and value}
        declared.append({**rest, **({"parametersJsonSchema": {**with_items(schema), "type": "object"}} if schema else {})})
    return {**tool, "functionDeclarations": declared}
