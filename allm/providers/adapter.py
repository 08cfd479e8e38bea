"""What an adapter is: the contract between a wire and everything above it."""

from collections.abc import Callable, Mapping
from typing import Any, ClassVar, Final, Protocol

import msgspec

from allm.blocks import CallContext
from allm.engine import Engine
from allm.errors import ErrorInfo
from allm.events import (
    Event,
    PartCompleted,
    ReasoningCompleted,
    ReasoningDelta,
    ReasoningStarted,
    TextCompleted,
    TextDelta,
    TextStarted,
    ToolCallCompleted,
    ToolCallDelta,
    ToolCallStarted,
)  # fmt: skip
from allm.requests import Request
from allm.responses import FinishReason, Response

__all__ = ["EITHER", "PROGRESS", "Adapter", "Decoder", "HttpRequest", "Script"]

PROGRESS: Final = frozenset({
    TextStarted, TextDelta, TextCompleted, ReasoningStarted, ReasoningDelta, ReasoningCompleted, ToolCallStarted, ToolCallDelta,
    ToolCallCompleted, PartCompleted,
})  # fmt: skip
"""The events that feed the watchdogs: content, whole or in part. Beside them a decoder sets `progress` when the provider tells of
progress that is no content (a refusal being written, a server tool at work). Pings, comments and empty chunks give neither."""

EITHER: Final = "application/json, text/event-stream"
"""What a call that asks for a stream accepts: the one body of an error, and of hosts that do not stream, comes as JSON."""


class HttpRequest(msgspec.Struct, frozen=True, kw_only=True):
    """A request to send, without its key: that goes into `key_header`, after `key_prefix`, at the moment of sending."""

    url: str
    headers: tuple[tuple[str, str], ...] = ()
    body: bytes = b""
    method: str = "POST"
    key_header: str | None = None
    key_prefix: str = ""


class Script(msgspec.Struct, frozen=True):
    """What a fake plays instead of sending anything: (seconds to wait, item as bytes) in order."""

    steps: tuple[tuple[float, bytes], ...]


class Decoder(Protocol):
    """Turns one answer into events. `feed` and `end` for a stream, `body` for one JSON body; the last event of a complete answer is
    `MessageCompleted`, of one that the provider itself fails `ErrorOccurred`. Nothing is given after either."""

    progress: bool

    def feed(self, data: bytes) -> list[Event]:
        """The events that these bytes complete."""
        ...

    def end(self) -> list[Event]:
        """The stream ended, well or not: what is left, with `MessageCompleted` only if the provider's end marker was seen."""
        ...

    def body(self, data: bytes) -> list[Event]:
        """The events of a whole body."""
        ...

    def headers(self, headers: Mapping[str, str]) -> None:
        """The answer's headers (lower-case names), before its body."""
        ...

    @property
    def has_content(self) -> bool:
        """Whether a caller would have to forget something."""
        ...

    def block_ids(self) -> tuple[str, ...]:
        """The ids of all blocks so far."""
        ...

    def partial(self, finish: FinishReason, error: ErrorInfo | None) -> tuple[list[Event], Response]:
        """The events that close what is open, and the response so far."""
        ...


class Adapter(Protocol):
    """One wire. Stateless; one instance serves all calls.

    It may have `fetches(url: str) -> bool`: whether an image at this address must go out by its bytes, as the wire takes no such
    address. The runtime fetches it then, and `request` is given the bytes. And `left_out(engine, request, base_url) -> tuple[str, ...]`:
    the parameters of the request for which the wire has no place; the response tells of them in `metadata["left_out"]`. And
    `ways(engine, request, base_url) -> tuple[str, ...]`: values of `Engine.structured`, the wire's own way first. Where a host refuses one
    of them, the same call is made in the next: `request` is given the engine with `structured` set.
    """

    name: ClassVar[str]
    provider: ClassVar[str]

    def request(self, engine: Engine, request: Request, base_url: str, stream: bool) -> HttpRequest | Script:
        """The request to send. Raises ValidationError for what the wire cannot carry."""
        ...

    def decoder(self, engine: Engine, context: CallContext) -> Decoder:
        """A decoder for one attempt."""
        ...

    def failure(self, status: int, headers: Mapping[str, str], body: bytes) -> ErrorInfo:
        """What an answer with an error status means."""
        ...


AdapterFactory = Callable[[], Any]
