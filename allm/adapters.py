"""For authors of adapters: all that one needs, from one place. `examples/third_party` has an adapter, `AdapterConformance` tests it.

An `Adapter` makes an `HttpRequest` of a `Request`, and a `Decoder` that makes events of the answer. It registers by the entry-point
group `allm.adapters`, or is named as `"package.module:Class"`. It never sees a key: it says which header takes it. An answer is a
stream if its content type is one of an event stream or of JSON lines; else `Decoder.body` gets all of it.
"""

from collections.abc import Mapping

from allm.blocks import CallContext, MessageBuilder
from allm.errors import ErrorInfo
from allm.events import ErrorOccurred, Event
from allm.providers.adapter import Adapter, Decoder, HttpRequest, Script
from allm.providers.failures import error_of, failure
from allm.responses import FinishReason, Response
from allm.sse import FrameTooLarge, SseDecoder
from allm.wire_json import MalformedJson, decode, encode

__all__ = [
    "Adapter", "BaseDecoder", "CallContext", "Decoder", "FrameTooLarge", "HttpRequest", "MalformedJson", "MessageBuilder", "Script",
    "SseDecoder", "decode", "encode", "error_of", "failure",
]  # fmt: skip


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
