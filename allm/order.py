"""The legal order of the events of one round trip and of a loop, as tables, and the checker that runs on every stream.

    state      what it means
    ---------  --------------------------------------------------------------
    ready      nothing of a message yet (also between attempts)
    message    the provider answers: blocks may begin, and interleave
    answered   a round trip of a loop is over: its tools run
    stepped    a step of a loop is over: another one may begin
    ended      after the terminal event: nothing may follow

A block goes `*Started`, its deltas, `*Completed`; its id is used once in a stream. At `MessageCompleted` no block of text or reasoning
is open, and no tool call either unless the message was cancelled: half a call is no call.
"""

from typing import Final

from allm.events import (
    AskUserRequested,
    ChatCompleted,
    ErrorOccurred,
    Event,
    MessageCompleted,
    MessageStarted,
    PartCompleted,
    RawChunk,
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
    ToolCallDelta,
    ToolCallStarted,
    ToolExecutionCompleted,
    ToolExecutionStarted,
    ToolHalt,
    ToolResultEncoded,
)  # fmt: skip
from allm.messages import Unknown

__all__ = ["BLOCKS", "LOOP", "ORDER", "IllegalOrder", "OrderChecker"]

READY, MESSAGE, ANSWERED, STEPPED, ENDED = "ready", "message", "answered", "stepped", "ended"

ORDER: Final[dict[str, dict[type, str]]] = {
    READY: {
        RequestStarted: READY, RetryScheduled: READY, StreamRestarted: READY, RawChunk: READY, Unknown: READY,
        MessageStarted: MESSAGE, MessageCompleted: ENDED, ErrorOccurred: ENDED,
    },
    MESSAGE: {
        TextStarted: MESSAGE, TextDelta: MESSAGE, TextCompleted: MESSAGE,
        ReasoningStarted: MESSAGE, ReasoningDelta: MESSAGE, ReasoningCompleted: MESSAGE,
        ToolCallStarted: MESSAGE, ToolCallDelta: MESSAGE, ToolCallCompleted: MESSAGE,
        PartCompleted: MESSAGE, RawChunk: MESSAGE, Unknown: MESSAGE,
        RetryScheduled: READY, StreamRestarted: READY, MessageCompleted: ENDED, ErrorOccurred: ENDED,
    },
    ENDED: {},
}  # fmt: skip
"""state -> event -> next state. What is not in it is illegal."""

LOOP: Final[dict[str, dict[type, str]]] = {
    READY: {**ORDER[READY], MessageCompleted: ANSWERED, StepCompleted: STEPPED, ChatCompleted: ENDED},
    MESSAGE: {**ORDER[MESSAGE], MessageCompleted: ANSWERED, ChatCompleted: ENDED},
    ANSWERED: {
        ToolExecutionStarted: ANSWERED, ToolExecutionCompleted: ANSWERED, ToolResultEncoded: ANSWERED, AskUserRequested: ANSWERED,
        ToolHalt: ANSWERED, Unknown: ANSWERED, RequestStarted: READY, StepCompleted: STEPPED, ChatCompleted: ENDED, ErrorOccurred: ENDED,
    },
    STEPPED: {RequestStarted: READY, Unknown: STEPPED, ChatCompleted: ENDED},
    ENDED: {},
}  # fmt: skip
"""The same for a step or a loop. A step ends in `stepped`, a loop in `ended`."""

_OPEN, _MORE, _CLOSE = "open", "more", "close"

BLOCKS: Final[dict[type, tuple[str, str]]] = {
    TextStarted: ("text", _OPEN), TextDelta: ("text", _MORE), TextCompleted: ("text", _CLOSE),
    ReasoningStarted: ("reasoning", _OPEN), ReasoningDelta: ("reasoning", _MORE), ReasoningCompleted: ("reasoning", _CLOSE),
    ToolCallStarted: ("tool_call", _OPEN), ToolCallDelta: ("tool_call", _MORE), ToolCallCompleted: ("tool_call", _CLOSE),
}  # fmt: skip
"""event -> (kind of block, what it does to it)."""


class IllegalOrder(Exception):
    """An event that may not come here: a fault of the adapter, never of the provider."""


class OrderChecker:
    """Checks a stream event by event, by ORDER or by LOOP. `check` raises IllegalOrder."""

    __slots__ = ("_open", "_table", "_used", "state")

    def __init__(self, table: dict[str, dict[type, str]] = ORDER) -> None:
        self._table = table
        self.state = READY
        self._open: dict[str, str] = {}
        self._used: set[str] = set()

    def check(self, event: Event) -> None:
        """Takes the next event."""
        kind = type(event)
        # Nearly every event is the delta of an open block: one look decides.
        if type(event) is TextDelta and self._open.get(event.id) == "text" and self.state is MESSAGE:
            return
        state = self._table[self.state].get(kind)
        if state is None:
            raise IllegalOrder(f"{kind.__name__} may not come in state {self.state}")
        block = BLOCKS.get(kind)
        if block is not None:
            self._block(event, *block)
        elif isinstance(event, PartCompleted):
            self._use(event.id, event)
        elif state is READY:
            self._open.clear()
        elif kind is MessageCompleted and self._open:
            self._end(event)
        self.state = state

    def _block(self, event: Event, block: str, what: str) -> None:
        name: str = getattr(event, "id", "")  # every event of BLOCKS has one
        if what is _OPEN:
            self._use(name, event)
            self._open[name] = block
        elif self._open.get(name) != block:
            raise IllegalOrder(f"{type(event).__name__} of {name!r} outside its block")
        elif what is _CLOSE:
            del self._open[name]

    def _use(self, name: str, event: Event) -> None:
        if name in self._used:
            raise IllegalOrder(f"{type(event).__name__}: the id {name!r} was used before")
        self._used.add(name)

    def _end(self, event: Event) -> None:
        cancelled = isinstance(event, MessageCompleted) and event.response.finish_reason == "cancelled"
        left = [name for name, block in self._open.items() if not (cancelled and block == "tool_call")]
        if left:
            raise IllegalOrder(f"the message ended with open blocks: {left}")
