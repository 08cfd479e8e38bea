"""Adapters with one bug each in what they make of an answer: every test of the conformance suite fails for one here or beside."""

from collections.abc import Callable, Mapping
from typing import Any

import msgspec
from msgspec.structs import replace

from allm.blocks import CallContext
from allm.engine import Engine
from allm.errors import ErrorInfo
from allm.events import ErrorOccurred, Event, MessageCompleted, MessageStarted, RawChunk, TextCompleted
from allm.providers.openai_chat import ChatDecoder, OpenAIChat
from allm.responses import FinishReason, Response
from allm.sse import SseDecoder
from allm.usage import Usage

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


class OthersBreak(ChatDecoder):
    """Tells its errors of another provider."""

    def fail(self, error: ErrorInfo) -> None:
        super().fail(replace(error, provider="somebody"))


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


class OthersFail(OpenAIChat):
    def failure(self, status: int, headers: Mapping[str, str], body: bytes) -> ErrorInfo:
        return replace(super().failure(status, headers, body), provider="somebody")


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


def told_otherwise(change: Callable[[Response], Response]) -> OpenAIChat:
    """The Chat wire, whose answers are changed at their end."""

    class Changed(ChatDecoder):
        def feed(self, data: bytes) -> list[Event]:
            return [changed(event) for event in super().feed(data)]

        def body(self, data: bytes) -> list[Event]:
            return [changed(event) for event in super().body(data)]

    def changed(event: Event) -> Event:
        return MessageCompleted(change(event.response)) if isinstance(event, MessageCompleted) else event

    return with_decoder(Changed)


def always_stops(response: Response) -> Response:
    return replace(response, finish_reason="stop")


def loses_the_word(response: Response) -> Response:
    return replace(response, raw_finish_reason=None)


def counts_nothing(response: Response) -> Response:
    return replace(response, usage=Usage())


_DECODERS = (
    NeverCloses, OtherBody, Forgets, SameIds, Hasty, LosesThePartial, NeverEnds, Strict, Lenient, Babbles, RawOnly, NoData, OthersBreak,
)  # fmt: skip
never_closes, other_body, forgets, same_ids, hasty, loses_the_partial, never_ends, *others = map(with_decoder, _DECODERS)
strict, lenient, babbles, raw_only, no_data, others_break = others
only_stops, no_word, uncounted = map(told_otherwise, (always_stops, loses_the_word, counts_nothing))
