"""Anthropic Messages: a thread -> `system` and `messages`.

The wire wants turns: user and assistant in alternation, every tool call answered at the start of the very next user turn, ids of letters,
digits, `_` and `-` that are used once, no empty text, no image from the assistant, reasoning only as it was signed. A thread may come
from any provider, so its messages are gathered into turns, and what has no place where it stands is put where it has one:

    a result without its call in the turn before    text of the user turn
    a call without a result                         a result that says so
    an image or a file of the assistant's           the start of the next user turn
    a system message between turns                  `system`, or in place after a user turn where the model takes that
    reasoning and blocks of other makers            left out
    a server tool's call whose result never came    left out, unless the answer goes on there

Reasoning keeps its place among the other blocks: the wire has it between the blocks of server tools too, and refuses it moved or changed.
The vendor takes it signed only. Other hosts of this wire (DeepSeek, MiniMax) do not sign it, and want it back on the turns that call tools.
"""

import base64
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

from allm.errors import ValidationError
from allm.images import Image
from allm.messages import FilePart, ImagePart, Message, Part, ProviderPart, ReasoningPart, TextPart, ToolCallPart, Unknown
from allm.providers.file_types import by_name
from allm.providers.ids import wire_id, wire_name
from allm.wire_json import is_object

__all__ = ["MOST_NAME", "Block", "Turns", "turns_of"]

Block = dict[str, Any]

IMAGE_TYPES: Final = frozenset({"image/jpeg", "image/png", "image/gif", "image/webp"})
MAX_IMAGE: Final = 10 * 1024 * 1024
"""Bytes of one image, counted as base64 text, which is how the provider counts."""
MAX_FILE: Final = 32 * 1024 * 1024
"""Bytes of one file as base64 text: a request may not be larger."""

NO_RESULT: Final = "There is no result of this call."
NO_MESSAGE: Final = "(no message)"

MOST_NAME: Final = 128
"""Characters of a tool's name."""

_THOUGHT = frozenset({"thinking", "redacted_thinking"})


@dataclass
class _Call:
    """A call of the newest assistant turn. `result` once it is answered."""

    given: str
    id: str
    result: Block | None = None


def turns_of(messages: Sequence[Message], in_place: bool, names: Mapping[str, str], maker: str | None) -> "Turns":
    """The turns of a thread. `names`: of the tools that are declared -> their names on the wire. `maker`: under which name this host's
    unsigned reasoning is kept. Raises ValidationError for what the wire cannot carry.

    A message that says nothing once its orphans are left out is no turn, so that they go before turns are made.
    """
    turns = _gathered(messages, Turns(in_place, names, maker))
    if orphans := _orphans(turns.messages):
        turns = _gathered(messages, Turns(in_place, names, maker, orphans))
    return turns


def _gathered(messages: Sequence[Message], turns: "Turns") -> "Turns":
    for i, message in enumerate(messages):
        turns.add(message, f"messages[{i}]")
    turns.close()
    return turns


class Turns:
    """Gathers messages into turns; see `turns_of`. `system` and `messages` are the outcome.

    `orphans`: ids of the calls of server tools to leave out.
    """

    def __init__(self, in_place: bool, names: Mapping[str, str], maker: str | None, orphans: frozenset[Any] = frozenset()) -> None:
        self.system: list[Block] = []
        self.messages: list[Block] = []
        self.tools: dict[str, None] = {}
        """Names of the tools that were called."""
        self._in_place = in_place
        self._names = names
        self._maker = maker
        self._orphans = orphans
        self._used: set[str] = set()
        self._calls: list[_Call] = []
        self._said: list[Block] = []
        self._orders: list[Block] = []

    def add(self, message: Message, path: str) -> None:
        """The next message. Raises ValidationError for what the wire cannot carry."""
        match message.role:
            case "system":
                self._order(message, path)
            case "user":
                self._said += _contents(message, path)
            case "tool":
                self._result(message, path)
            case "assistant":
                self._assistant(message)

    def close(self) -> None:
        """After the last message."""
        self._end_user_turn()
        if not self.messages:
            # A thread of nothing but instructions is legal elsewhere; here there must be a message.
            self.messages.append({"role": "user", "content": [_text(NO_MESSAGE)]})
        last = self.messages[-1]
        if last["role"] == "assistant":
            _trim(last["content"])

    def _order(self, message: Message, path: str) -> None:
        blocks: list[Block] = []
        for i, part in enumerate(message.parts):
            if isinstance(part, ImagePart | FilePart):
                raise ValidationError.at(f"{path}.content[{i}]", "this wire takes text only in a system message")
            block = _content(part, f"{path}.content[{i}]")
            blocks += [block] if block is not None else []
        started = self.messages or self._said or self._calls
        (self._orders if started and self._in_place else self.system).extend(blocks)

    def _result(self, message: Message, path: str) -> None:
        content = [_text(message.content)] if isinstance(message.content, str) and message.content.strip() else _contents(message, path)
        waiting = next((call for call in self._calls if call.result is None and call.given == message.tool_call_id), None)
        if waiting is None:
            self._said += [_text(f"Result of the tool call {message.tool_call_id}:"), *content]
            return
        waiting.result = {"type": "tool_result", "tool_use_id": waiting.id}
        if content:
            waiting.result["content"] = _plain(content)
        if message.metadata.get("is_error") is True:
            waiting.result["is_error"] = True

    def _assistant(self, message: Message) -> None:
        blocks: list[Block] = []
        calls: list[_Call] = []
        carried: list[Block] = []
        for part in message.parts:
            match part:
                case TextPart():
                    blocks += [block] if (block := _spoken(part)) is not None else []
                case ReasoningPart():
                    blocks += [block] if (block := self._thought(part, bool(message.tool_calls))) is not None else []
                case ToolCallPart():
                    calls.append(_Call(part.id, self._new_id(part.id)))
                    blocks.append(self._call(part, calls[-1].id))
                case ProviderPart():
                    _append(blocks, part, self._orphans)
                case ImagePart() | FilePart():
                    carried += _carried(part)
                case Unknown():
                    pass
        _end_with_words(blocks)
        if blocks and calls and self._goes_on():
            self.messages[-1]["content"] += blocks
            self._calls += calls
        elif blocks:
            self._end_user_turn()
            self._begin_assistant_turn(blocks)
            self._calls = calls
        self._said += carried

    def _goes_on(self) -> bool:
        """Whether the assistant called and nothing was answered yet: calls told in several messages are of one turn."""
        return bool(self._calls) and not self._said and not self._orders and all(call.result is None for call in self._calls)

    def _begin_assistant_turn(self, blocks: list[Block]) -> None:
        if self.messages and self.messages[-1]["role"] == "assistant":
            self.messages[-1]["content"] += blocks
        else:
            self.messages.append({"role": "assistant", "content": blocks})

    def _new_id(self, given: str) -> str:
        wired, again = wire_id(given), 1
        while wired in self._used:
            again += 1
            wired = wire_id(f"{given}.{again}")
        self._used.add(wired)
        return wired

    def _call(self, part: ToolCallPart, wired: str) -> Block:
        name = self._names.get(part.name) or wire_name(part.name, MOST_NAME)
        self.tools[name] = None
        return {"type": "tool_use", "id": wired, "name": name, "input": part.arguments}

    def _thought(self, part: ReasoningPart, calls: bool) -> Block | None:
        if part.provider == "anthropic" and part.data is not None:
            return {"type": "redacted_thinking", "data": part.data}
        if part.provider == "anthropic" and part.signature:
            return {"type": "thinking", "thinking": part.text, "signature": part.signature}
        if calls and part.text and self._maker is not None and part.provider == self._maker:
            return {"type": "thinking", "thinking": part.text, "signature": ""}
        return None

    def _end_user_turn(self) -> None:
        # Results come first, wherever in the turn they were told.
        content = [*(call.result or _missing(call) for call in self._calls), *self._said]
        if content:
            self.messages.append({"role": "user", "content": content})
        if self._orders and content:
            self.messages.append({"role": "system", "content": self._orders})
        elif self._orders:  # behind the last that has its place, or the order of the instructions would change
            before = next((message["content"] for message in reversed(self.messages) if message["role"] == "system"), self.system)
            before += self._orders
        self._calls, self._said, self._orders = [], [], []


def _end_with_words(blocks: list[Block]) -> None:
    """No turn of the wire may end with reasoning: one that was cut off there did."""
    while blocks and blocks[-1]["type"] in _THOUGHT:
        blocks.pop()


def _orphans(messages: list[Block]) -> frozenset[Any]:
    """The ids of the calls of server tools that have no result: the wire refuses them, but where the answer goes on with them. That is the
    end of the thread, or the results of the calls that stand beside them or that they made. And of results whose call is gone."""
    answered = {block.get("tool_use_id") for message in messages if message["role"] == "assistant" for block in message["content"]}
    newest = max((i for i, message in enumerate(messages) if message["role"] == "assistant"), default=-1)
    goes_on = all(block["type"] == "tool_result" for message in messages[newest + 1 :] for block in message["content"])
    called = messages[:newest] if goes_on else messages
    calls = [block for message in called if message["role"] == "assistant" for block in message["content"] if _is_server_call(block)]
    own = [block for message in messages if message["role"] == "assistant" for block in message["content"]]
    made = {block.get("id") for block in own if block["type"].endswith("tool_use")}
    results = {block["tool_use_id"] for block in own if block.get("tool_use_id") is not None}
    return (frozenset(block.get("id") for block in calls) - answered) | (results - made)


def _is_server_call(block: Block) -> bool:
    kind: str = block["type"]
    return kind != "tool_use" and kind.endswith("_tool_use")


def _append(blocks: list[Block], part: ProviderPart, orphans: frozenset[Any]) -> None:
    """Adds a block of the provider's own, or what belongs to the block before it."""
    block = _own(part)
    if block is None or (_is_server_call(block) and block.get("id") in orphans) or block.get("tool_use_id") in orphans:
        return
    before = blocks[-1]["type"] if blocks else ""
    if part.type == "citations":
        of = part.data.get("of")
        texts = blocks[-1:] if of is None else [each for each in blocks if each.get("text") == of]
        if texts and texts[-1]["type"] == "text":
            texts[-1]["citations"] = [_citation(item) for item in part.data.get("citations") or ()]
    elif part.type == "tool_use":
        if before == "tool_use":
            blocks[-1].update({name: value for name, value in part.data.items() if name not in ("type", "id")})
    else:
        blocks.append(block)


def _carried(part: ImagePart | FilePart) -> list[Block]:
    """What the assistant made is shown to it by the user. What this wire takes from nobody is told of only."""
    kind = "an image" if isinstance(part, ImagePart) else "a file"
    try:
        block = _content(part, "")
    except ValidationError:
        block = None
    return [_text(f"The assistant made {kind}{':' if block else '.'}"), *([block] if block else [])]


def _missing(call: _Call) -> Block:
    return {"type": "tool_result", "tool_use_id": call.id, "content": NO_RESULT, "is_error": True}


def _trim(content: list[Block]) -> None:
    """The wire refuses white space at the end of an answer that the model is to go on with."""
    if content[-1]["type"] == "text" and isinstance(text := content[-1].get("text"), str):
        content[-1] = {**content[-1], "text": text.rstrip()}


def _text(text: str) -> Block:
    return {"type": "text", "text": text}


def _plain(content: list[Block]) -> str | list[Block]:
    """Text by itself goes as text."""
    only = content[0]
    return only["text"] if len(content) == 1 and only.keys() == {"type", "text"} else content


def _spoken(part: Part) -> Block | None:
    """Text, unless there is none in it: the wire refuses blank text."""
    return _text(part.text) if isinstance(part, TextPart) and part.text.strip() else None


def _own(part: Part) -> Block | None:
    return {"type": part.type, **part.data} if isinstance(part, ProviderPart) and part.provider == "anthropic" else None


def _citation(told: Any) -> Any:
    """As it came, without `file_id`, which the wire gives and does not take."""
    return {name: value for name, value in told.items() if name != "file_id"} if is_object(told) else told


def _contents(message: Message, path: str) -> list[Block]:
    blocks = [_content(part, f"{path}.content[{i}]") for i, part in enumerate(message.parts)]
    return [block for block in blocks if block is not None]


def _content(part: Part, path: str) -> Block | None:
    match part:
        case TextPart():
            return _spoken(part)
        case ImagePart():
            return _image(part.image, path)
        case FilePart():
            return _file(part, path)
        case ProviderPart():
            return _own(part)
        case ReasoningPart() | Unknown():
            return None
        case ToolCallPart():
            raise ValidationError.at(path, "a tool call belongs into an assistant's message")


def _image(image: Image, path: str) -> Block:
    if image.url is not None:
        return {"type": "image", "source": _address(image.url, f"{path}.image")}
    mime = "image/jpeg" if image.mime == "image/jpg" else image.mime
    if mime not in IMAGE_TYPES:
        raise ValidationError.at(f"{path}.image", f"this wire takes JPEG, PNG, GIF and WebP, not {mime}")
    return {"type": "image", "source": _base64(image.to_binary(), mime, MAX_IMAGE, f"{path}.image")}


def _base64(data: bytes, mime: str, most: int, path: str) -> Block:
    if (len(data) + 2) // 3 * 4 > most:
        raise ValidationError.at(path, f"{len(data)} bytes are too many: this wire takes {most // 4 * 3} at most")
    return {"type": "base64", "media_type": mime, "data": base64.b64encode(data).decode("ascii")}


def _address(url: str, path: str) -> Block:
    if not url.startswith("https://"):
        raise ValidationError.at(path, f"this wire takes https addresses only, not {url.partition(':')[0]}")
    return {"type": "url", "url": url}


def _file(part: FilePart, path: str) -> Block:
    mime = (part.mime or "").partition(";")[0].strip().lower() or _mime(part)
    if mime.startswith("image/"):
        return _image(Image(data=part.data, url=part.url, mime=mime), path)
    block: Block = {"type": "document", "source": _source(part, mime, path)}
    if part.name:
        block["title"] = part.name
    return block


def _source(part: FilePart, mime: str, path: str) -> Block:
    textual = mime.startswith("text/") or mime in ("application/json", "application/xml")
    if part.url is not None and mime == "application/pdf":
        return _address(part.url, path)
    if part.data is None or not (textual or mime == "application/pdf"):
        what = "addresses of PDFs and images" if part.data is None else "PDFs, texts and images"
        raise ValidationError.at(path, f"this wire takes {what}, not {mime or 'a file of unknown type; give mime='}")
    if not textual:
        return _base64(part.data, mime, MAX_FILE, path)
    try:
        return {"type": "text", "media_type": "text/plain", "data": part.data.decode()}
    except UnicodeDecodeError:
        raise ValidationError.at(path, "the text is not UTF-8") from None


def _mime(part: FilePart) -> str:
    """A media type that was not told: by the name or the first bytes, or a PDF where only an address is known."""
    return "application/pdf" if part.data is None else by_name(part.name) or ""
