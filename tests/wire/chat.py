"""Small answers of the Chat wire, written by hand, and what the decoder makes of them."""

import json
from collections.abc import Iterable
from itertools import pairwise
from typing import Any

from allm.blocks import CallContext
from allm.events import ErrorOccurred, Event, MessageCompleted, ReasoningDelta, TextDelta, ToolCallDelta
from allm.folding import fold
from allm.order import OrderChecker
from allm.providers.openai_chat import ChatDecoder
from allm.responses import Response

DONE = b"data: [DONE]\n\n"


def decoder(*used_ids: str, raw_chunks: bool = False) -> ChatDecoder:
    return ChatDecoder(CallContext(request_id="req", used_ids=frozenset(used_ids), include_raw_chunks=raw_chunks))


def frame(data: Any, event: str = "") -> bytes:
    """One event of a stream; `data` is JSON, or bytes as they are."""
    told = data if isinstance(data, bytes) else json.dumps(data).encode()
    return (f"event: {event}\n".encode() if event else b"") + b"data: " + told + b"\n\n"


def chunk(delta: Any = None, finish: str | None = None, **more: Any) -> bytes:
    """A chunk with one choice."""
    choice: dict[str, Any] = {"index": 0, "delta": {} if delta is None else delta, "finish_reason": finish}
    return frame({"id": "x1", "model": "m1", "choices": [choice], **more})


def calls(*given: dict[str, Any], finish: str | None = None) -> bytes:
    """A chunk of tool calls."""
    return chunk({"tool_calls": list(given)}, finish)


def streamed(*pieces: bytes, raw_chunks: bool = False, used: Iterable[str] = ()) -> list[Event]:
    """The events of a stream in these pieces, checked for their order."""
    told = decoder(*used, raw_chunks=raw_chunks)
    events = [event for piece in pieces for event in told.feed(piece)] + told.end()
    return checked(events)


def whole(data: Any, raw_chunks: bool = False) -> list[Event]:
    """The events of one JSON body, checked for their order."""
    body = data if isinstance(data, bytes) else json.dumps(data).encode()
    return checked(decoder(raw_chunks=raw_chunks).body(body))


def checked(events: list[Event]) -> list[Event]:
    checker = OrderChecker()
    for event in events:
        checker.check(event)
    return events


def response(events: list[Event]) -> Response:
    """What the events end with, which must also be what they fold to."""
    last = events[-1]
    assert isinstance(last, MessageCompleted), last
    assert fold(events) == last.response
    return last.response


def failure(events: list[Event]) -> tuple[str, str]:
    """(reason, message) of the error that the events end with."""
    last = events[-1]
    assert isinstance(last, ErrorOccurred), last
    return last.error.reason, last.error.message


def joined(events: Iterable[Event]) -> list[Event]:
    """With adjacent deltas of a block joined."""
    result: list[Event] = []
    for event in events:
        last = result[-1] if result else None
        if isinstance(event, TextDelta) and isinstance(last, TextDelta) and last.id == event.id:
            result[-1] = TextDelta(event.id, last.delta + event.delta)
        elif isinstance(event, ReasoningDelta) and isinstance(last, ReasoningDelta) and last.id == event.id:
            result[-1] = ReasoningDelta(event.id, last.delta + event.delta)
        elif isinstance(event, ToolCallDelta) and isinstance(last, ToolCallDelta) and last.id == event.id:
            result[-1] = ToolCallDelta(event.id, last.arguments_delta + event.arguments_delta)
        else:
            result.append(event)
    return result


def cut(data: bytes, places: Iterable[int]) -> list[bytes]:
    """The bytes in pieces, cut at these places."""
    ends = sorted({0, len(data), *(place % (len(data) + 1) for place in places)})
    return [data[a:b] for a, b in pairwise(ends)]
