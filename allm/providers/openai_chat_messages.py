"""OpenAI Chat Completions: a thread -> `messages`.

A thread may come from any provider. The wire wants each call answered right behind the message that asked, by a text; what has no place
where it stands is put where it has one:

    a result without its call              words of the user
    a call without a result                a result that says so
    an image or a file in a result         shown by the user, behind the results of that turn
    an image or a file of the assistant's  shown by the user
    reasoning and other makers' blocks     left out
    an assistant's message of nothing      left out: some hosts refuse it
    a system message between turns         first, beside the others, where the template of the model may refuse it in its place
    arguments that are no JSON object      an object: what was understood of them, or `{}`
    what a host said beside its calls      on the same turn, to the same host: it goes on thinking where it was

Ids are kept where they can be: compatible hosts have rules of their own for them. Names are such as the vendor takes, which all hosts do.
"""

import base64
from collections.abc import Mapping, Sequence
from typing import Any, Final

import msgspec

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
from allm.providers.openai_chat_hosts import NINE, is_google, nine_letters, tells_back
from allm.providers.openai_chat_kept import MOST_OF_ID, TURN
from allm.providers.unshown import unshown

__all__ = ["IMAGES", "MAX_BYTES", "NO_RESULT", "Dialect", "messages_of"]

Item = dict[str, Any]

IMAGES: Final = frozenset({"image/png", "image/jpeg", "image/webp", "image/gif"})
"""The types of image that the wire reads."""

MAX_BYTES: Final = 50_000_000
"""Of one image or file."""

NO_RESULT: Final = "There is no result of this call."

_CONTENT: Final = frozenset({"text", "image_url", "input_audio", "file"})
_SPEECH: Final = {"audio/wav": "wav", "audio/x-wav": "wav", "audio/mpeg": "mp3", "audio/mp3": "mp3"}


class Dialect(msgspec.Struct, frozen=True, kw_only=True):
    """What is different about the host that is asked: `host` is its name, `nine` tells that call ids must be as Mistral has them,
    `system_first` that system messages go first."""

    host: str = ""
    nine: bool = False
    system_first: bool = False


def messages_of(messages: Sequence[Message], names: Mapping[str, str], dialect: Dialect | None = None) -> list[Item]:
    """The messages. `names`: those of the tools that are declared -> their names on the wire. Raises
    ValidationError for what the wire cannot carry."""
    dialect = dialect or Dialect()
    pairs = _Pairs(messages, dialect)
    items: list[Item] = []
    for i, message in enumerate(messages):
        path = f"messages[{i}]"
        match message.role:
            case "assistant":
                items += _turn(messages, i, pairs, names, dialect)
            case "tool":
                items += [] if i in pairs.answers else [{"role": "user", "content": _contents(message, path)}]
            case "system" | "user":
                items.append({"role": message.role, **_named(message), "content": _contents(message, path)})
    return _system_first(items) if dialect.system_first else items


def _system_first(items: list[Item]) -> list[Item]:
    """All system messages as one, before the others."""
    system = [item for item in items if item["role"] == "system"]
    if not system or (len(system) == 1 and items[0] is system[0]):
        return items
    contents = [item["content"] for item in system]
    if all(isinstance(content, str) for content in contents):
        content: Any = "\n\n".join([content for content in contents if content])
    else:
        content = [part for told in contents for part in ([{"type": "text", "text": told}] if isinstance(told, str) else told)]
    return [{**system[0], "content": content}, *[item for item in items if item["role"] != "system"]]


class _Pairs:
    """Calls and their results. A result belongs to the first unanswered call before it that has its id."""

    def __init__(self, messages: Sequence[Message], dialect: Dialect) -> None:
        self.calls: dict[int, list[tuple[ToolCallPart, str]]] = {}
        """message -> its calls, each with its id on the wire."""
        self.results: dict[str, int] = {}
        """id on the wire -> the message that answers."""
        used: set[str] = set()
        waiting: dict[str, list[str]] = {}
        for i, message in enumerate(messages):
            if message.role == "assistant":
                own = _own_ids(message, dialect.host)
                self.calls[i] = [(call, _new_id(call.id, used, dialect.nine, own)) for call in message.tool_calls]
                for call, sent_id in self.calls[i]:
                    waiting.setdefault(call.id, []).append(sent_id)
            elif message.role == "tool" and (unanswered := waiting.get(message.tool_call_id or "")):
                self.results[unanswered.pop(0)] = i
        self.answers = frozenset(self.results.values())


def _own_ids(message: Message, host: str) -> Sequence[str]:
    """Ids that are longer than all hosts take them, and are this host's own."""
    if all(len(call.id) <= MOST_OF_ID for call in message.tool_calls):
        return ()
    own: Sequence[str] = _kept(message, tells_back(host)).get("ids") or ()
    return own


def _kept(message: Message, maker: str | None) -> Item:
    """What the turn has beside it that its host needs back."""
    kept = [part.data for part in message.parts if isinstance(part, ProviderPart) and part.provider == maker and part.type == TURN]
    return kept[0] if kept else {}


def _new_id(given: str, used: set[str], nine: bool, own: Sequence[str]) -> str:
    fits = NINE.fullmatch(given) is not None if nine else 0 < len(given) <= MOST_OF_ID
    fits = fits or given in own
    sent = given if fits else nine_letters(given) if nine else wire_id(given, 0)
    while sent in used:
        sent = nine_letters(f"{sent} again") if nine else wire_id(f"{sent} again", 0)
    used.add(sent)
    return sent


def _named(message: Message) -> Item:
    return {"name": message.name} if message.name else {}


def _turn(messages: Sequence[Message], i: int, pairs: _Pairs, names: Mapping[str, str], dialect: Dialect) -> list[Item]:
    """What the assistant said, the results of its calls, and what the user shows of both."""
    message = messages[i]
    calls = [_call(call, sent_id, names) for call, sent_id in pairs.calls[i]]
    text = message.text if message.text.strip() else None
    said: Item = {"role": "assistant", **_named(message), "content": text}
    items = [said] if text else []
    if calls:
        items = [{**said, "tool_calls": calls, **_told_back(message, [call for call, _ in pairs.calls[i]], calls, dialect.host)}]
    shown = _made(message)
    for _, sent_id in pairs.calls[i]:
        answer = pairs.results.get(sent_id)
        content: Any = NO_RESULT
        if answer is not None:
            content = _texts([part for part in messages[answer].parts if isinstance(part, TextPart)])
            if also := _given(messages[answer], f"messages[{answer}]"):
                shown += [{"type": "text", "text": f"With the result of the tool call {sent_id}:"}, *also]
        items.append({"role": "tool", "tool_call_id": sent_id, "content": content})
    return [*items, {"role": "user", "content": shown}] if shown else items


def _told_back(message: Message, calls: list[ToolCallPart], sent: list[Item], host: str) -> Item:
    """What this host said on a turn with calls and needs back: fields of the message; `sent` gets what stood beside its calls."""
    maker = tells_back(host)
    if maker is None:
        return {}
    told = _kept(message, maker)
    extra: Item = told.get("extra_content") or {}
    for call, item in zip(calls, sent, strict=True):
        if call.id in extra:
            item["extra_content"] = extra[call.id]
        elif call.signature is not None and is_google(host):
            item["extra_content"] = {"google": {"thought_signature": call.signature}}
    back: Item = {}
    if told.get("reasoning_details"):
        back["reasoning_details"] = told["reasoning_details"]
    if told.get("thinking_blocks"):
        back["thinking_blocks"] = told["thinking_blocks"]
    field = told.get("reasoning")
    if field == "reasoning_content" or (field == "reasoning" and not back):
        back[field] = message.reasoning_text
    return back


def _call(call: ToolCallPart, sent_id: str, names: Mapping[str, str]) -> Item:
    name = names.get(call.name) or wire_name(call.name)
    return {"id": sent_id, "type": "function", "function": {"name": name, "arguments": arguments_text(call)}}


def _given(message: Message, path: str) -> list[Item]:
    """The images and files of a result."""
    items = [_content(part, f"{path}.content[{i}]") for i, part in enumerate(message.parts) if not isinstance(part, TextPart)]
    return [item for item in items if item is not None]


def _made(message: Message) -> list[Item]:
    """The images and files that a model made. The wire may not take one, and no user can help that: it is told of then."""
    items: list[Item] = []
    for part in message.parts:
        if isinstance(part, ImagePart | FilePart):
            try:
                items.append(_image(part, "") if isinstance(part, ImagePart) else _file(part, ""))
            except ValidationError:
                items.append({"type": "text", "text": unshown(part)})
    return items


def _contents(message: Message, path: str) -> str | list[Item]:
    """One piece of text is text; so is none."""
    parts = message.parts
    if all(isinstance(part, TextPart) for part in parts) and len(parts) <= 1:
        return message.text
    _check(message, path)
    items = [_content(part, f"{path}.content[{i}]") for i, part in enumerate(parts)]
    return [item for item in items if item is not None] or ""


def _check(message: Message, path: str) -> None:
    for i, part in enumerate(message.parts):
        if message.role == "system" and isinstance(part, ImagePart | FilePart):
            raise ValidationError.at(f"{path}.content[{i}]", "this wire takes text only in a system message")


def _texts(parts: list[TextPart]) -> str | list[Item]:
    return [{"type": "text", "text": part.text} for part in parts] if len(parts) > 1 else "".join(part.text for part in parts)


def _content(part: Part, path: str) -> Item | None:
    match part:
        case TextPart(text):
            return {"type": "text", "text": text}
        case ImagePart():
            return _image(part, path)
        case FilePart():
            return _file(part, path)
        case ProviderPart(provider, kind, data):
            return {**data, "type": kind} if provider == "openai" and kind in _CONTENT else None
        case ReasoningPart() | Unknown():
            return None
        case ToolCallPart():
            raise ValidationError.at(path, "a tool call belongs into an assistant's message")


def _image(part: ImagePart, path: str) -> Item:
    image = part.image
    if image.data is None and not (image.url or "").startswith(("https://", "http://")):
        raise ValidationError.at(f"{path}.image.url", "this wire fetches from http and https addresses only")
    if image.data is not None and image.mime not in IMAGES:
        raise ValidationError.at(f"{path}.image.mime", f"this wire reads {', '.join(sorted(IMAGES))}, not {image.mime}")
    _check_size(image.data, f"{path}.image.data")
    detail = {"detail": part.detail} if part.detail in ("low", "high") else {}
    return {"type": "image_url", "image_url": {"url": image.url or image.to_data_uri(), **detail}}


def _file(part: FilePart, path: str) -> Item:
    if part.data is None:
        raise ValidationError.at(path, "this wire takes files by their bytes, not by URL")
    _check_size(part.data, f"{path}.data")
    text = base64.b64encode(part.data).decode("ascii")
    mime = mime_of_file(part, path)
    if mime in _SPEECH:
        return {"type": "input_audio", "input_audio": {"data": text, "format": _SPEECH[mime]}}
    if mime in IMAGES:
        return {"type": "image_url", "image_url": {"url": f"data:{mime};base64,{text}"}}
    return {"type": "file", "file": {"filename": part.name or "file", "file_data": f"data:{mime};base64,{text}"}}


def _check_size(data: bytes | None, path: str) -> None:
    if data is not None and len(data) > MAX_BYTES:
        raise ValidationError.at(path, f"{len(data)} bytes are more than the {MAX_BYTES} that this wire takes")
