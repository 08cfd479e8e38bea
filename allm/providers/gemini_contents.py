"""A thread -> Gemini's contents, for a thread of any provider's making.

What this wire wants: the roles `user` and `model` in turn, the first of them `user`; the results of a turn's calls, as many as there
are calls, in the very next turn and before anything else; a signature on the first call of a turn (Gemini 3), where another
provider made it the vendor's own word for "do not check". Instructions have one place, wherever they stood in the thread.
"""

import base64
import re
from collections.abc import Mapping
from typing import Any, Final

import msgspec

from allm.errors import ValidationError
from allm.images import Image
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
)  # fmt: skip
from allm.providers.file_types import by_name, mime_of_file
from allm.providers.ids import dotted_name
from allm.providers.unshown import unshown
from allm.wire_json import is_array, is_object

__all__ = ["MAX_INLINE", "NO_RESULT", "SIGNATURE", "contents_of"]

SIGNATURE: Final = "thoughtSignature"
"""The field of a part; also the type of a provider part that holds the signature of the image or file before it."""

MAX_INLINE: Final = 100 * 1024 * 1024
"""Bytes of a file that go into a request; a larger one is given by its address."""

NO_RESULT: Final = "no result"
"""What the model reads for a call that was never answered."""

NO_MESSAGE: Final = "(no message)"
"""What stands for a user who said nothing."""

_UNCHECKED = base64.b64encode(b"skip_thought_signature_validator").decode()  # documented for calls that another model made
_SIGNED_FROM = 3.0  # the generation that checks signatures, and takes images inside of results
_IMAGES = frozenset({"image/png", "image/jpeg", "image/webp", "image/heic", "image/heif"})
_IN_RESULTS = frozenset({"image/png", "image/jpeg", "image/webp", "application/pdf", "text/plain"})
_SIGNATURE = re.compile(r"[A-Za-z0-9+/_-]+={0,2}")
_MADE_HERE = re.compile(r"call_.*_b[0-9]+\.[0-9]+", re.S)  # the ids that a call gets which came without one


def contents_of(
    messages: tuple[Message, ...], model: str, generation: float, names: Mapping[str, str] | None = None
) -> tuple[list[Any], list[Any]]:
    """(parts of the system instruction, contents). `names`: those of the tools that are declared -> their names on the wire. Raises
    ValidationError for what the wire cannot carry."""
    thread = _Thread(messages, model, generation, names or {})
    for number, message in enumerate(messages):
        thread.add(number, message)
    return thread.finished()


class _Call:
    """A call of the thread and, once found, the message that answers it."""

    __slots__ = ("answer", "part", "sent_id", "turn")

    def __init__(self, turn: int, part: ToolCallPart, sent_id: str | None) -> None:
        self.turn = turn
        self.part = part
        self.sent_id = sent_id
        self.answer: int | None = None


class _Thread:
    """The contents so far."""

    def __init__(self, messages: tuple[Message, ...], model: str, generation: float, names: Mapping[str, str]) -> None:
        self._messages = messages
        self._names = names
        self._checks = generation >= _SIGNED_FROM
        self._checks_images = self._checks and "image" in model
        self._system: list[Any] = []
        self._contents: list[dict[str, Any]] = []
        self._calls = _matched(messages)
        self._answered = {call.answer for call in self._calls}

    def add(self, number: int, message: Message) -> None:
        path = f"messages[{number}]"
        match message.role:
            case "system":
                self._system += _instructions(message, path)
            case "user":
                self._turn("user", self._said(message, path))
            case "assistant":
                self._assistant(number, message, path)
            case "tool":
                if number not in self._answered:  # of no call in this thread: it is told as what it is, a text
                    self._turn("user", self._said(message, path))

    def finished(self) -> tuple[list[Any], list[Any]]:
        """An instruction alone is a question; a thread that the model began has a word before it: the wire refuses an empty one."""
        if not self._contents and self._system:
            return [], [{"role": "user", "parts": self._system}]
        if not self._contents or self._contents[0]["role"] == "model":
            self._contents.insert(0, {"role": "user", "parts": [{"text": NO_MESSAGE}]})
        return self._system, self._contents

    def _turn(self, role: str, parts: list[Any]) -> None:
        if not parts:
            return
        if self._contents and self._contents[-1]["role"] == role:
            self._contents[-1]["parts"] += parts
        else:
            self._contents.append({"role": role, "parts": parts})

    def _said(self, message: Message, path: str) -> list[Any]:
        parts = [_said(part, f"{path}.content[{i}]") for i, part in enumerate(message.parts)]
        return [part for part in parts if part is not None]

    def _assistant(self, number: int, message: Message, path: str) -> None:
        calls = [call for call in self._calls if call.turn == number]
        rest = iter(calls)
        parts: list[Any] = []
        for i, part in enumerate(message.parts):
            if isinstance(part, ToolCallPart):
                call = next(rest)
                parts.append(_signed(self._call(call), part.signature, self._checks and call is calls[0]))
            elif isinstance(part, ProviderPart) and part.type == SIGNATURE:
                if part.provider == "gemini" and parts and (signature := _valid(part.data.get(SIGNATURE))):
                    parts[-1][SIGNATURE] = signature
            elif (made := self._made(part, f"{path}.content[{i}]")) is not None:
                parts.append(made)
        self._turn("model", parts)
        self._results(calls)

    def _made(self, part: Part, path: str) -> dict[str, Any] | None:
        """A part of the model's own turn. Reasoning goes back only signed, and only to its maker."""
        match part:
            case TextPart(text, signature):
                signed = _signed({"text": text}, signature)
                return signed if text or len(signed) > 1 else None
            case ReasoningPart(text, signature, _, provider):
                signed = _signed({"text": text, "thought": True}, signature if provider == "gemini" else None)
                return signed if SIGNATURE in signed else None
            case ProviderPart(provider, _, data):
                if provider != "gemini" or (data.get("thought") and SIGNATURE not in data):
                    return None
                return dict(data)
            case ImagePart():
                made = _given(part, path)
                return made if made is None or "text" in made else _signed(made, None, self._checks_images)
            case FilePart():
                return _given(part, path)
            case _:
                return _said(part, path)

    def _name(self, call: _Call) -> str:
        return self._names.get(call.part.name) or dotted_name(call.part.name)

    def _call(self, call: _Call) -> dict[str, Any]:
        told: dict[str, Any] = {"name": self._name(call), "args": call.part.arguments}
        if call.sent_id is not None:
            told["id"] = call.sent_id
        return {"functionCall": told}

    def _results(self, calls: list[_Call]) -> None:
        """The answers to one turn, in the order of its calls."""
        results: list[Any] = []
        beside: list[Any] = []
        for call in calls:
            response: dict[str, Any] = {"name": self._name(call), "response": {"error": NO_RESULT}}
            if call.sent_id is not None:
                response["id"] = call.sent_id
            if call.answer is not None:
                self._result(call.answer, response, beside)
            results.append({"functionResponse": response})
        self._turn("user", results + beside)

    def _result(self, number: int, response: dict[str, Any], beside: list[Any]) -> None:
        """Text is the response; images and files go into it where the model takes them there, else beside it."""
        message = self._messages[number]
        response["response"] = _response(message.text, "error" if message.metadata.get("is_error") is True else "output")
        inside: list[Any] = []
        for i, part in enumerate(message.parts):
            if isinstance(part, TextPart):
                continue
            said = _given(part, f"messages[{number}].content[{i}]")
            if said is not None:
                blob = said.get("inlineData")
                fits = self._checks and blob is not None and blob["mimeType"] in _IN_RESULTS
                (inside if fits else beside).append(said)
        if inside:
            response["parts"] = inside


def _matched(messages: tuple[Message, ...]) -> list[_Call]:
    """All calls, each with its answer: the first result after it that names its id and answers no other."""
    calls: list[_Call] = []
    waiting: dict[str, list[_Call]] = {}
    for number, message in enumerate(messages):
        if message.role == "assistant":
            own = _gave_ids(message)
            for part in message.tool_calls:
                call = _Call(number, part, part.id if own and not _MADE_HERE.fullmatch(part.id) else None)
                calls.append(call)
                waiting.setdefault(part.id, []).append(call)
        elif message.role == "tool" and (open_calls := waiting.get(message.tool_call_id or "")):
            open_calls.pop(0).answer = number
    return calls


def _gave_ids(message: Message) -> bool:
    """Whether the ids of this message's calls may be Gemini's: only it signs calls and texts, and it signs where it gives ids."""
    return any(isinstance(part, TextPart | ToolCallPart) and _valid(part.signature) for part in message.parts)


def _instructions(message: Message, path: str) -> list[Any]:
    for i, part in enumerate(message.parts):
        if isinstance(part, ImagePart | FilePart | ToolCallPart):
            raise ValidationError.at(f"{path}.content[{i}]", "this wire takes text only in a system message")
    return [{"text": part.text} for part in message.parts if isinstance(part, TextPart) and part.text]


def _said(part: Part, path: str) -> dict[str, Any] | None:
    match part:
        case TextPart(text):
            return {"text": text} if text else None
        case ImagePart(image):
            return _image(image, path)
        case FilePart():
            return _file(part, path)
        case ProviderPart(provider, _, data):
            return dict(data) if provider == "gemini" else None
        case ReasoningPart() | Unknown():
            return None
        case ToolCallPart():
            raise ValidationError.at(path, "a tool call belongs into an assistant's message")


def _given(part: Part, path: str) -> dict[str, Any] | None:
    """What a model made. The wire may not take it, and no user can help that: it is told of then."""
    try:
        return _said(part, path)
    except ValidationError:
        return {"text": unshown(part)} if isinstance(part, ImagePart | FilePart) else None


def _signed(part: dict[str, Any], signature: str | None, wanted: bool = False) -> dict[str, Any]:
    """With its signature; `wanted` where the model refuses a part without one."""
    valid = _valid(signature) or (_UNCHECKED if wanted else None)
    return {**part, SIGNATURE: valid} if valid else part


def _valid(signature: Any) -> str | None:
    """A signature in the form that this wire's are in: another maker's proof is dropped, not sent to be refused."""
    return signature if isinstance(signature, str) and len(signature) % 4 == 0 and _SIGNATURE.fullmatch(signature) else None


def _response(text: str, name: str) -> Any:
    """What a tool said must be an object: of one field with this name. JSON goes in as it stands, so that no number in it changes."""
    if text.lstrip()[:1] in ("{", "["):
        try:
            told = msgspec.json.decode(text)
            raw: Any = msgspec.Raw(text.encode())
        except (msgspec.DecodeError, UnicodeEncodeError, RecursionError):
            return {name: text}
        if is_object(told) or is_array(told):
            return raw if is_object(told) else {name: raw}
    return {name: text}


def _image(image: Image, path: str) -> dict[str, Any]:
    mime = _mime(image.mime, image.url) or "image/jpeg"
    if mime not in _IMAGES:
        raise ValidationError.at(path, f"this wire takes PNG, JPEG, WebP, HEIC and HEIF images, not {mime}")
    if image.data is None:
        return {"fileData": {"mimeType": mime, "fileUri": image.url}}
    return _inline(image.data, mime, path)


def _file(part: FilePart, path: str) -> dict[str, Any]:
    """A file's type by its name or address where it is not told; a video's page (YouTube) has none."""
    mime = _mime(part.mime, part.name) or _mime(None, part.url)
    if part.data is None:
        return {"fileData": {**({"mimeType": mime} if mime else {}), "fileUri": part.url}}
    return _inline(part.data, mime or mime_of_file(part, path), path)


def _inline(data: bytes, mime: str, path: str) -> dict[str, Any]:
    if len(data) > MAX_INLINE:
        raise ValidationError.at(path, f"{len(data)} bytes are more than this wire takes in a request ({MAX_INLINE}); give its address")
    return {"inlineData": {"mimeType": mime, "data": data}}  # which the encoder writes as base64: two copies less


def _mime(told: str | None, name: str | None) -> str | None:
    """The media type as it is known, in lower case, or by the name's suffix."""
    if told:
        told = told.strip().lower()
        return "image/jpeg" if told == "image/jpg" else told
    return by_name(name)
