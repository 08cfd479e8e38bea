"""What one provider's wire must know for the simulator to speak it: the `Wire` protocol.

A wire is pure: it reads requests and renders bytes. Queues, faults, timing and HTTP are not its
business. Each wire is one module beside this one, listed in `allm.testing.wires.WIRES`.
"""

from __future__ import annotations

from typing import Any, Protocol

import msgspec

from allm.testing.wires.script import Failure, Reply

__all__ = ["Ask", "BadRequest", "Frames", "Wire", "sse"]


class Ask(msgspec.Struct, frozen=True, kw_only=True):
    """What a request asks for, in no provider's words."""

    model: str
    stream: bool = False
    usage: bool = True
    """Whether a stream tells its usage (OpenAI's `stream_options.include_usage`)."""
    user_text: str = ""
    """The text of the last user message."""
    calls: int = 0
    """Tool calls the thread already carries; new ids are counted on from there."""


class BadRequest(Exception):
    """A request the provider itself would refuse."""

    def __init__(self, status: int, message: str, code: str | None = None) -> None:
        super().__init__(message)
        self.failure = Failure(status, message, code)


class Frames(msgspec.Struct, frozen=True):
    """A whole stream: what opens it, one entry a delta, and what ends it (the end marker last).

    An entry may hold several events of the wire, such as a block's start and its first delta.
    Each entry is sent as one HTTP chunk.
    """

    start: tuple[bytes, ...]
    deltas: tuple[bytes, ...]
    end: tuple[bytes, ...]
    content_type: str = "text/event-stream; charset=utf-8"


class Wire(Protocol):
    """One provider's API. `number` is the request's place among all requests, for made-up ids."""

    @property
    def name(self) -> str: ...

    @property
    def base_path(self) -> str:
        """What follows the host in the base URL that this provider's clients take."""
        ...

    @property
    def malformed(self) -> bytes:
        """A frame whose data is no JSON."""
        ...

    def serves(self, path: str) -> bool:
        """Whether requests to this path (without its query) are this wire's."""
        ...

    def parse(self, target: str, body: Any) -> Ask:
        """Read a request from its target (path and query) and decoded JSON; raises `BadRequest`."""
        ...

    def stream(self, ask: Ask, reply: Reply, number: int) -> Frames: ...

    def body(self, ask: Ask, reply: Reply, number: int) -> bytes:
        """The answer to a request without a stream."""
        ...

    def error(self, failure: Failure) -> bytes:
        """The body of an error answer."""
        ...

    def stream_error(self, failure: Failure) -> bytes:
        """The frame that tells of an error in a stream which began well."""
        ...

    def ping(self, ask: Ask, number: int) -> bytes:
        """Frames that keep a connection alive and say nothing."""
        ...

    def headers(self, number: int, failure: Failure | None) -> tuple[tuple[str, str], ...]:
        """Response headers of its own: the request id, and retry-after where the wire has one."""
        ...


def sse(data: bytes, *, event: str | None = None, eol: bytes = b"\n") -> bytes:
    """One server-sent event."""
    head = b"" if event is None else b"event: " + event.encode() + eol
    return head + b"data: " + data + eol + eol
