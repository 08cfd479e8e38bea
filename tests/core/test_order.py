"""The legal order of a stream's events: the table, blocks and their ids."""

import re

import pytest
from hypothesis import given, settings

from allm.events import (
    ErrorOccurred,
    Event,
    MessageCompleted,
    MessageStarted,
    PartCompleted,
    ReasoningCompleted,
    ReasoningStarted,
    RetryScheduled,
    StreamRestarted,
    TextCompleted,
    TextDelta,
    TextStarted,
    ToolCallCompleted,
    ToolCallDelta,
    ToolCallStarted,
)
from allm.order import BLOCKS, ORDER, IllegalOrder, OrderChecker
from allm.responses import Response
from tests.core.streams import FAILED, Op, broken, complete, sample, scripts, walks

KINDS = sorted({kind for row in ORDER.values() for kind in row} | BLOCKS.keys(), key=lambda kind: kind.__name__)
WAYS: dict[str, list[Event]] = {
    "ready": [],
    "message": [MessageStarted()],
    "ended": [MessageStarted(), MessageCompleted(Response(finish_reason="stop"))],
}


def check(*events: Event) -> OrderChecker:
    checker = OrderChecker()
    for event in events:
        checker.check(event)
    return checker


def before(kind: type) -> list[Event]:
    """What opens the block that an event of this class needs."""
    block, what = BLOCKS.get(kind, ("", "open"))
    openers = {name: opener for opener, (name, does) in BLOCKS.items() if does == "open"}
    return [] if what == "open" else [sample(openers[block])]


@pytest.mark.parametrize("kind", KINDS, ids=lambda kind: kind.__name__)
@pytest.mark.parametrize("state", ORDER)
def test_an_event_is_legal_in_a_state_exactly_as_the_table_says(state: str, kind: type) -> None:
    opening = before(kind) if state == "message" else []
    checker = check(*WAYS[state], *opening)
    if kind in ORDER[state]:
        checker.check(sample(kind))
        assert checker.state == ORDER[state][kind]
    else:
        with pytest.raises(IllegalOrder, match=f"{kind.__name__} may not come in state {state}"):
            checker.check(sample(kind))


@settings(deadline=None)
@given(walks())
def test_every_walk_over_the_table_is_a_legal_stream(events: list[Event]) -> None:
    check(*events)


@settings(deadline=None)
@given(scripts())
def test_what_a_message_builder_tells_is_legal(script: list[Op]) -> None:
    check(*complete(script).events)
    check(*broken(script).events, ErrorOccurred(FAILED))


TEXT: list[Event] = [MessageStarted(), TextStarted("b1")]
STOP = MessageCompleted(Response(finish_reason="stop"))
CANCELLED = MessageCompleted(Response(finish_reason="cancelled"))


@pytest.mark.parametrize(
    ("events", "problem"),
    [
        ([MessageStarted(), TextDelta("b1", "x")], "TextDelta of 'b1' outside its block"),
        ([MessageStarted(), TextCompleted("b1", "x")], "TextCompleted of 'b1' outside its block"),
        ([*TEXT, ReasoningCompleted("b1", "x")], "ReasoningCompleted of 'b1' outside its block"),
        ([*TEXT, ToolCallDelta("b1", "x")], "ToolCallDelta of 'b1' outside its block"),
        ([*TEXT, TextCompleted("b1", "x"), TextDelta("b1", "x")], "TextDelta of 'b1' outside its block"),
        ([*TEXT, TextCompleted("b1", "x"), TextCompleted("b1", "x")], "TextCompleted of 'b1' outside its block"),
        ([*TEXT, TextStarted("b1")], "TextStarted: the id 'b1' was used before"),
        ([*TEXT, TextCompleted("b1", "x"), ReasoningStarted("b1")], "ReasoningStarted: the id 'b1' was used before"),
        ([*TEXT, sample(PartCompleted, "b1")], "PartCompleted: the id 'b1' was used before"),
        ([*TEXT, STOP], "the message ended with open blocks: ['b1']"),
        ([*TEXT, CANCELLED], "the message ended with open blocks: ['b1']"),
        ([MessageStarted(), ToolCallStarted("b1", "f"), STOP], "the message ended with open blocks: ['b1']"),
        ([MessageStarted(), MessageStarted()], "MessageStarted may not come in state message"),
        ([STOP, STOP], "MessageCompleted may not come in state ended"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_a_block_is_opened_once_and_closed_before_the_message_ends(events: list[Event], problem: str) -> None:
    check(*events[:-1])
    with pytest.raises(IllegalOrder, match=re.escape(problem)):
        check(*events)


def test_a_cancelled_message_may_leave_half_a_tool_call() -> None:
    assert check(MessageStarted(), ToolCallStarted("b1", "f"), CANCELLED).state == "ended"


def test_an_error_may_end_a_message_with_open_blocks() -> None:
    assert check(*TEXT, sample(ErrorOccurred)).state == "ended"


def test_blocks_may_interleave() -> None:
    check(
        *TEXT,
        ToolCallStarted("b2", "f"),
        TextDelta("b1", "x"),
        ToolCallDelta("b2", "{}"),
        TextCompleted("b1", "x"),
        ToolCallCompleted("b2", "f"),
        STOP,
    )


@pytest.mark.parametrize("kind", [StreamRestarted, RetryScheduled])
def test_a_new_attempt_forgets_open_blocks_but_not_their_ids(kind: type) -> None:
    checker = check(*TEXT, sample(kind), MessageStarted())
    with pytest.raises(IllegalOrder, match="outside its block"):
        checker.check(TextDelta("b1", "x"))
    with pytest.raises(IllegalOrder, match="was used before"):
        checker.check(TextStarted("b1"))
    checker.check(TextStarted("b2"))
