"""OpenAI Chat Completions and the hosts that speak it: answers, and their quirks, to events."""

import json
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from allm.blocks import CallContext
from allm.engine import Engine
from allm.events import (
    ErrorOccurred,
    MessageCompleted,
    MessageStarted,
    RawChunk,
    TextCompleted,
    TextDelta,
    TextStarted,
    ToolCallCompleted,
    ToolCallDelta,
    ToolCallStarted,
)
from allm.messages import ReasoningPart, TextPart
from allm.providers.openai_chat import OpenAIChat
from allm.responses import Response
from allm.sse import MAX_FRAME
from allm.usage import Usage
from tests.wire.chat import DONE, calls, chunk, cut, decoder, failure, frame, joined, response, streamed, whole

USAGE = {"prompt_tokens": 10, "completion_tokens": 5, "total_tokens": 15}
COUNTED = Usage(input_tokens=10, output_tokens=5, total_tokens=15)
STOP = chunk(finish="stop")
KEYLESS = frame({"id": "x1", "model": "m1", "choices": [{"index": 0, "delta": {"content": "a"}}]})
"""A chunk of a host that never says why it ends."""


def call(index: int | None = 0, id: str | None = None, name: str | None = None, arguments: Any = None) -> dict[str, Any]:
    """A tool call's delta, with nothing in it that is not given."""
    told = {"name": name, "arguments": arguments}
    fields = {"index": index, "id": id, "function": {key: value for key, value in told.items() if value is not None}}
    return {key: value for key, value in fields.items() if value is not None}


def made(*pieces: bytes) -> list[tuple[str, str, object]]:
    """(id, name, arguments) of the calls of a stream."""
    return [(each.id, each.name, each.arguments) for each in response(streamed(*pieces)).tool_calls]


# A plain answer


def test_a_stream_of_text_is_one_block_and_a_message() -> None:
    events = streamed(chunk({"role": "assistant", "content": ""}), chunk({"content": "Hel"}), chunk({"content": "lo"}), STOP, DONE)
    assert events[:-1] == [
        MessageStarted("x1", "m1"),
        TextStarted("b1.1"),
        TextDelta("b1.1", "Hel"),
        TextDelta("b1.1", "lo"),
        TextCompleted("b1.1", "Hello"),
    ]
    answer = response(events)
    assert (answer.id, answer.model, answer.request_id, answer.text) == ("x1", "m1", "req", "Hello")
    assert (answer.finish_reason, answer.raw_finish_reason) == ("stop", "stop")


@pytest.mark.parametrize(
    ("word", "reason"),
    [
        ("stop", "stop"), ("eos", "stop"), ("length", "length"), ("tool_calls", "tool_calls"), ("function_call", "tool_calls"),
        ("content_filter", "content_filter"), ("never_heard_of", "other"),
    ],
)  # fmt: skip
def test_the_hosts_word_for_the_end_is_kept_beside_ours(word: str, reason: str) -> None:
    answer = response(streamed(chunk({"content": "a"}), chunk(finish=word), DONE))
    assert (answer.finish_reason, answer.raw_finish_reason) == (reason, word)


# Where usage stands


@pytest.mark.parametrize(
    "pieces",
    [
        [chunk({"content": "a"}), STOP, frame({"id": "x1", "choices": [], "usage": USAGE})],
        [chunk({"content": "a"}), chunk(finish="stop", usage=USAGE)],
        [chunk({"content": "a"}, usage={**USAGE, "completion_tokens": 1}), chunk(finish="stop", usage=USAGE)],
        [chunk({"content": "a"}, usage=None), STOP, frame({"choices": [], "usage": USAGE})],
        [chunk({"content": "a"}), chunk(finish="stop", x_groq={"id": "r", "usage": USAGE})],
        [chunk({"content": "a"}), chunk(finish="stop", usage=USAGE, x_groq={"usage": {"prompt_tokens": 1}})],
    ],
    ids=["in a last chunk without choices", "beside the last choice", "in every chunk", "null before", "of Groq's own", "twice"],
)
def test_the_last_usage_told_counts_wherever_it_stands(pieces: list[bytes]) -> None:
    assert response(streamed(*pieces, DONE)).usage == COUNTED


def test_no_usage_told_is_no_usage_known() -> None:
    assert response(streamed(chunk({"content": "a"}), STOP, DONE)).usage == Usage()


def test_the_details_of_usage_have_their_places_and_the_rest_is_kept() -> None:
    told = {
        **USAGE,
        "prompt_tokens_details": {"cached_tokens": 4, "cache_write_tokens": 2, "audio_tokens": 1},
        "completion_tokens_details": {"reasoning_tokens": 3},
        "cost": 0.5,
        "queue_time": 0.25,
    }
    usage = response(streamed(STOP, frame({"choices": [], "usage": told}), DONE)).usage
    assert (usage.cached_input_tokens, usage.cache_write_input_tokens, usage.reasoning_tokens, usage.total_cost) == (4, 2, 3, 0.5)
    assert usage.extra == {"audio_tokens": 1, "queue_time": 0.25}


def test_deepseeks_cache_hits_and_perplexitys_costs_have_their_places() -> None:
    told = {"prompt_cache_hit_tokens": 7, "cost": {"input_tokens_cost": 0.25, "output_tokens_cost": 0.5, "total_cost": 0.75}}
    usage = response(streamed(STOP, frame({"choices": [], "usage": told}), DONE)).usage
    assert (usage.cached_input_tokens, usage.input_cost, usage.output_cost, usage.total_cost) == (7, 0.25, 0.5, 0.75)


def test_counts_that_are_no_counts_are_unknown_and_harm_nothing() -> None:
    told = {
        "prompt_tokens": "12", "completion_tokens": True, "total_tokens": 1e300, "cost": "free", "prompt_tokens_details": 7,
        "huge": 10**30, "deep": json.loads("[" * 70 + "]" * 70), "kept": "yes",
    }  # fmt: skip
    usage = response(streamed(STOP, frame({"choices": [], "usage": told}), DONE)).usage
    assert usage == Usage(extra={"kept": "yes"})


# Tool calls as hosts send them


def test_calls_are_keyed_by_index_and_may_interleave() -> None:
    pieces = [
        calls(call(0, "c0", "f", "")), calls(call(1, "c1", "g", "")),
        calls(call(0, arguments='{"a"'), call(1, arguments='{"b"')), calls(call(1, arguments=":1}")), calls(call(0, arguments=":0}")),
        chunk(finish="tool_calls"), DONE,
    ]  # fmt: skip
    assert made(*pieces) == [("c0", "f", {"a": 0}), ("c1", "g", {"b": 1})]


CALLS: list[tuple[list[bytes], list[tuple[str, str, object]]]] = [
    ([calls(call(0, "c0", "f", '{"a"')), calls(call(0, "c0", "f", ":0}"))], [("c0", "f", {"a": 0})]),
    ([calls(call(0, "c0", "f", '{"a":0}'))], [("c0", "f", {"a": 0})]),
    ([calls(call(0, "c0", "f", '{"a":0}'), call(1, "c1", "g", "{}"))], [("c0", "f", {"a": 0}), ("c1", "g", {})]),
    ([calls(call(0, "c0", "f", "{}")), calls(call(0, "c1", "f", '{"a":1}'))], [("c0", "f", {}), ("c1", "f", {"a": 1})]),
    ([calls(call(None, "c0", "f", '{"a"')), calls(call(None, arguments=":0}"))], [("c0", "f", {"a": 0})]),
    ([calls(call(None, "c0", "f", "{}")), calls(call(None, "c1", "g", "{}"))], [("c0", "f", {}), ("c1", "g", {})]),
    ([calls(call(None, None, "f", '{"a"')), calls(call(None, arguments=":0}"))], [("call_req_b1.1", "f", {"a": 0})]),
    ([calls({"index": 0, "id": "c0", "type": "function"}), calls(call(0, None, "f", "{}"))], [("c0", "f", {})]),
    ([calls(call(0, None, "f", {"a": 0}))], [("call_req_b1.1", "f", {"a": 0})]),
    ([calls(call(0, "c0", "f"))], [("c0", "f", {})]),
    ([calls(call(0, "c0", None, "{}"))], []),
    ([calls({"index": 0, "id": "c0"})], []),
]
WAYS = [
    "id and name repeated", "whole in one delta", "two whole in one delta", "one index for all, ids tell them apart",
    "no index, the id tells the first", "no index, whole calls", "neither index nor id", "id before the function",
    "arguments as an object", "no arguments", "never a name", "never a function",
]  # fmt: skip


@pytest.mark.parametrize(("pieces", "expected"), CALLS, ids=WAYS)
def test_tool_calls_come_in_many_ways(pieces: list[bytes], expected: list[tuple[str, str, object]]) -> None:
    assert made(*pieces, chunk(finish="tool_calls"), DONE) == expected


def test_an_id_that_the_thread_already_has_is_replaced() -> None:
    events = streamed(calls(call(0, "0", "f", "{}"), finish="tool_calls"), DONE, used=["0"])
    assert [each.id for each in response(events).tool_calls] == ["call_req_b1.1"]


def test_a_forced_call_that_ends_with_stop_is_a_tool_call_all_the_same() -> None:
    answer = response(streamed(chunk({"content": "Well."}), calls(call(0, "c0", "f", "{}")), STOP, DONE))
    assert (answer.finish_reason, answer.raw_finish_reason) == ("tool_calls", "stop")
    assert (answer.text, len(answer.tool_calls)) == ("Well.", 1)


def test_the_events_of_a_call_tell_its_raw_arguments() -> None:
    events = streamed(calls(call(0, "c0", "f", '{ "a"')), calls(call(0, arguments=": 0}")), chunk(finish="tool_calls"), DONE)
    assert events[1:-1] == [
        ToolCallStarted("b1.1", "f"),
        ToolCallDelta("b1.1", '{ "a"'),
        ToolCallDelta("b1.1", ": 0}"),
        ToolCallCompleted("b1.1", "f", {"a": 0}, '{ "a": 0}', "c0"),
    ]


def test_a_custom_tool_has_free_text_for_its_input() -> None:
    custom = {"index": 0, "id": "c0", "type": "custom", "custom": {"name": "sql", "input": "select 1"}}
    (each,) = response(streamed(calls(custom, finish="tool_calls"), DONE)).tool_calls
    assert (each.id, each.name, each.arguments, each.raw_arguments) == ("c0", "sql", {}, "select 1")


def test_a_legacy_function_call_is_a_tool_call() -> None:
    pieces = [chunk({"function_call": {"name": "f", "arguments": '{"a"'}}), chunk({"function_call": {"arguments": ":0}"}})]
    answer = response(streamed(*pieces, chunk(finish="function_call"), DONE))
    assert [(each.name, each.arguments) for each in answer.tool_calls] == [("f", {"a": 0})]
    assert answer.finish_reason == "tool_calls"


# Odd choices


def test_a_first_chunk_without_choices_and_a_choice_without_delta_are_passed_over() -> None:
    azure = frame({"id": "", "model": "", "choices": [], "prompt_filter_results": [{"prompt_index": 0}]})
    filters = frame({"id": "x1", "choices": [{"index": 0, "finish_reason": None, "content_filter_offsets": {"start": 1}}]})
    assert response(streamed(azure, chunk({"content": "a"}), filters, chunk({"content": "b"}), STOP, DONE)).text == "ab"


def test_the_finishing_chunk_may_carry_content() -> None:
    assert response(streamed(chunk({"content": "a"}), chunk({"content": "b"}, "stop"), DONE)).text == "ab"


def test_only_the_first_choice_is_read() -> None:
    def choice(index: int, text: str) -> dict[str, Any]:
        return {"index": index, "delta": {"content": text}, "finish_reason": None}

    two = frame({"id": "x1", "choices": [choice(0, "a"), choice(1, "z")]})
    assert response(streamed(two, frame({"choices": [choice(1, "z")]}), STOP, DONE)).text == "a"


def test_a_refusal_is_its_own_field_and_shows_progress() -> None:
    told = decoder()
    told.feed(chunk({"refusal": "I'm "}))
    assert (told.progress, told.has_content) == (True, False)
    answer = response(streamed(chunk({"content": None, "refusal": "I'm "}), chunk({"refusal": "sorry."}), STOP, DONE))
    assert (answer.refusal, answer.text, answer.finish_reason) == ("I'm sorry.", "", "stop")


@pytest.mark.parametrize("name", ["reasoning_content", "reasoning"])
def test_reasoning_has_two_names(name: str) -> None:
    answer = response(streamed(chunk({name: "h"}), chunk({name: "m"}), chunk({"content": "a"}), STOP, DONE))
    assert answer.message.content == (ReasoningPart("hm"), TextPart("a"))


def test_content_may_be_a_list_of_parts() -> None:
    thinking = [{"type": "thinking", "thinking": [{"type": "text", "text": "h"}, {"type": "text", "text": ""}, 5]}, 7]
    words = [{"type": "thinking", "thinking": "m"}, {"type": "text", "text": "a"}, {"type": "text"}, {"type": "text", "text": ""}]
    answer = response(streamed(chunk({"content": thinking}), chunk({"content": words}), STOP, DONE))
    assert (answer.reasoning_text, answer.text) == ("hm", "a")


def test_what_stands_beside_the_choices_is_kept() -> None:
    told = decoder()
    told.headers({"x-request-id": "p1", "x-ratelimit-remaining-tokens": "9", "content-type": "text/event-stream"})
    events = told.feed(chunk({"content": "a"}, service_tier="default", citations=["https://a"])) + told.feed(
        chunk(finish="stop", system_fingerprint="fp", citations=["https://a", "https://b"])
    )
    assert response(events + told.feed(DONE)).metadata == {
        "provider_request_id": "p1", "rate_limits": {"x-ratelimit-remaining-tokens": "9"}, "service_tier": "default",
        "system_fingerprint": "fp", "citations": ["https://a", "https://b"],
    }  # fmt: skip


def test_what_no_value_may_hold_is_left_out_of_what_stands_beside_the_choices() -> None:
    deep = json.loads("[" * 70 + "]" * 70)
    answer = response(streamed(chunk({"content": "a"}, service_tier=deep, system_fingerprint="fp"), STOP, DONE))
    assert answer.metadata == {"system_fingerprint": "fp"}


# How it ends


def test_a_finish_reason_without_done_is_an_end() -> None:
    told = decoder()
    assert not any(isinstance(event, MessageCompleted) for event in told.feed(chunk({"content": "a"})) + told.feed(STOP))
    (completed,) = [event for event in told.end() if isinstance(event, MessageCompleted)]
    assert completed.response.text == "a"


def test_done_without_a_finish_reason_is_an_end() -> None:
    answer = response(streamed(KEYLESS, DONE))
    assert (answer.text, answer.finish_reason, answer.raw_finish_reason) == ("a", "stop", None)


@pytest.mark.parametrize(
    "pieces", [[chunk({"content": "a"})], [KEYLESS, chunk()], [], [frame({"id": "x1", "choices": [], "usage": USAGE})], [b": ping\n\n"]]
)
def test_done_is_no_end_where_the_host_says_why_it_ends_and_did_not_or_where_nothing_came(pieces: list[bytes]) -> None:
    assert not any(isinstance(event, MessageCompleted | ErrorOccurred) for event in streamed(*pieces, DONE))


@pytest.mark.parametrize(
    "tail",
    [b"", b"data: ", b'data: {"id":"x1","choi', b"data: [DO", b"data: {\n", b": comment", b"event: err"],
    ids=lambda tail: tail.decode(),
)
def test_a_stream_that_breaks_off_has_no_terminal_event(tail: bytes) -> None:
    events = streamed(chunk({"content": "a"}), tail)
    assert events == [MessageStarted("x1", "m1"), TextStarted("b1.1"), TextDelta("b1.1", "a")]


def test_a_tail_that_is_cut_off_after_the_finish_reason_harms_nothing() -> None:
    assert response(streamed(chunk({"content": "a"}), STOP, b"data: [DO")).text == "a"


@pytest.mark.parametrize("tail", [b"data: [DONE]", b"data: [DONE]\n"])
def test_the_last_event_may_lack_its_blank_line(tail: bytes) -> None:
    assert response(streamed(KEYLESS, tail)).text == "a"
    assert response(streamed(chunk({"content": "a"}), STOP.rstrip())).text == "a"


def test_nothing_is_told_after_the_end() -> None:
    told = decoder()
    first = told.feed(STOP + DONE + chunk({"content": "b"}))
    assert isinstance(first[-1], MessageCompleted)
    assert (told.feed(chunk({"content": "c"})), told.end()) == ([], [])


def test_pings_comments_and_empty_events_are_no_content() -> None:
    told = decoder()
    assert told.feed(b": OPENROUTER PROCESSING\n\ndata:\n\ndata:  \n\nevent: ping\n\n") == []
    assert (told.has_content, told.progress, told.block_ids()) == (False, False, ())


def test_the_partial_answer_keeps_text_and_usage_and_no_half_call() -> None:
    told = decoder()
    told.feed(chunk({"content": "a"}, usage=USAGE))
    told.feed(calls(call(0, "c0", "f", '{"a"')))
    told.feed(chunk({"content": "b"}))
    events, partial = told.partial("cancelled", None)
    assert events == [TextCompleted("b1.3", "b")]
    assert (partial.text, partial.tool_calls, partial.usage, partial.finish_reason) == ("ab", (), COUNTED, "cancelled")
    assert (told.has_content, told.block_ids()) == (True, ("b1.1", "b1.2", "b1.3"))


# Errors inside an answer that began well


@pytest.mark.parametrize(
    ("piece", "reason", "message", "status"),
    [
        (
            frame({"error": {"message": "bad call", "type": "invalid_request_error", "code": "tool_use_failed",
                             "status_code": 400}}, "error"),
            "invalid_request", "bad call", 400,
        ),
        (frame({"error": {"message": "slow", "code": 429}}), "rate_limited", "slow", 429),
        (
            frame({"id": "x1", "choices": [{"index": 0, "delta": {"content": ""}, "finish_reason": "error"}],
                   "error": {"code": 502, "message": "upstream"}}),
            "server_error", "upstream", 502,
        ),
        (frame({"error": "just text"}), "server_error", "just text", None),
        (frame({"error": {"type": "overloaded_error", "message": "busy"}}), "overloaded", "busy", None),
        (frame({"message": "no error object", "type": "rate_limit_error"}, "error"), "rate_limited", "no error object", None),
        (frame({}, "error"), "server_error", "the provider reported an error", None),
        (frame("text", "error"), "server_error", "text", None),
        (frame(b"upstream timeout", "error"), "server_error", "upstream timeout", None),
    ],
    ids=["Groq", "integer code", "OpenRouter", "text", "word", "named event", "named and empty", "named text", "named, no JSON"],
)  # fmt: skip
def test_an_error_in_the_stream_ends_it(piece: bytes, reason: str, message: str, status: int | None) -> None:
    events = streamed(chunk({"content": "a"}), piece, chunk({"content": "b"}), DONE)
    last = events[-1]
    assert isinstance(last, ErrorOccurred)
    assert (last.error.reason, last.error.message, last.error.status, last.error.provider) == (reason, message, status, "openai")
    assert sum(isinstance(event, TextDelta) for event in events) == 1


@pytest.mark.parametrize(
    "bad",
    [b"nonsense", b'{"choices": [', b'{"choices": "many"}', b'{"choices": [5]}', b"[1]", b"[" * 5000],
    ids=lambda bad: bad.decode()[:30],
)  # fmt: skip
def test_a_chunk_that_is_none_fails_the_attempt(bad: bytes) -> None:
    reason, message = failure(streamed(chunk({"content": "a"}), frame(bad), STOP, DONE))
    assert reason == "malformed_response"
    assert message.startswith("a chunk of the answer is ")


def test_an_event_without_end_fails_the_attempt_once() -> None:
    told = decoder()
    assert failure(told.feed(b"data: " + b"x" * MAX_FRAME)) == (
        "malformed_response",
        "an event of the stream is larger than 32 MiB",
    )
    assert (told.feed(b"x"), told.end()) == ([], [])


def test_careless_chunks_are_read_loosely() -> None:
    odd = b'{"id":"x1","choices":[{"index":"0","delta":{"content":"a\\ud83d"},"finish_reason":"stop"}],"usage":{"prompt_tokens":10}}'
    answer = response(streamed(frame(odd), DONE))
    assert (answer.text, answer.usage.input_tokens) == ("a\ufffd", 10)


def test_an_id_that_is_no_text_is_no_id() -> None:
    assert response(streamed(frame({"id": 5, "choices": []}), STOP, DONE)).id is None


# Raw chunks


def test_raw_chunks_are_told_to_those_who_ask() -> None:
    events = streamed(chunk({"content": "a"}), frame({"odd": [1]}), STOP, DONE, raw_chunks=True)
    raw = [event.chunk for event in events if isinstance(event, RawChunk)]
    assert len(raw) == 3
    assert raw[1] == {"odd": [1]}
    assert not any(isinstance(event, RawChunk) for event in streamed(chunk({"content": "a"}), STOP, DONE))


@pytest.mark.parametrize("value", ["1e999", "[" * 70 + "]" * 70, "9" * 40], ids=["beyond a float", "too deep", "beyond 64 bits"])
def test_a_raw_chunk_that_no_value_may_hold_is_left_out(value: str) -> None:
    odd = frame(b'{"x": %s, "choices": [{"delta": {"content": "a"}}]}' % value.encode())
    events = streamed(odd, STOP, DONE, raw_chunks=True)
    assert response(events).text == "a"
    assert sum(isinstance(event, RawChunk) for event in events) == 1


# One body


MESSAGE: dict[str, Any] = {"role": "assistant", "content": "Hello", "refusal": None}


def body(message: dict[str, Any], finish: str | None = "stop", **more: Any) -> dict[str, Any]:
    return {"id": "x1", "model": "m1", "choices": [{"index": 0, "message": message, "finish_reason": finish}], **more}


def test_one_body_gives_the_same_response_as_the_stream_of_it() -> None:
    calling = {"id": "c0", "type": "function", "function": {"name": "f", "arguments": '{"a":0}'}}
    folded = response(whole(body({**MESSAGE, "reasoning_content": "hm", "tool_calls": [calling]}, "tool_calls", usage=USAGE)))
    pieces = [chunk({"reasoning_content": "hm"}), chunk({"content": "Hello"}), calls({"index": 0, **calling}), chunk(finish="tool_calls")]
    assert folded == response(streamed(*pieces, frame({"choices": [], "usage": USAGE}), DONE))


def test_several_calls_of_one_body_have_no_index() -> None:
    several = [{"id": f"c{n}", "type": "function", "function": {"name": "f", "arguments": "{}"}} for n in range(3)]
    answer = response(whole(body({"content": None, "tool_calls": several}, "tool_calls")))
    assert [each.id for each in answer.tool_calls] == ["c0", "c1", "c2"]


def test_a_body_with_both_delta_and_message_is_read_once() -> None:
    both = {"index": 0, "message": MESSAGE, "delta": {"role": "assistant", "content": ""}, "finish_reason": "stop"}
    assert response(whole({"id": "x1", "choices": [both]})).text == "Hello"
    only = {"index": 0, "delta": {"content": "Hello"}, "finish_reason": "stop"}
    assert response(whole({"id": "x1", "choices": [only]})).text == "Hello"


def test_a_stream_with_both_delta_and_message_is_read_once() -> None:
    choice = {"index": 0, "delta": {"content": "b"}, "message": {"content": "ab"}, "finish_reason": None}
    assert response(streamed(chunk({"content": "a"}), frame({"choices": [choice]}), STOP, DONE)).text == "ab"


def test_a_body_that_finished_with_nothing_is_an_empty_answer() -> None:
    answer = response(whole(body({"content": None}, "length")))
    assert (answer.text, answer.finish_reason) == ("", "length")


def test_a_body_without_a_finish_reason_is_complete_all_the_same() -> None:
    assert response(whole(body(MESSAGE, None))).text == "Hello"


def test_a_careless_body_is_read_loosely() -> None:
    odd = b'{"choices":[{"message":{"content":"a\\ud83d"},"finish_reason":"stop"}],"usage":{"prompt_tokens":10}}'
    answer = response(whole(odd))
    assert (answer.text, answer.usage.input_tokens) == ("a\ufffd", 10)


@pytest.mark.parametrize("raw", [False, True])
def test_the_raw_body_is_kept_for_those_who_ask(raw: bool) -> None:
    given = body(MESSAGE, extra=[1])
    assert response(whole(given, raw_chunks=raw)).raw == (given if raw else None)


@pytest.mark.parametrize(
    "data",
    [b"{}", b'{"choices": []}', b'{"choices": null}', b'{"object": "list", "data": []}', b"[]", b"null", b'"text"', b"<html>", b""],
    ids=lambda data: data.decode(),
)
def test_a_body_that_is_no_answer_is_malformed(data: bytes) -> None:
    assert failure(whole(data))[0] == "malformed_response"


def test_an_error_in_a_body_of_status_200_is_an_error() -> None:
    assert failure(whole({"error": {"message": "busy", "code": "overloaded"}})) == ("overloaded", "busy")


# Laws


_texts = st.text(st.characters(exclude_categories=["Cs"]), max_size=4)
_deltas = st.one_of(
    st.fixed_dictionaries({"content": _texts}),
    st.fixed_dictionaries({"reasoning_content": _texts}),
    st.builds(
        lambda *args: {"tool_calls": [call(*args)]},
        st.none() | st.integers(0, 2), st.none() | st.sampled_from(["c0", "c1"]), st.none() | st.sampled_from(["f", "g"]),
        st.none() | st.sampled_from(['{"a"', ":0}", "{}"]),
    ),
)  # fmt: skip


@settings(deadline=None)
@given(st.lists(_deltas, max_size=8), st.sampled_from([b"\n", b"\r\n", b"\r"]), st.lists(st.integers(0, 5000), max_size=10))
def test_any_chunking_of_a_stream_gives_the_same_events(deltas: list[dict[str, Any]], end: bytes, places: list[int]) -> None:
    data = b"".join([*map(chunk, deltas), STOP, DONE]).replace(b"\n", end)
    events = streamed(data)
    assert streamed(*cut(data, places)) == events
    assert response(events) == response(joined(events))


_json = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=3),
    lambda inner: st.lists(inner, max_size=2)
    | st.dictionaries(
        st.sampled_from([
            "id", "model", "choices", "index", "delta", "message", "content", "tool_calls", "function", "name", "arguments",
            "finish_reason",
            "usage", "prompt_tokens", "prompt_tokens_details", "error", "code", "x_groq", "service_tier", "refusal", "custom",
            "type", "thinking",
        ]),
        inner, max_size=4,
    ),
    max_leaves=12,
)  # fmt: skip
_hostile = st.binary(max_size=40) | _json.map(lambda value: json.dumps(value).encode())


@settings(deadline=None, max_examples=300)
@given(st.lists(_hostile, max_size=3), st.booleans())
def test_no_answer_whatsoever_raises(frames: list[bytes], raw: bool) -> None:
    events = streamed(*map(frame, frames), raw_chunks=raw)
    assert sum(isinstance(event, MessageCompleted | ErrorOccurred) for event in events) <= 1
    told = decoder(raw_chunks=raw)
    for data in frames:
        told.feed(frame(data))
    assert isinstance(told.partial("error", None)[1], Response)


@settings(deadline=None, max_examples=300)
@given(_hostile, st.booleans())
def test_no_body_whatsoever_raises(data: bytes, raw: bool) -> None:
    assert isinstance(whole(data, raw_chunks=raw)[-1], MessageCompleted | ErrorOccurred)


def test_the_adapter_makes_a_decoder_for_each_attempt() -> None:
    first, second = (OpenAIChat().decoder(Engine("openai.chat:m"), CallContext(request_id="req", generation=n)) for n in (1, 2))
    for told in (first, second):
        told.headers({"content-type": "text/event-stream"})
        told.feed(KEYLESS)
    assert (first.block_ids(), second.block_ids()) == (("b1.1",), ("b2.1",))
    last = first.feed(DONE)[-1]
    assert isinstance(last, MessageCompleted)
    assert last.response.metadata == {}


def test_an_error_status_is_read_by_the_failures_of_the_wire() -> None:
    error = OpenAIChat().failure(401, {}, b'{"error":{"message":"no"}}')
    assert (error.reason, error.message, error.provider) == ("authentication", "no", "openai")
