"""The adapter `openai`: Responses or Chat, by model.

Reasoning models go to Responses. The provider itself recommends it; on Chat their reasoning is lost between turns, the newer ones
(GPT-5.4 and later) refuse tools there while they reason, and the largest ones are not served there at all. All others go to Chat, which
alone has stop words, a seed and audio. A base URL that is not the provider's own always goes to Chat, the wire that every compatible
host speaks; Azure's too, since a deployment there may be called anything.

`Engine("openai:...", adapter_opts={"wire": "chat" | "responses"})` decides otherwise.
"""

from collections.abc import Mapping
from fnmatch import fnmatchcase
from typing import Final, Literal, TypeAlias

import msgspec

from allm.blocks import CallContext
from allm.engine import Engine
from allm.errors import ErrorInfo, ValidationError
from allm.events import Event
from allm.providers.adapter import HttpRequest
from allm.providers.answer_ways import ways_at
from allm.providers.decoding import SseWireDecoder, is_whole
from allm.providers.openai_chat import OpenAIChat
from allm.providers.openai_chat_hosts import host_of, is_vendor
from allm.providers.openai_responses import OpenAIResponses
from allm.requests import Request
from allm.responses import FinishReason, Response
from allm.sse import Frame, FrameTooLarge, SseDecoder

__all__ = ["ROUTES", "OpenAI", "RoutedDecoder", "Wire", "wire_of"]

Wire: TypeAlias = Literal["chat", "responses"]

ROUTES: Final[tuple[tuple[str, Wire], ...]] = (
    ("*audio*", "chat"),  # served on Chat only
    ("*-search-preview*", "chat"), ("*-search-api*", "chat"),  # likewise
    ("*-chat-latest*", "chat"), ("o1-mini*", "chat"), ("o1-preview*", "chat"),  # do not reason, or keep no reasoning
    ("o[1-9]*", "responses"), ("gpt-[5-9]*", "responses"),  # reason; pro, deep-research and codex are served on Responses only
    ("codex-*", "responses"), ("computer-use-*", "responses"),
    ("gpt-daybreak-*", "responses"), ("gpt-rosalind-*", "responses"),  # listed for Responses only
    ("*", "chat"),
)  # fmt: skip
"""pattern of a model's name -> wire; the first that fits decides. A fine-tuned model is matched by what it was made from."""


def wire_of(model: str, base_url: str) -> Wire:
    """The wire for this model at this address."""
    if not is_vendor(host_of(base_url)):
        return "chat"
    name = model.lower().removeprefix("ft:")
    return next(wire for pattern, wire in ROUTES if fnmatchcase(name, pattern))


class OpenAI:
    """The adapter `openai`."""

    name = "openai"
    provider = "openai"

    def __init__(self) -> None:
        self._chat = OpenAIChat()
        self._responses = OpenAIResponses()

    def request(self, engine: Engine, request: Request, base_url: str, stream: bool) -> HttpRequest:
        """As the wire of the model has it."""
        adapter = self._responses if _wire(engine, request, base_url) == "responses" else self._chat
        return adapter.request(engine, request, base_url, stream)

    def left_out(self, engine: Engine, request: Request, base_url: str) -> tuple[str, ...]:
        """What the wire of the model has no place for: Chat has one for everything."""
        return self._responses.left_out(engine, request, base_url) if _wire(engine, request, base_url) == "responses" else ()

    def ways(self, engine: Engine, request: Request, base_url: str) -> tuple[str, ...]:
        """The ways to ask for an answer by a schema that are tried at this address, one after another."""
        return ways_at(base_url)

    def decoder(self, engine: Engine, context: CallContext) -> "RoutedDecoder":
        """A decoder for one attempt."""
        return RoutedDecoder(self._chat.decoder(engine, context), self._responses.decoder(engine, context))

    def failure(self, status: int, headers: Mapping[str, str], body: bytes) -> ErrorInfo:
        """What an error answer means: the same on both wires."""
        return self._responses.failure(status, headers, body)


def _wire(engine: Engine, request: Request, base_url: str) -> Wire:
    """The wire that the engine names, or else that of the model."""
    wire = engine.adapter_opts.get("wire") or wire_of(request.model or engine.model, base_url)
    if wire not in ("chat", "responses"):
        raise ValidationError.at("engine.adapter_opts.wire", f"expected chat or responses, got {wire!r}")
    return wire


class _Seen(msgspec.Struct):
    """What tells the two wires apart, as bytes."""

    type: msgspec.Raw = msgspec.Raw()
    output: msgspec.Raw = msgspec.Raw()
    choices: msgspec.Raw = msgspec.Raw()


_peek = msgspec.json.Decoder(_Seen).decode


class RoutedDecoder:
    """Decodes whichever wire the answer is in, by its first event: that one of the two leaves nothing to guess."""

    def __init__(self, chat: SseWireDecoder, responses: SseWireDecoder) -> None:
        self._chat = chat
        self._responses = responses
        self._chosen: SseWireDecoder | None = None
        self._sse = SseDecoder(bare=True)

    @property
    def progress(self) -> bool:
        """Whether the provider told of progress that is no content."""
        return self._inner.progress

    @progress.setter
    def progress(self, value: bool) -> None:
        self._inner.progress = value

    @property
    def has_content(self) -> bool:
        """Whether a caller would have to forget something."""
        return self._inner.has_content

    def block_ids(self) -> tuple[str, ...]:
        """The ids of all blocks so far."""
        return self._inner.block_ids()

    def headers(self, headers: Mapping[str, str]) -> None:
        """Keeps them for either."""
        self._chat.headers(headers)
        self._responses.headers(headers)

    def feed(self, data: bytes) -> list[Event]:
        """The events that these bytes complete. Until the first one with data nothing is held but what belongs to an event."""
        if self._chosen is not None:
            return self._chosen.feed(data)
        try:
            frames = self._sse.feed(data)
        except FrameTooLarge:
            self._chosen = self._chat
            self._chat.too_large()
            return self._chat.build.take()
        return self._choose(frames)

    def end(self) -> list[Event]:
        """The stream ended."""
        if self._chosen is not None:
            return self._chosen.end()
        frames = self._sse.close()
        events = self._choose([frame for frame in frames if frame.data == b"[DONE]" or is_whole(frame.data)])
        return events + self._inner.end()

    def body(self, data: bytes) -> list[Event]:
        """The events of a whole body."""
        self._chosen = self._by(data)
        return self._chosen.body(data)

    def partial(self, finish: FinishReason, error: ErrorInfo | None) -> tuple[list[Event], Response]:
        """The events that close what is open, and the response so far."""
        return self._inner.partial(finish, error)

    @property
    def _inner(self) -> SseWireDecoder:
        return self._chosen or self._chat

    def _choose(self, frames: list[Frame]) -> list[Event]:
        """Hands over to the decoder of the wire that the first of these frames with data is of, if there is one."""
        told = next((frame.data for frame in frames if frame.data.strip()), None)
        if told is None:
            return []
        self._chosen = self._by(told)
        return self._chosen.adopt(self._sse, frames)

    def _by(self, told: bytes) -> SseWireDecoder:
        """Chat unless the first event, or the body, is of Responses: its events have a type, its bodies an output. What is in them is
        not read twice."""
        try:
            seen = _peek(told)
        except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
            return self._chat
        responses = (bytes(seen.type)[:1] == b'"' or seen.output) and not seen.choices
        return self._responses if responses else self._chat
