"""Events: everything that happens in a call, as frozen values. The union is closed; fields are only ever added, with defaults.

`*Started`, deltas and `*Completed` of one block share an id. Block ids are ours, never null, never reused in a stream.
Which event may follow which is a table in `order.py`.
"""

from typing import Any, TypeAlias

from msgspec.structs import force_setattr

from allm.errors import ErrorInfo
from allm.freezing import freeze, freeze_dict
from allm.messages import Part, ToolCallPart, Unknown
from allm.plain import Json, Value
from allm.responses import ChatResult, Response, StepResult

__all__ = [
    "TERMINAL", "AskUserRequested", "ChatCompleted", "Envelope", "ErrorOccurred", "Event", "MessageCompleted", "MessageStarted",
    "PartCompleted", "RawChunk", "ReasoningCompleted", "ReasoningDelta", "ReasoningStarted", "RequestStarted", "RetryScheduled",
    "StepCompleted", "StreamRestarted", "TextCompleted", "TextDelta", "TextStarted", "ToolCallCompleted", "ToolCallDelta",
    "ToolCallStarted", "ToolExecutionCompleted", "ToolExecutionStarted", "ToolHalt", "ToolResultEncoded",
]  # fmt: skip


class RequestStarted(Value, frozen=True):
    """A call was handed to its supervisor, or tried again. `attempt` counts from 1."""

    request_id: str
    model: str
    adapter: str
    attempt: int = 1


class MessageStarted(Value, frozen=True):
    """The provider began to answer; `id` is its own."""

    id: str | None = None
    model: str | None = None


class TextStarted(Value, frozen=True):
    """A block of text begins."""

    id: str


class TextDelta(Value, frozen=True, gc=False):
    """More of a block of text."""

    id: str
    delta: str


class TextCompleted(Value, frozen=True):
    """A block of text ended; `text` is all of it."""

    id: str
    text: str
    signature: str | None = None


class ReasoningStarted(Value, frozen=True):
    """A block of reasoning begins."""

    id: str


class ReasoningDelta(Value, frozen=True, gc=False):
    """More of a block of reasoning."""

    id: str
    delta: str


class ReasoningCompleted(Value, frozen=True):
    """A block of reasoning ended; `text` is all of it, `data` what is opaque in it."""

    id: str
    text: str
    signature: str | None = None
    data: str | None = None
    provider: str | None = None


class ToolCallStarted(Value, frozen=True):
    """The model begins a tool call. `id` is the block's; the call's own id comes with `ToolCallCompleted`."""

    id: str
    name: str


class ToolCallDelta(Value, frozen=True, gc=False):
    """More of a call's arguments, as the model writes them."""

    id: str
    arguments_delta: str


class ToolCallCompleted(Value, frozen=True):
    """A tool call is complete. `call_id` is the id that its result must name: the provider's, or ours where it gave none."""

    id: str
    name: str
    arguments: dict[str, Any] = {}
    raw_arguments: str | None = None
    call_id: str | None = None
    signature: str | None = None

    def __post_init__(self) -> None:
        if self.arguments:
            force_setattr(self, "arguments", freeze_dict(self.arguments, "arguments"))

    @property
    def part(self) -> ToolCallPart:
        """The call as a part of its message."""
        return ToolCallPart(self.call_id or self.id, self.name, self.arguments, self.raw_arguments, self.signature)


class PartCompleted(Value, frozen=True):
    """A part that comes whole: an image, a file or a provider's own."""

    id: str
    part: Part


class MessageCompleted(Value, frozen=True):
    """The answer is complete, or was cancelled. Terminal for one round trip."""

    response: Response


class ToolExecutionStarted(Value, frozen=True):
    """A handler is about to run."""

    id: str
    name: str
    arguments: dict[str, Any] = {}

    def __post_init__(self) -> None:
        if self.arguments:
            force_setattr(self, "arguments", freeze_dict(self.arguments, "arguments"))


class ToolExecutionCompleted(Value, frozen=True):
    """A handler ended. `duration` is in seconds."""

    id: str
    name: str
    result: Json = None
    error: ErrorInfo | None = None
    duration: float = 0.0

    def __post_init__(self) -> None:
        force_setattr(self, "result", freeze(self.result, "result"))


class ToolResultEncoded(Value, frozen=True):
    """What the model will read of a tool's result."""

    id: str
    content: str


class AskUserRequested(Value, frozen=True):
    """A tool needs an answer of the user."""

    tool_call_id: str
    tool_name: str
    question: str
    options: dict[str, Any] = {}

    def __post_init__(self) -> None:
        if self.options:
            force_setattr(self, "options", freeze_dict(self.options, "options"))


class ToolHalt(Value, frozen=True):
    """A tool ended the loop for a reason of its own."""

    tool_call_id: str
    reason: str
    result: Json = None

    def __post_init__(self) -> None:
        force_setattr(self, "result", freeze(self.result, "result"))


class StepCompleted(Value, frozen=True):
    """One round trip and its tools are done."""

    step: StepResult
    manual_tool_calls: tuple[ToolCallPart, ...] = ()


class ChatCompleted(Value, frozen=True):
    """The loop halted. Terminal for a loop."""

    result: ChatResult


class RetryScheduled(Value, frozen=True):
    """The attempt `attempt` failed before content; the next begins after `delay` seconds."""

    request_id: str
    attempt: int
    delay: float
    error: ErrorInfo


class StreamRestarted(Value, frozen=True):
    """The attempt failed after content and begins anew: forget the blocks named in `discarded`."""

    request_id: str
    attempt: int
    error: ErrorInfo
    discarded: tuple[str, ...] = ()


class RawChunk(Value, frozen=True):
    """The provider's own chunk, for those who asked for it (`include_raw_chunks`)."""

    chunk: Json

    def __post_init__(self) -> None:
        force_setattr(self, "chunk", freeze(self.chunk, "chunk"))


class ErrorOccurred(Value, frozen=True, tag="error"):
    """The stream failed. Terminal. `result` is what a step or a loop had come to until then, if anything."""

    error: ErrorInfo
    result: StepResult | ChatResult | None = None


Event: TypeAlias = (
    RequestStarted | MessageStarted | TextStarted | TextDelta | TextCompleted | ReasoningStarted | ReasoningDelta
    | ReasoningCompleted | ToolCallStarted | ToolCallDelta | ToolCallCompleted | PartCompleted | MessageCompleted
    | ToolExecutionStarted | ToolExecutionCompleted | ToolResultEncoded | AskUserRequested | ToolHalt | StepCompleted
    | ChatCompleted | RetryScheduled | StreamRestarted | RawChunk | ErrorOccurred | Unknown
)  # fmt: skip

TERMINAL = (MessageCompleted, ErrorOccurred)
"""What ends the stream of one round trip."""


class Envelope(Value, frozen=True):
    """An event of a session, with its place: `(epoch, seq, sub)` only grows. `at` is seconds since 1970."""

    session_id: str
    turn: str | None
    epoch: int
    seq: int
    sub: int
    at: float
    event: Event
