"""What a stream of events adds up to. A pure fold; `Stream.response()` gives the same."""

from collections.abc import Iterable

from allm.block_parts import message_of
from allm.errors import ErrorInfo
from allm.events import (
    ChatCompleted,
    ErrorOccurred,
    Event,
    MessageCompleted,
    MessageStarted,
    PartCompleted,
    ReasoningCompleted,
    ReasoningDelta,
    ReasoningStarted,
    RequestStarted,
    RetryScheduled,
    StepCompleted,
    StreamRestarted,
    TextCompleted,
    TextDelta,
    TextStarted,
    ToolCallCompleted,
    ToolCallStarted,
)  # fmt: skip
from allm.messages import Part, ReasoningPart, TextPart, Thread
from allm.responses import ChatResult, Response, StepResult
from allm.usage import Usage

__all__ = ["Fold", "fold", "text"]


class Fold:
    """Adds events up, one by one. `result()` may be asked at any moment."""

    def __init__(self) -> None:
        self._request_id: str | None = None
        self._id: str | None = None
        self._model: str | None = None
        self._texts: dict[str, tuple[bool, list[str]]] = {}
        self._parts: dict[str, Part | None] = {}
        self._result: Response | StepResult | ChatResult | None = None
        self._error: ErrorInfo | None = None
        self._steps: list[StepResult] = []

    def add(self, event: Event) -> None:
        """The next event."""
        match event:
            case TextDelta(id, delta) | ReasoningDelta(id, delta):
                self._texts[id][1].append(delta)
            case TextStarted(id) | ReasoningStarted(id):
                self._texts[id] = (isinstance(event, ReasoningStarted), [])
                self._parts[id] = None
            case TextCompleted(id, text, signature):
                self._parts[id] = TextPart(text, signature) if text or signature else None
                self._texts.pop(id, None)
            case ReasoningCompleted(id, text, signature, data, provider):
                self._parts[id] = ReasoningPart(text, signature, data, provider)
                self._texts.pop(id, None)
            case ToolCallStarted(id):
                self._parts[id] = None
            case ToolCallCompleted(id):
                self._parts[id] = event.part
            case PartCompleted(id, part):
                self._parts[id] = part
            case _:
                self._frame(event)

    def _begin(self) -> None:
        """A round trip begins: what the one before it came to is no result of the whole any more."""
        self._id = self._model = self._result = None
        self._texts.clear()
        self._parts.clear()

    def _frame(self, event: Event) -> None:
        match event:
            case RequestStarted(request_id):
                self._request_id = self._request_id or request_id
                self._begin()
            case MessageStarted(id, model):
                self._id, self._model = id, model
            case RetryScheduled() | StreamRestarted():
                self._begin()
            case MessageCompleted(response):
                self._result = response
            case StepCompleted(step):
                self._steps.append(step)
                self._result = step
            case ChatCompleted(result):
                self._result = result
            case ErrorOccurred(error, result):
                self._error, self._result = error, result or self._result
            case _:
                pass

    def result(self) -> Response | StepResult | ChatResult:
        """The value so far. Raises the error of a stream that failed before any content."""
        if self._result is not None:
            return self._result
        error = self._error
        if error is not None and not self._parts and not self._steps:
            raise error.exception()
        if error is None:
            error = ErrorInfo("adapter", "truncated", "the events end without a terminal event", request_id=self._request_id)
        partial = self._partial(error)
        if not self._steps:
            return partial
        messages = tuple(message for step in self._steps for message in step.messages)
        usage = sum((step.response.usage for step in self._steps), Usage())
        return ChatResult(Thread(messages), tuple(self._steps), partial, "error", usage, error=error)

    def _partial(self, error: ErrorInfo) -> Response:
        return Response(
            id=self._id,
            request_id=self._request_id,
            model=self._model,
            message=message_of(self._so_far()),
            finish_reason="error",
            error=error,
        )

    def _so_far(self) -> list[Part]:
        parts: list[Part] = []
        for name, part in self._parts.items():
            if part is None and name in self._texts:
                reasoning, pieces = self._texts[name]
                joined = "".join(pieces)
                part = ReasoningPart(joined) if reasoning else TextPart(joined) if joined else None
            if part is not None:
                parts.append(part)
        return parts


def fold(events: Iterable[Event]) -> Response | StepResult | ChatResult:
    """The value that `events` add up to. Raises the error of a stream that failed before any content."""
    state = Fold()
    for event in events:
        state.add(event)
    return state.result()


def text(events: Iterable[Event]) -> str:
    """The text of the events alone: deltas, or whole blocks where deltas are off; restarted attempts are forgotten."""
    blocks: dict[str, str] = {}
    pieces: dict[str, list[str]] = {}
    for event in events:
        if isinstance(event, TextDelta):
            pieces.setdefault(event.id, []).append(event.delta)
            blocks.setdefault(event.id, "")
        elif isinstance(event, TextCompleted):
            blocks[event.id] = event.text
            pieces.pop(event.id, None)
        elif isinstance(event, TextStarted):  # blocks may interleave: the message has them in the order of their starts
            blocks.setdefault(event.id, "")
        elif isinstance(event, StreamRestarted):
            for name in event.discarded:
                blocks.pop(name, None)
                pieces.pop(name, None)
    return "".join("".join(pieces[name]) if name in pieces else done for name, done in blocks.items())
