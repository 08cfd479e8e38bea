"""The adapter `openai`: Responses or Chat, by model.

Reasoning models go to Responses. The provider itself recommends it; on Chat their reasoning is lost between turns, the newer ones
(GPT-5.4 and later) refuse tools there while they reason, and the largest ones are not served there at all. All others go to Chat, which
alone has stop words, a seed and audio. A base URL that is not the provider's own always goes to Chat, the wire that every compatible
host speaks; Azure's too, since a deployment there may be called anything.

`Engine("openai:...", adapter_opts={"wire": "chat" | "responses"})` decides otherwise.
"""

from collections.abc import Mapping
from fnmatch import fnmatchcase
from typing import Any, Final, Literal, TypeAlias

from allm.blocks import CallContext
from allm.engine import Engine
from allm.errors import ErrorInfo, ValidationError
from allm.events import Event
from allm.providers.adapter import Decoder, HttpRequest
from allm.providers.openai_chat import OpenAIChat
from allm.providers.openai_responses import OpenAIResponses
from allm.requests import Request
from allm.responses import FinishReason, Response
from allm.sse import FrameTooLarge, SseDecoder
from allm.wire_json import MalformedJson, decode, is_object

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
    host = base_url.lower().partition("://")[2].partition("/")[0].partition(":")[0]
    if host != "api.openai.com" and not host.endswith(".api.openai.com"):
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


class RoutedDecoder:
    """Decodes whichever wire the answer is in, by its first event: that one of the two leaves nothing to guess."""

    def __init__(self, chat: Decoder, responses: Decoder) -> None:
        self._chat = chat
        self._responses = responses
        self._chosen: Decoder | None = None
        self._sse = SseDecoder()
        self._held: list[bytes] = []

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
        """The events that these bytes complete."""
        if self._chosen is not None:
            return self._chosen.feed(data)
        self._held.append(data)
        try:
            frames = self._sse.feed(data)
        except FrameTooLarge:
            return self._choose(self._chat)
        told = next((frame.data for frame in frames if frame.data.strip()), None)
        return [] if told is None else self._choose(self._by(told))

    def end(self) -> list[Event]:
        """The stream ended."""
        if self._chosen is not None:
            return self._chosen.end()
        told = next((frame.data for frame in self._sse.close()), b"")
        return self._choose(self._by(told)) + self._inner.end()

    def body(self, data: bytes) -> list[Event]:
        """The events of a whole body."""
        self._chosen = self._by(data)
        return self._chosen.body(data)

    def partial(self, finish: FinishReason, error: ErrorInfo | None) -> tuple[list[Event], Response]:
        """The events that close what is open, and the response so far."""
        return self._inner.partial(finish, error)

    @property
    def _inner(self) -> Decoder:
        return self._chosen or self._chat

    def _choose(self, chosen: Decoder) -> list[Event]:
        self._chosen = chosen
        held, self._held = b"".join(self._held), []
        return chosen.feed(held)

    def _by(self, told: bytes) -> Decoder:
        """Chat unless the first event, or the body, is of Responses: its events have a type, its bodies an output."""
        try:
            data: Any = decode(told)
        except MalformedJson:
            return self._chat
        responses = is_object(data) and (isinstance(data.get("type"), str) or "output" in data) and "choices" not in data
        return self._responses if responses else self._chat
