"""The words for why an answer ended: one table, whichever wire brings them."""

from collections.abc import Callable

import pytest

from allm.events import ErrorOccurred, Event, MessageCompleted
from allm.providers.finish_words import FINISH_WORDS, finish_of
from tests.wire import anthropic, chat, gemini

Ended = Callable[[str], list[Event]]


def on_chat(word: str) -> list[Event]:
    return chat.streamed(chat.chunk({"content": "half"}), chat.chunk(finish=word), chat.DONE)


def on_anthropic(word: str) -> list[Event]:
    return anthropic.answered(anthropic.text(0, "half"), reason=word)


def on_gemini(word: str) -> list[Event]:
    return gemini.streamed(gemini.chunk("half"), gemini.chunk(finish=word))


WIRES = pytest.mark.parametrize("ended", [on_chat, on_anthropic, on_gemini])


@WIRES
@pytest.mark.parametrize(
    ("word", "meaning"),
    [
        ("stop", "stop"), ("eos_token", "stop"), ("stop_sequence", "stop"), ("end_turn", "stop"), ("STOP", "stop"),
        ("length", "length"), ("max_tokens", "length"), ("model_length", "length"), ("model_context_window_exceeded", "length"),
        ("content_filter", "content_filter"), ("sensitive", "content_filter"), ("content-filter", "content_filter"),
        ("toolUse", "tool_calls"), ("max tokens", "length"), ("EndTurn", "stop"), ("eos_token_id", "stop"),
        ("SAFETY", "content_filter"), ("tool_use", "tool_calls"), ("function_call", "tool_calls"), ("unheard_of", "other"),
        ("content_filter: PROHIBITED_CONTENT", "content_filter"), ("FinishReason.MAX_TOKENS", "length"), ("FINISH_REASON_STOP", "stop"),
        ("eosFound", "stop"), ("contextLengthReached", "length"), ("repetition", "length"), ("time_limit", "length"),
        ("blacklist", "content_filter"), ("LANGUAGE", "content_filter"), ("USER_CANCEL", "cancelled"), ("tool", "tool_calls"),
        ("function_call_filter: MALFORMED_FUNCTION_CALL", "other"),
    ],
)  # fmt: skip
def test_a_word_means_the_same_on_every_wire(ended: Ended, word: str, meaning: str) -> None:
    last = ended(word)[-1]
    assert isinstance(last, MessageCompleted), last
    assert (last.response.finish_reason, last.response.raw_finish_reason, last.response.text) == (meaning, word, "half")


@WIRES
@pytest.mark.parametrize(
    "word",
    [
        "error",
        "network_error",
        "insufficient_system_resource",
        "abort",
        "ERROR",
        "error: upstream",
        "internal_server_error",
        "rate_limit_exceeded",
        "modelUnloaded",
        "preempted",
    ],
)
def test_a_word_for_a_failure_fails_the_attempt_on_every_wire(ended: Ended, word: str) -> None:
    last = ended(word)[-1]
    assert isinstance(last, ErrorOccurred), last
    assert word in last.error.message
    assert last.error.reason != "invalid_request"  # it is worth another try


@WIRES
@pytest.mark.parametrize("word", ["", "null", "None", "FINISH_REASON_UNSPECIFIED", "not_finished"])
def test_how_hosts_write_that_there_is_no_reason_yet_is_no_end(ended: Ended, word: str) -> None:
    told = ended(word)
    if ended is not on_anthropic:  # its last event is an end marker of its own
        assert not any(isinstance(event, MessageCompleted) for event in told)
    else:
        cut = anthropic.streamed(anthropic.begin(), anthropic.text(0, "half"), anthropic.finish(word))
        assert not any(isinstance(event, MessageCompleted) for event in cut)


@pytest.mark.parametrize(
    ("first", "second", "meaning"),
    [
        ("content_filter", "stop", "content_filter"), ("length", "tool_calls", "length"), ("length", "content_filter", "content_filter"),
        ("stop", "length", "length"), ("stop", "tool_calls", "tool_calls"), ("unheard_of", "stop", "stop"), ("tool_calls", "stop", "stop"),
    ],
)  # fmt: skip
def test_a_worse_reason_is_not_taken_back_by_a_better_one(first: str, second: str, meaning: str) -> None:
    for events in (
        chat.streamed(chat.chunk({"content": "half"}), chat.chunk(finish=first), chat.chunk(finish=second), chat.DONE),
        anthropic.streamed(anthropic.begin(), anthropic.text(0, "half"), *map(anthropic.finish, (first, second)), anthropic.STOP),
        gemini.streamed(gemini.chunk("half", finish=first), gemini.chunk(finish=second)),
    ):
        last = events[-1]
        assert isinstance(last, MessageCompleted), last
        assert last.response.finish_reason == meaning


def test_no_word_at_all_is_a_good_end() -> None:
    assert finish_of(None) == finish_of("") == "stop"


def test_the_table_knows_no_word_twice() -> None:
    assert len(FINISH_WORDS) == len({word.lower().replace("-", "_") for word in FINISH_WORDS})
