"""OpenAI Chat Completions: what an answer holds beside text and calls, and what its host needs back.

Images become `ImagePart`s where they come. Annotations and audio become one `ProviderPart("openai.chat", ...)` each when the answer is
complete. A turn with tool calls has one part more, `ProviderPart("openai.chat@<host>", "turn", ...)`, if its host needs something back to
go on thinking where it was: which field its reasoning came in, its `reasoning_details` or `thinking_blocks`, what stood beside its calls.
It names the host, so that it goes back there and nowhere else, from any process that has the thread.
"""

import base64
import binascii
from hashlib import sha256
from typing import Any, Final

from allm.errors import ValidationError
from allm.images import Image
from allm.messages import ImagePart, Part, ProviderPart
from allm.providers.decoding import within_limits
from allm.providers.loose import bytes_of
from allm.wire_json import encode, is_array, is_object

__all__ = ["MAKER", "MOST_OF_ID", "TURN", "Kept", "image_of", "other_part"]

MAKER: Final = "openai.chat"
"""Who is named as the maker of parts that no other wire understands."""
TURN: Final = "turn"
"""The type of the part that holds what goes back to one host."""
MOST_OF_ID: Final = 40
"""Letters of a call's id that all hosts take."""

_GROWING: Final = ("text", "summary", "data")
"""Fields of a reasoning detail that come in pieces; of the others the last one counts."""


class Kept:
    """What was told beside text and calls."""

    def __init__(self) -> None:
        self.reasoning: str | None = None
        """The field that reasoning came in."""
        self._details = _Details()
        self._blocks: list[dict[str, Any]] = []
        self._notes: dict[bytes, Any] = {}
        self._images: set[bytes] = set()
        self._audio: dict[str, Any] = {}
        self._sound: list[str] = []
        self._words: list[str] = []

    def __bool__(self) -> bool:
        return bool(self._notes or self._audio or self._sound or self._words)

    def details(self, told: Any) -> str:
        """More `reasoning_details`. Gives the readable text that is new in them."""
        return "".join([self._details.add(each) for each in _objects(told)])

    def thinking(self, told: Any, shown: bool) -> str:
        """More of LiteLLM's `thinking_blocks`: Anthropic's blocks, whose last piece has the signature and may tell all of the text once
        more. Gives what is readable in them, if it is not told as reasoning too (`shown`)."""
        said = "".join([_think(self._blocks, each) for each in _objects(told)])
        return "" if shown or self.reasoning is not None else said

    def images(self, told: Any) -> list[Part]:
        """Images, but for those that were told before: some hosts repeat them at the end."""
        parts: list[Part] = []
        for each in _objects(told):
            name = sha256(encode(each)).digest()
            if name not in self._images:
                self._images.add(name)
                part = image_of(each) or other_part("image", each)
                parts += [part] if part is not None else []
        return parts

    def annotations(self, told: Any) -> None:
        """Where the answer has what it says from."""
        self._notes |= {encode(each): each for each in _objects(told)}

    def audio(self, told: Any) -> None:
        """Speech, or a piece of it: its bytes and its words grow."""
        if is_object(told):
            for name, value in told.items():
                if name == "data" and isinstance(value, str):
                    self._sound.append(value)
                elif name == "transcript" and isinstance(value, str):
                    self._words.append(value)
                elif value is not None:
                    self._audio[name] = value

    def parts(self) -> list[Part]:
        """The parts that follow a complete answer."""
        parts: list[Part | None] = []
        if self._notes:
            parts.append(other_part("annotations", {"annotations": list(self._notes.values())}))
        if self._audio or self._sound or self._words:
            parts.append(other_part("audio", {**self._audio, "data": _joined(self._sound), "transcript": "".join(self._words)}))
        return [part for part in parts if part is not None]

    def turn(self, told_back: str, beside_calls: dict[str, Any], ids: list[str]) -> list[Part]:
        """What this turn, which called tools, must have beside it when it goes back to its host."""
        data: dict[str, Any] = {}
        if self.reasoning is not None:
            data["reasoning"] = self.reasoning
        if details := self._details.whole():
            data["reasoning_details"] = details
        if self._blocks:
            data["thinking_blocks"] = [{name: _whole(value) for name, value in block.items()} for block in self._blocks]
        if long := [each for each in ids if len(each) > MOST_OF_ID]:
            data["ids"] = long  # LiteLLM has the thought signatures of Gemini in them
        if beside_calls:
            data["extra_content"] = beside_calls
        kept = within_limits(data)
        return [ProviderPart(told_back, TURN, kept)] if kept else []


class _Details:
    """OpenRouter's and MiniMax's `reasoning_details`: a list of objects that grow, each at its `index`."""

    def __init__(self) -> None:
        self._at: dict[Any, dict[str, Any]] = {}
        self._pieces: dict[tuple[Any, str], list[str]] = {}
        self._sizes: dict[tuple[Any, str], int] = {}

    def add(self, told: dict[str, Any]) -> str:
        """More of one; the readable text that is new in it."""
        place = (str(told.get("index", told.get("id"))), str(told.get("type")))
        whole = self._at.setdefault(place, {})
        shown = ""
        for name, value in told.items():
            if name in _GROWING and isinstance(value, str):
                if str(told.get("format")).startswith("MiniMax"):
                    value = self._new_of(place, name, value)
                new = self._grown(place, name, value)
                shown += new if name != "data" else ""
            elif value is not None:
                whole[name] = value
        return shown

    def _grown(self, place: Any, name: str, value: str) -> str:
        self._pieces.setdefault((place, name), []).append(value)
        self._sizes[place, name] = self._sizes.get((place, name), 0) + len(value)
        return value

    def _new_of(self, place: Any, name: str, value: str) -> str:
        """What is new in a text that is told anew from its beginning each time, as MiniMax does."""
        size = self._sizes.get((place, name), 0)
        before = "".join(self._pieces.get((place, name), ())) if len(value) >= size else None
        return value[size:] if before is not None and value.startswith(before) else value

    def whole(self) -> list[dict[str, Any]]:
        """All of them, in the order in which they began."""
        for (place, name), pieces in self._pieces.items():
            self._at[place][name] = "".join(pieces)
        return list(self._at.values())


def _think(blocks: list[dict[str, Any]], told: dict[str, Any]) -> str:
    """Adds a piece of a thinking block to these; the text that is new in it. A block ends with its signature, or as one of another type."""
    last: dict[str, Any] | None = blocks[-1] if blocks else None
    if last is None or last.get("type") != told.get("type") or told.get("type") != "thinking" or last.get("signature"):
        last = {"thinking": list[str]()} if told.get("type") == "thinking" else dict[str, Any]()
        blocks.append(last)
    text, before = told.get("thinking"), last.get("thinking")
    last |= {name: value for name, value in told.items() if name != "thinking" and value is not None}
    if not isinstance(text, str) or not is_array(before):
        return ""
    if told.get("signature") and len(text) > 1 and "".join(before) == text:
        return ""  # all of it, told once more
    before.append(text)
    return text


def _whole(value: Any) -> Any:
    """The pieces of a text as one."""
    return "".join(value) if is_array(value) else value


def image_of(told: dict[str, Any]) -> ImagePart | None:
    """The image of a content part or of an entry of `images`; None where there is none that can be had."""
    inner = told.get("image_url", told.get("imageUrl"))
    address = inner.get("url") if is_object(inner) else inner if isinstance(inner, str) else told.get("url")
    try:
        if isinstance(address, str):
            return ImagePart(Image.from_url(address))
        if isinstance(text := told.get("b64_json", told.get("data")), str):
            return ImagePart(Image(data=bytes_of(text)))
    except (ValidationError, ValueError):
        return None
    return None


def other_part(kind: str, data: dict[str, Any]) -> ProviderPart | None:
    """A part of what has no neutral one; None if it is beyond the limits of a value of ours."""
    kept = within_limits({"data": data})
    return ProviderPart(MAKER, kind, kept["data"]) if kept else None


def _objects(told: Any) -> list[dict[str, Any]]:
    return [each for each in told if is_object(each)] if is_array(told) else [told] if is_object(told) and told else []


def _joined(pieces: list[str]) -> str:
    """Base64 of all bytes: each piece of a stream is encoded for itself."""
    if len(pieces) == 1:
        return pieces[0]
    try:
        return base64.b64encode(b"".join([base64.b64decode(piece) for piece in pieces])).decode("ascii")
    except (binascii.Error, ValueError):
        return "".join(pieces)
