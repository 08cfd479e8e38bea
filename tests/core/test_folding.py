"""What a stream of events adds up to."""

import pytest
from hypothesis import given, settings

from allm.errors import AdapterError
from allm.events import (
    ChatCompleted,
    ErrorOccurred,
    Event,
    MessageCompleted,
    MessageStarted,
    RawChunk,
    ReasoningDelta,
    RequestStarted,
    RetryScheduled,
    StepCompleted,
    StreamRestarted,
    TextCompleted,
    TextDelta,
    TextStarted,
    ToolCallDelta,
)
from allm.folding import Fold, fold, text
from allm.messages import Thread
from allm.responses import ChatResult, Response, StepResult
from tests.core.streams import FAILED, OPENING, Attempt, Op, broken, complete, scripts

DELTAS = (TextDelta, ReasoningDelta, ToolCallDelta)


def partial(*events: Event) -> Response:
    response = fold(events)
    assert isinstance(response, Response)
    return response


def restarted(attempt: Attempt) -> StreamRestarted | RetryScheduled:
    if not attempt.has_content:
        return RetryScheduled("req", 1, 0.5, FAILED)
    ids = [event.id for event in attempt.events if isinstance(event, OPENING)]
    return StreamRestarted("req", 1, FAILED, tuple(ids))


@settings(deadline=None)
@given(scripts())
def test_the_fold_of_a_stream_is_the_response_it_ends_with(script: list[Op]) -> None:
    attempt = complete(script)
    assert fold(attempt.events) == attempt.response


@settings(deadline=None)
@given(scripts())
def test_the_fold_of_a_stream_without_its_terminal_event_has_the_same_message(script: list[Op]) -> None:
    attempt = complete(script)
    response = partial(*attempt.events[:-1])
    assert response.message == attempt.response.message
    assert (response.id, response.model, response.request_id) == ("msg", "model", "req")


@settings(deadline=None)
@given(scripts())
def test_the_fold_of_a_broken_stream_is_the_builders_partial_response(script: list[Op]) -> None:
    attempt = broken(script)
    events = [*attempt.events, ErrorOccurred(FAILED)]
    if attempt.has_content:
        response = partial(*events)
        assert response.message == attempt.response.message
        assert (response.finish_reason, response.error) == ("error", FAILED)
    else:
        with pytest.raises(AdapterError, match="it broke"):
            fold(events)


@settings(deadline=None)
@given(scripts())
def test_a_fold_is_right_with_deltas_off(script: list[Op]) -> None:
    for attempt in (complete(script), broken(script)):
        quiet = [event for event in attempt.events if not isinstance(event, DELTAS)]
        assert partial(*quiet).message == attempt.response.message


@settings(deadline=None)
@given(scripts(), scripts())
def test_a_restarted_attempt_is_forgotten(first: list[Op], second: list[Op]) -> None:
    lost, kept = broken(first), complete(second, generation=2)
    events = [*lost.events, restarted(lost), *kept.events]
    assert fold(events) == kept.response
    assert partial(*events[:-1]).message == kept.response.message
    assert text(events) == kept.response.text


@settings(deadline=None)
@given(scripts())
def test_the_text_of_the_events_is_the_text_of_the_response_with_and_without_deltas(script: list[Op]) -> None:
    attempt = complete(script)
    assert text(attempt.events) == attempt.response.text
    assert text(event for event in attempt.events if not isinstance(event, DELTAS)) == attempt.response.text


def test_the_text_so_far_needs_no_end() -> None:
    assert text([TextStarted("b1"), TextDelta("b1", "Hel"), TextDelta("b1", "lo")]) == "Hello"


def test_the_text_of_an_earlier_step_survives_a_restart_in_a_later_one() -> None:
    step: list[Event] = [TextStarted("b1"), TextDelta("b1", "One. "), TextCompleted("b1", "One. ")]
    retried: list[Event] = [RetryScheduled("req", 1, 0, FAILED), TextStarted("b2"), TextDelta("b2", "Tw")]
    again: list[Event] = [StreamRestarted("req", 2, FAILED, ("b2",)), TextStarted("b3"), TextDelta("b3", "Two.")]
    assert text([*step, *retried, *again]) == "One. Two."


def test_no_terminal_event_is_a_truncation_and_keeps_what_came() -> None:
    events: list[Event] = [RequestStarted("req", "m", "a"), MessageStarted("msg", "m"), TextStarted("b1"), TextDelta("b1", "Hel")]
    response = partial(*events)
    assert (response.text, response.finish_reason) == ("Hel", "error")
    assert response.error is not None
    assert (response.error.reason, response.error.request_id) == ("truncated", "req")


def test_an_empty_stream_is_a_truncation() -> None:
    error = partial().error
    assert error is not None
    assert error.reason == "truncated"


def test_an_error_before_content_is_raised() -> None:
    with pytest.raises(AdapterError) as caught:
        fold([RequestStarted("req", "m", "a"), MessageStarted(), ErrorOccurred(FAILED)])
    assert caught.value.info == FAILED


def test_a_step_and_a_chat_fold_to_their_results() -> None:
    response = Response(finish_reason="stop")
    step = StepResult(response)
    chat = ChatResult(Thread(), (step,), response, "completed")
    events: list[Event] = [MessageStarted(), MessageCompleted(response), StepCompleted(step)]
    assert fold(events) == step
    assert fold([*events, ChatCompleted(chat)]) == chat


def test_a_fold_may_be_asked_at_any_moment() -> None:
    state = Fold()
    state.add(MessageStarted())
    state.add(TextStarted("b1"))
    seen: list[str] = []
    for letter in "abc":
        state.add(TextDelta("b1", letter))
        so_far = state.result()
        assert isinstance(so_far, Response)
        seen.append(so_far.text)
    assert seen == ["a", "ab", "abc"]


def test_raw_chunks_add_nothing() -> None:
    assert partial(MessageStarted(), RawChunk({"a": 1})).message.content == ""
