"""What the decoders of all wires share: the message being built, the frames of an event stream, the headers that are kept."""

from collections.abc import Mapping
from typing import Any, ClassVar, Final

import msgspec

from allm.blocks import CallContext, MessageBuilder
from allm.errors import AdapterError, ErrorInfo, ValidationError
from allm.events import ErrorOccurred, Event
from allm.freezing import freeze
from allm.limits import limits
from allm.providers.error_bodies import error_in_json, error_told
from allm.providers.failures import error_of
from allm.providers.loose import decode_answer
from allm.responses import FinishReason, Response
from allm.sse import Frame, FrameTooLarge, SseDecoder
from allm.wire_json import MalformedJson, decode, is_array, is_object

__all__ = ["BaseDecoder", "SseWireDecoder", "is_whole", "noted", "storable", "within_limits"]

_NOTES: Final = 10_000
"""Values that are kept of what stands beside an answer: counts, sources. Keeping one takes some microseconds."""


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
    """The decoder of a wire whose streams are server-sent events: a subclass has `_frames`, `end` and `body`.

    `PROVIDER` is whom an error is told to come from. `LIMITS` is how headers begin that tell of rate limits, `IDS` are those that hold
    the provider's own id of the request: both go into the response's metadata. `ANSWER` is the field that makes a document an answer.
    """

    PROVIDER: ClassVar[str]
    ANSWER: ClassVar[str]
    LIMITS: ClassVar[str] = "x-ratelimit-"
    IDS: ClassVar[tuple[str, ...]] = ("x-request-id",)

    def __init__(self, context: CallContext) -> None:
        super().__init__(context)
        self._sse = SseDecoder(bare=True)
        self._raw_chunks = context.include_raw_chunks
        self._metadata: dict[str, Any] = {}

    def headers(self, headers: Mapping[str, str]) -> None:
        """Keeps the provider's id of the request and what it tells of its limits. A Retry-After on a success says nothing."""
        rates = {name: value for name, value in headers.items() if name.startswith(self.LIMITS)}
        if rates:
            self._metadata["rate_limits"] = rates
        for name in self.IDS:
            if request_id := headers.get(name):
                self._metadata.setdefault("provider_request_id", request_id)

    def feed(self, data: bytes) -> list[Event]:
        """The events that these bytes complete."""
        if self.ended:
            return []
        try:
            self._frames(self._sse.feed(data))
        except FrameTooLarge:
            self.too_large()
        except AdapterError as error:  # more calls than a message may have
            self.fail(error.info)
        return self.build.take()

    def end(self) -> list[Event]:
        """The stream ended: what is left, with the terminal event only if the wire's end marker was seen."""
        raise NotImplementedError

    def body(self, data: bytes) -> list[Event]:
        """The events of a whole body."""
        raise NotImplementedError

    def adopt(self, sse: SseDecoder, frames: list[Frame]) -> list[Event]:
        """The events of these frames. What follows them is read with `sse`, which gave them to a decoder that chose this one."""
        self._sse = sse
        self._read(frames)
        return self.build.take()

    def too_large(self) -> None:
        """An event grew beyond the limit: nothing that follows it can be read."""
        self._malformed(f"an event of the stream is larger than {_size(limits().frame)}")

    def _read(self, frames: list[Frame]) -> None:
        try:
            self._frames(frames)
        except AdapterError as error:  # more calls than a message may have
            self.fail(error.info)

    def _frames(self, frames: list[Frame]) -> None:
        """Events of the stream, in order; nothing more after the end."""
        raise NotImplementedError

    def _bare(self, data: bytes) -> None:
        """A document without `data:` in an event stream: an error, the whole answer, or an event of a host that forgot the word."""
        told = decode_answer(data)
        if (error := error_told(told)) is not None:
            self._refused(error)
        elif is_object(told) and self._is_answer(told):
            if not self.build.started:
                self.build.events = self.body(data)
        elif is_object(told) and ("type" in told or self.ANSWER in told):
            self._frames([Frame(b"", data)])

    def _error_event(self, data: bytes) -> None:
        """An event that is named an error is one, whatever stands in it."""
        try:
            told = decode_answer(data)
        except MalformedJson:
            told = data.decode("utf-8", "replace").strip()
        self._refused(error_told(told) or told)

    def _unnamed(self, data: bytes) -> None:
        """An event that is none of this wire's: an error, or nothing that is known."""
        if (error := error_in_json(data)) is not None:
            self._refused(error)

    def _is_answer(self, told: dict[str, Any]) -> bool:
        """Whether a document is an answer, and no event of one."""
        return self.ANSWER in told

    def _finished(self) -> bool:
        """Whether the provider has said that the answer is complete: nothing that follows can fail it then."""
        return False

    def _error_of(self, error: Any) -> ErrorInfo:
        """What an error inside an answer that began well means."""
        return error_of(self.PROVIDER, error)

    def _refused(self, error: Any) -> None:
        """The provider told of this error in its answer, as `error_told` gives it."""
        if not self._finished():
            self.fail(self._error_of(error))

    def failed(self, finish: FinishReason, word: str | None) -> bool:
        """Fail the attempt if the provider's word for the end means that it failed: then there is no answer. True if it does."""
        if finish != "error":
            return False
        self.fail(self._error_of({"code": word, "message": f"the provider ended the answer with {(word or '')[:100]!r}"}))
        return True

    def _malformed(self, message: str) -> None:
        """What came is no answer of this wire. Behind a complete answer it is passed over."""
        if not self._finished():
            self.fail(ErrorInfo("adapter", "malformed_response", message, provider=self.PROVIDER))


def _size(count: int) -> str:
    return f"{count >> 20} MiB" if count >= 1 << 20 else f"{count} bytes"


def is_whole(data: bytes) -> bool:
    """Whether a last event without its blank line came to its end: one that was cut off in its midst tells of a truncation."""
    try:
        return decode(data) is not None
    except MalformedJson:
        return False


def storable(data: bytes | msgspec.Raw) -> Any:
    """JSON as a payload of ours; None if it is none, or beyond the limits of one."""
    try:
        return freeze(decode_answer(bytes(data)))
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


def noted(told: dict[str, Any]) -> dict[str, Any]:
    """The same for what nobody needs to read the answer: of such notes so many values are kept, in all."""
    if not told:
        return {}
    kept: dict[str, Any] = {}
    left = _NOTES
    for name, value in told.items():
        left -= 1 + (_values(value, left) if isinstance(value, dict | list) else 0)
        if left < 0:
            break
        kept[name] = value
    return within_limits(kept)


def _values(value: Any, most: int) -> int:
    """How many values there are in this one; some number beyond `most` if it has more."""
    count, waiting = 0, [value]
    while waiting and count <= most:
        each = waiting.pop()
        if is_object(each) or is_array(each):
            count += len(each)
            if count <= most:
                waiting.extend(each.values() if is_object(each) else each)
    return count
