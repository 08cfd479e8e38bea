"""OpenAI Responses: a thread -> the items of `input`.

An item is a message, a call, a result, a piece of reasoning, or something that only this wire knows. A thread may come from any provider;
what has no place where it stands is put where it has one:

    a result without its call                   words of the user
    a call without a result                     a result that says so
    an image or a file of the assistant's       shown by the user, but for an image of the wire's own
    reasoning that nothing follows              left out: it is refused
    reasoning unsealed or of other makers       left out, as are blocks of other makers
    arguments that are no JSON object           `{}`
    a call of the wire's own tools (a shell, a computer) that nobody answered: left out
    a message of the assistant's that says nothing: left out

Ids of messages and calls (`msg_...`, `fc_...`) are not sent: nothing is kept that could be found by them, and an item with an id demands
that the reasoning before it is there.
"""

import base64
from collections.abc import Mapping, Sequence
from typing import Any, Final

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
from allm.providers.call_arguments import arguments_text
from allm.providers.file_types import mime_of_file
from allm.providers.ids import wire_id, wire_name
from allm.providers.openai_responses_items import MAKER
from allm.wire_json import MalformedJson, decode, is_object

__all__ = ["IMAGES", "ITEMS", "MAX_BYTES", "NO_RESULT", "input_of"]

Item = dict[str, Any]

ITEMS: Final = frozenset({
    "additional_tools", "apply_patch_call", "apply_patch_call_output", "code_interpreter_call", "compaction", "computer_call",
    "computer_call_output", "custom_tool_call_output", "file_search_call", "local_shell_call", "local_shell_call_output",
    "mcp_approval_request", "mcp_approval_response", "mcp_call", "mcp_list_tools", "program", "program_output", "shell_call",
    "shell_call_output", "tool_search_call", "tool_search_output", "web_search_call",
})  # fmt: skip
"""The wire's own items that it takes back as they are. One of a type that is not known here stays in the thread."""

IMAGES: Final = frozenset({"image/png", "image/jpeg", "image/webp", "image/gif"})
"""The types of image that the wire reads."""

MAX_BYTES: Final = 50_000_000
"""Of one image or file."""

NO_RESULT: Final = "There is no result of this call."

_CONTENT: Final = frozenset({"input_text", "input_image", "input_file"})
_DETAILS: Final = frozenset({"auto", "low", "high", "original"})
_RUN_HERE: Final = frozenset({"apply_patch_call", "computer_call", "local_shell_call", "shell_call"})
"""The wire's own calls that are run elsewhere than with the provider: it refuses a thread in which one has no output."""


def input_of(messages: Sequence[Message], kept: bool = False, names: Mapping[str, str] | None = None) -> list[Item]:
    """The items. `kept`: what came before is with the provider, so a result may stand without its call. `names`: of tools -> their names
    on the wire. Raises ValidationError."""
    pairs = _Pairs(messages, names or {})
    items: list[Item] = []
    for i, message in enumerate(messages):
        path = f"messages[{i}]"
        match message.role:
            case "assistant":
                items += _assistant(message, i, path, pairs)
                items += [] if kept else _no_results(i, pairs)
            case "tool":
                call_id = pairs.results.get(i) or (wire_id(message.tool_call_id or "") if kept else None)
                items += _said(message, "user", path) if call_id is None else [_result(message, call_id, path, pairs)]
            case "system" | "user":
                items += _said(message, message.role, path)
    return items if items or kept else [_spoken("user", [])]


class _Pairs:
    """Calls and their results. A result belongs to the first unanswered call before it that has its id; two calls of one id get two.

    `names`: the tools' names on the wire; `own`: the ids of the calls of the wire's own tools that were answered.
    """

    def __init__(self, messages: Sequence[Message], names: Mapping[str, str]) -> None:
        self.names = names
        self.own = {_called(part) for message in messages for part in message.parts if _is_own(part, "_output")}
        self.calls: dict[tuple[int, int], str] = {}
        """(message, part) -> the id on the wire."""
        self.results: dict[int, str] = {}
        """message -> the id of the call that it answers."""
        self.more: dict[str, Item] = {}
        """id on the wire -> what the provider told of the call beside its name and arguments; a custom tool's has its type."""
        waiting: dict[str, list[str]] = {}
        for i, message in enumerate(messages):
            if message.role == "assistant":
                self._add_calls(i, message, waiting)
            elif message.role == "tool" and (unanswered := waiting.get(message.tool_call_id or "")):
                self.results[i] = unanswered.pop(0)
        self.unanswered = {call_id for ids in waiting.values() for call_id in ids}

    def _add_calls(self, i: int, message: Message, waiting: dict[str, list[str]]) -> None:
        used = set(self.calls.values())
        newest: dict[str, str] = {}
        before = ""
        for j, part in enumerate(message.parts):
            if isinstance(part, ToolCallPart):
                call_id = self.calls[i, j] = _unused(wire_id(part.id), used)
                used.add(call_id)
                waiting.setdefault(part.id, []).append(call_id)
                before = newest[part.id] = call_id
            elif before and (told := _own_data(part, "function_call") or _own_data(part, "custom_tool_call")):
                kept: Item = {name: told[name] for name in ("namespace", "caller") if name in told}
                custom = {"type": "custom_tool_call"} if _own_data(part, "custom_tool_call") else {}
                # Calls may interleave: what belongs to one stands behind it, but not always right behind it.
                self.more[newest.get(str(told.get("call_id")), before)] = {**custom, **kept}


def _unused(call_id: str, used: set[str]) -> str:
    while call_id in used:
        call_id = wire_id(f"{call_id} again")
    return call_id


# who says what


def _said(message: Message, role: str, path: str) -> list[Item]:
    """What a user or the system said; an item of the wire's own among it (the output of its shell, an approval) stands by itself."""
    items: list[Item] = []
    content: list[Item] = []
    for i, part in enumerate(message.parts):
        if (own := _own_item(part)) is not None:
            items += [_spoken(role, content)] if content else []
            items.append(own)
            content = []
        elif (piece := _content(part, f"{path}.content[{i}]")) is not None:
            content.append(piece)
    return [*items, _spoken(role, content)] if content or not items else items


def _spoken(role: str, content: list[Item]) -> Item:
    return {"role": role, "content": _short(content)}


def _short(content: list[Item]) -> str | list[Item]:
    """One piece of text is text; so is none."""
    if len(content) > 1 or (content and content[0].keys() != {"type", "text"}):
        return content
    return str(content[0]["text"]) if content else ""


def _result(message: Message, call_id: str, path: str, pairs: _Pairs) -> Item:
    pieces = [_content(part, f"{path}.content[{i}]") for i, part in enumerate(message.parts)]
    output = _short([piece for piece in pieces if piece is not None])
    caller = {name: value for name, value in pairs.more.get(call_id, {}).items() if name == "caller"}
    return {"type": _output_of(call_id, pairs), "call_id": call_id, "output": output, **caller}


def _output_of(call_id: str, pairs: _Pairs) -> str:
    """The type of a call's result: a custom tool has one of its own."""
    return f"{pairs.more.get(call_id, {}).get('type', 'function_call')}_output"


def _no_results(i: int, pairs: _Pairs) -> list[Item]:
    """For the calls of message `i` that were never answered: the wire refuses a call without a result."""
    missing = [call_id for (at, _), call_id in pairs.calls.items() if at == i and call_id in pairs.unanswered]
    return [{"type": _output_of(call_id, pairs), "call_id": call_id, "output": NO_RESULT} for call_id in missing]


def _assistant(message: Message, i: int, path: str, pairs: _Pairs) -> list[Item]:
    """An item for each thing that the model did, in order; what the user shows of it stands behind, so that its turn stays one."""
    items: list[Item] = []
    shown: list[Item] = []
    text: list[str] = []
    for j, part in enumerate(message.parts):
        if isinstance(part, TextPart):
            text.append(part.text)
            continue
        phase = _own_data(part, "message").get("phase")
        made: list[Item] = []
        if isinstance(part, ToolCallPart):
            made = [_call(part, pairs.calls[i, j], pairs)]
        elif not _is_own(part, "_call") or _called(part) in pairs.own:
            made = _made(message.parts, j, f"{path}.content[{j}]")
        if made or phase:  # what is left out parts no text from the next
            items += _answered(text, phase)
            text = []
        for item in made:
            (shown if item.get("role") == "user" else items).append(item)
    items += _answered(text, None)
    while items and items[-1].get("type") == "reasoning":
        items.pop()
    return items + shown


def _answered(text: list[str], phase: Any) -> list[Item]:
    """What the model said, if it said anything. llama.cpp wants its type."""
    if not any(text):
        return []
    return [{"type": "message", "role": "assistant", "content": "".join(text), **({"phase": phase} if phase else {})}]


def _call(call: ToolCallPart, call_id: str, pairs: _Pairs) -> Item:
    name = pairs.names.get(call.name) or wire_name(call.name)
    more = pairs.more.get(call_id, {})
    if more.get("type") == "custom_tool_call":
        return {"call_id": call_id, "name": name, "input": call.raw_arguments or "", **more}
    return {"type": "function_call", "call_id": call_id, "name": name, "arguments": arguments_text(call), **more}


def _made(parts: tuple[Part, ...], j: int, path: str) -> list[Item]:
    """The items of a part of an assistant's message that is neither text nor a call."""
    part = parts[j]
    match part:
        case ReasoningPart():
            return _reasoning(part)
        case ProviderPart():
            own = _own_item(part) or _own_image(part, parts[j - 1] if j else None)
            return [own] if own is not None else []
        case ImagePart() | FilePart():
            if j + 1 < len(parts) and _own_image(parts[j + 1], part) is not None:
                return []  # it goes with the part that tells how it was made
            content = _shown(part, path)
            return [_spoken("user", [content])] if content is not None else []
        case _:
            return []


def _reasoning(part: ReasoningPart) -> list[Item]:
    if part.provider != MAKER or not part.data:
        return []
    try:
        item = decode(part.data.encode())
    except (MalformedJson, UnicodeEncodeError):
        return []
    return [item] if is_object(item) and item.get("type") == "reasoning" and item.get("encrypted_content") else []


# what is the wire's own


def _is_own(part: Part, end: str) -> bool:
    """Whether this is a call (`_call`) of a tool of the wire's own that runs here, or what came of it (`_output`)."""
    return (
        isinstance(part, ProviderPart)
        and part.provider == MAKER
        and part.type.removesuffix("_output") in _RUN_HERE
        and part.type.endswith(end)
    )


def _called(part: Part) -> Any:
    return part.data.get("call_id") if isinstance(part, ProviderPart) else None


def _own_data(part: Part, kind: str) -> Item:
    """What this wire said in a part of its own of this kind; nothing if it is another."""
    return part.data if isinstance(part, ProviderPart) and part.provider == MAKER and part.type == kind else {}


def _own_item(part: Part) -> Item | None:
    """An item that goes back to its maker as it came, but for the sources of a search: more kinds of them are told than are taken."""
    if not isinstance(part, ProviderPart) or part.provider != MAKER or part.type not in ITEMS or not part.data:
        return None
    item = {**part.data, "type": part.type}
    if part.type == "web_search_call" and is_object(action := item.get("action")):
        item["action"] = {name: value for name, value in action.items() if name != "sources"}
    return item


def _own_image(part: Part, image: Part | None) -> Item | None:
    """The image that this wire's model made. More is told of its making than is taken back."""
    told = _own_data(part, "image_generation_call")
    if not told.get("id") or not isinstance(image, ImagePart) or image.image.data is None:
        return None
    kept = {"id": told["id"], "status": told.get("status") or "completed"}
    return {"type": "image_generation_call", **kept, "result": image.image.to_base64()}


# parts


def _content(part: Part, path: str) -> Item | None:
    match part:
        case TextPart(text):
            return {"type": "input_text", "text": text}
        case ImagePart():
            return _image(part, path)
        case FilePart():
            return _file(part, path)
        case ProviderPart(provider, kind, data):
            return {**data, "type": kind} if provider == MAKER and kind in _CONTENT else None
        case ReasoningPart() | Unknown():
            return None
        case ToolCallPart():
            raise ValidationError.at(path, "a tool call belongs into an assistant's message")


def _shown(part: Part, path: str) -> Item | None:
    """What another maker's model made. The wire may not take it, and no user can help that: it is left out then."""
    try:
        return _content(part, path)
    except ValidationError:
        return None


def _image(part: ImagePart, path: str) -> Item:
    image = part.image
    if part.detail not in _DETAILS:
        raise ValidationError.at(f"{path}.detail", f"expected one of {', '.join(sorted(_DETAILS))}, got {part.detail!r}")
    if image.data is None:
        _check_address(image.url or "", f"{path}.image.url")
        return {"type": "input_image", "detail": part.detail, "image_url": image.url}
    if image.mime not in IMAGES:
        raise ValidationError.at(f"{path}.image.mime", f"this wire reads {', '.join(sorted(IMAGES))}, not {image.mime}")
    _check_size(image.data, f"{path}.image.data")
    return {"type": "input_image", "detail": part.detail, "image_url": image.to_data_uri()}


def _file(part: FilePart, path: str) -> Item:
    _check_kind(part.mime, path)
    if part.data is None:
        _check_address(part.url or "", f"{path}.url")
        return {"type": "input_file", "file_url": part.url}
    _check_size(part.data, f"{path}.data")
    mime = mime_of_file(part, path)
    _check_kind(mime, path)
    data = f"data:{mime};base64,{base64.b64encode(part.data).decode('ascii')}"
    if mime in IMAGES:
        return {"type": "input_image", "detail": "auto", "image_url": data}
    return {"type": "input_file", "filename": part.name or "file", "file_data": data}


def _check_kind(mime: str | None, path: str) -> None:
    kind = (mime or "").partition("/")[0]
    if kind in ("audio", "video"):
        raise ValidationError.at(f"{path}.mime", f"this wire takes no {kind}")


def _check_address(url: str, path: str) -> None:
    if not url.startswith(("https://", "http://", "data:")):
        raise ValidationError.at(path, "this wire fetches from http and https addresses only")


def _check_size(data: bytes, path: str) -> None:
    if len(data) > MAX_BYTES:
        raise ValidationError.at(path, f"{len(data)} bytes are more than the {MAX_BYTES} that this wire takes")
