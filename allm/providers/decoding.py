"""What the decoders of all wires share: the message being built, the frames of an event stream, the headers that are kept."""

from collections.abc import Mapping
from typing import Any, ClassVar

import msgspec

from allm.blocks import CallContext, MessageBuilder
from allm.errors import ErrorInfo, ValidationError
from allm.events import ErrorOccurred, Event
from allm.freezing import freeze
from allm.providers.failures import error_of
from allm.responses import FinishReason, Response
from allm.sse import Frame, FrameTooLarge, SseDecoder
from allm.wire_json import MalformedJson, decode

__all__ = ["BaseDecoder", "SseWireDecoder", "is_whole", "storable", "within_limits"]


class BaseDecoder:
    """A `Decoder` without its `feed`, `end` and `body`: these tell `build` what came, and return `build.take()`.

    `ended` is True after the terminal event, from when on nothing may be given.
    """

    def __init__(self, context: CallContext) -> None:
        self.build = MessageBuilder(context)
        self.ended = False
        self.progress = False

    @property
    def has_content(self) -> bool:
        """Whether a caller would have to forget something."""
        return self.build.has_content

    def block_ids(self) -> tuple[str, ...]:
        """The ids of all blocks so far."""
        return self.build.block_ids()

    def headers(self, headers: Mapping[str, str]) -> None:
        """The answer's headers (lower-case names), before its body. Ignored here."""

    def partial(self, finish: FinishReason, error: ErrorInfo | None) -> tuple[list[Event], Response]:
        """The events that close what is open, and the response so far."""
        response = self.build.partial(finish, error)
        return self.build.take(), response

    def fail(self, error: ErrorInfo) -> None:
        """The attempt failed: the terminal event."""
        self.ended = True
        self.build.events.append(ErrorOccurred(error))


class SseWireDecoder(BaseDecoder):
    """The decoder of a wire whose streams are server-sent events: a subclass has `_frames`, and what `BaseDecoder` leaves out.

    `PROVIDER` is whose errors they are. `LIMITS` is how headers begin that tell of rate limits, `IDS` are those that hold the provider's
    own id of the request: both go into the response's metadata.
    """

    PROVIDER: ClassVar[str]
    LIMITS: ClassVar[str] = "x-ratelimit-"
    IDS: ClassVar[tuple[str, ...]] = ("x-request-id",)

    def __init__(self, context: CallContext) -> None:
        super().__init__(context)
        self._sse = SseDecoder()
        self._raw_chunks = context.include_raw_chunks
        self._metadata: dict[str, Any] = {}

    def headers(self, headers: Mapping[str, str]) -> None:
        """Keeps the provider's id of the request and what it tells of its limits. A Retry-After on a success says nothing."""
        limits = {name: value for name, value in headers.items() if name.startswith(self.LIMITS)}
        if limits:
            self._metadata["rate_limits"] = limits
        for name in self.IDS:
            if request_id := headers.get(name):
                self._metadata.setdefault("provider_request_id", request_id)

    def feed(self, data: bytes) -> list[Event]:
        """The events that these bytes complete."""
        if self.ended:
            return []
        try:
            frames = self._sse.feed(data)
        except FrameTooLarge:
            self._malformed("an event of the stream is larger than 32 MiB")
        else:
            self._frames(frames)
        return self.build.take()

    def _frames(self, frames: list[Frame]) -> None:
        """Events of the stream, in order; nothing more after the end."""
        raise NotImplementedError

    def failed(self, finish: FinishReason, word: str | None) -> bool:
        """Fail the attempt if the provider's word for the end means that it failed: then there is no answer. True if it does."""
        if finish != "error":
            return False
        self.fail(error_of(self.PROVIDER, {"code": word, "message": f"the provider ended the answer with {(word or '')[:100]!r}"}))
        return True

    def _malformed(self, message: str) -> None:
        """What came is no answer of this wire."""
        self.fail(ErrorInfo("adapter", "malformed_response", message, provider=self.PROVIDER))


def is_whole(data: bytes) -> bool:
    """Whether a last event without its blank line came to its end: one that was cut off in its midst tells of a truncation."""
    try:
        return decode(data) is not None
    except MalformedJson:
        return False


def storable(data: bytes | msgspec.Raw) -> Any:
    """JSON as a payload of ours; None if it is none, or beyond the limits of one."""
    try:
        return freeze(decode(bytes(data)))
    except (MalformedJson, ValidationError):
        return None


def within_limits(told: dict[str, Any]) -> dict[str, Any]:
    """What a host says beside its answer, without what no value of ours may hold."""
    kept: dict[str, Any] = {}
    for name, value in told.items():
        try:
            kept[name] = value if isinstance(value, str) and value.isascii() else freeze(value)
        except ValidationError:
            continue
    return kept
