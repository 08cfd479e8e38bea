"""Adapters with one bug each, which the conformance suite must find: every test of the suite fails for one of them."""

import itertools
import json
from collections.abc import Mapping
from typing import Any

import msgspec
from msgspec.structs import replace

from allm.blocks import CallContext
from allm.engine import Engine
from allm.errors import ErrorInfo
from allm.events import ErrorOccurred, Event, MessageCompleted, MessageStarted, RawChunk, TextCompleted
from allm.messages import Message
from allm.providers.adapter import HttpRequest
from allm.providers.openai_chat import ChatDecoder, OpenAIChat
from allm.requests import Request
from allm.responses import FinishReason, Response
from allm.sse import SseDecoder

NOTHING = Response(finish_reason="stop")


class NeverCloses(ChatDecoder):
    def feed(self, data: bytes) -> list[Event]:
        return [event for event in super().feed(data) if not isinstance(event, TextCompleted)]


class OtherBody(ChatDecoder):
    def body(self, data: bytes) -> list[Event]:
        events = super().body(data)
        last = events[-1]
        if isinstance(last, MessageCompleted):
            events[-1] = MessageCompleted(replace(last.response, finish_reason="length"))
        return events


class Forgets(ChatDecoder):
    def feed(self, data: bytes) -> list[Event]:
        self._sse = SseDecoder()
        return super().feed(data)


class SameIds(ChatDecoder):
    def __init__(self, context: CallContext) -> None:
        super().__init__(msgspec.structs.replace(context, generation=1, used_ids=frozenset()))


class Hasty(ChatDecoder):
    """Takes any end for a good one."""

    def end(self) -> list[Event]:
        events = super().end()
        return events if self.ended else [*events, MessageCompleted(NOTHING)]

    def body(self, data: bytes) -> list[Event]:
        events = super().body(data)
        return [MessageCompleted(NOTHING)] if isinstance(events[-1], ErrorOccurred) else events


class LosesThePartial(ChatDecoder):
    def partial(self, finish: FinishReason, error: ErrorInfo | None) -> tuple[list[Event], Response]:
        events, _ = super().partial(finish, error)
        return events, Response(finish_reason=finish)


class NeverEnds(ChatDecoder):
    def end(self) -> list[Event]:
        return [*super().end(), RawChunk("one more")]


class Strict(ChatDecoder):
    def feed(self, data: bytes) -> list[Event]:
        if b"hologram" in data or b"x_conformance" in data:
            self._malformed("what is this?")
        return super().feed(data)


class Lenient(ChatDecoder):
    def fail(self, error: ErrorInfo) -> None:
        pass


class Babbles(ChatDecoder):
    """Tells errors as if the model had said them."""

    def fail(self, error: ErrorInfo) -> None:
        self.build.text(error.message)
        super().fail(error)


class RawOnly(ChatDecoder):
    def _choice(self, choice: Any) -> None:
        if not self._raw_chunks:
            super()._choice(choice)


class NoData(ChatDecoder):
    def feed(self, data: bytes) -> list[Event]:
        odd: Any = b"bytes"
        return [MessageStarted(odd) if isinstance(event, MessageStarted) else event for event in super().feed(data)]


class Sends(OpenAIChat):
    """Sends what it was told by `spoil`."""

    def request(self, engine: Engine, request: Request, base_url: str, stream: bool) -> HttpRequest:
        made = super().request(engine, self.other(request), base_url, stream)
        body = json.loads(made.body)
        self.spoil(body, engine, request)
        return replace(made, body=json.dumps(body).encode())

    def other(self, request: Request) -> Request:
        return request

    def spoil(self, body: dict[str, Any], engine: Engine, request: Request) -> None:
        """Changes the body."""


class NoSystem(Sends):
    def other(self, request: Request) -> Request:
        return replace(request, messages=tuple(message for message in request.messages if message.role != "system"))


class NoResults(Sends):
    def other(self, request: Request) -> Request:
        return replace(request, messages=tuple(message if message.role != "tool" else Message("user", "?") for message in request.messages))


class Numbers(Sends):
    numbers = itertools.count()

    def spoil(self, body: dict[str, Any], engine: Engine, request: Request) -> None:
        body["user"] = str(next(self.numbers))


class NoOptions(Sends):
    def other(self, request: Request) -> Request:
        return replace(request, options={})


class TellsAll(Sends):
    def spoil(self, body: dict[str, Any], engine: Engine, request: Request) -> None:
        body["metadata"] = repr(request.messages)


class SendsTheKey(Sends):
    def spoil(self, body: dict[str, Any], engine: Engine, request: Request) -> None:
        body["user"] = str(engine.keys)


class Nameless(OpenAIChat):
    provider = ""


class Vague(OpenAIChat):
    def failure(self, status: int, headers: Mapping[str, str], body: bytes) -> ErrorInfo:
        return ErrorInfo("adapter", "something", "something went wrong")


def with_decoder(decoder: type[ChatDecoder]) -> OpenAIChat:
    """The Chat wire with this decoder."""

    def made(engine: Engine, context: CallContext) -> ChatDecoder:
        return decoder(context)

    adapter = OpenAIChat()
    vars(adapter)["decoder"] = made
    return adapter


never_closes, other_body, forgets, same_ids, hasty, loses_the_partial, never_ends, strict, lenient, babbles, raw_only, no_data = map(
    with_decoder,
    (NeverCloses, OtherBody, Forgets, SameIds, Hasty, LosesThePartial, NeverEnds, Strict, Lenient, Babbles, RawOnly, NoData),
)
