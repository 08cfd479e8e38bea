"""Anthropic Messages: answers written by hand, each for one thing that the wire does."""

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from allm.blocks import CallContext
from allm.events import (
    ErrorOccurred,
    Event,
    MessageCompleted,
    MessageStarted,
    PartCompleted,
    RawChunk,
    ReasoningCompleted,
    ReasoningDelta,
    ReasoningStarted,
    TextCompleted,
    TextDelta,
    TextStarted,
    ToolCallCompleted,
    ToolCallDelta,
    ToolCallStarted,
)  # fmt: skip
from allm.messages import ProviderPart, ReasoningPart, TextPart, ToolCallPart
from allm.providers.answer_ways import ANSWER_TOOL
from allm.providers.anthropic import Anthropic
from allm.providers.anthropic_decoder import AnthropicDecoder
from allm.providers.ids import wire_names
from allm.sse import MAX_FRAME
from tests.wire.anthropic import (
    PING,
    STOP,
    answered,
    begin,
    block,
    decoder,
    delta,
    event,
    finish,
    message,
    start,
    stop,
    streamed,
    text,
    whole,
)  # fmt: skip
from tests.wire.chat import checked, cut, failure, joined, response

CALL: dict[str, Any] = {"id": "toolu_1", "name": "weather", "input": {}}
SEARCH: dict[str, Any] = {"id": "srvtoolu_1", "name": "web_search", "input": {}}


def written(*pieces: str) -> list[tuple[str, dict[str, Any]]]:
    return [("input_json_delta", {"partial_json": piece}) for piece in pieces]


def call(index: int, *pieces: str, **fields: Any) -> bytes:
    return block(index, "tool_use", *written(*pieces), **{**CALL, **fields})


def test_text_comes_in_pieces() -> None:
    events = streamed(begin(), start(0, "text", text=""), PING, delta(0, "text_delta", text="Hel"), delta(0, "text_delta", text="lo"),
                      stop(0), finish(), STOP)  # fmt: skip
    assert events[:-1] == [
        MessageStarted("m1", "claude-x"), TextStarted("b1.1"), TextDelta("b1.1", "Hel"), TextDelta("b1.1", "lo"),
        TextCompleted("b1.1", "Hello"),
    ]  # fmt: skip
    told = response(events)
    assert (told.id, told.model, told.text, told.finish_reason, told.raw_finish_reason) == ("m1", "claude-x", "Hello", "stop", "end_turn")


def test_blocks_of_text_stay_apart() -> None:
    told = response(answered(text(0, "a"), text(1, "b")))
    assert told.message.content == (TextPart("a"), TextPart("b"))
    assert told.text == "ab"


def test_blocks_that_interleave_stay_apart() -> None:
    events = answered(
        start(0, "text", text=""), start(1, "text", text=""), delta(0, "text_delta", text="a"), delta(1, "text_delta", text="b"),
        stop(0), stop(1),
    )  # fmt: skip
    assert response(events).message.content == (TextPart("a"), TextPart("b"))


def test_deltas_of_blocks_that_interleave_go_to_their_own() -> None:
    events = answered(
        start(0, "thinking", thinking="", signature=""), delta(0, "thinking_delta", thinking="T1"), start(1, "text", text=""),
        delta(1, "text_delta", text="A1"), delta(0, "thinking_delta", thinking="T2"), start(2, "tool_use", id="c1", name="f", input={}),
        delta(2, "input_json_delta", partial_json="{}"), delta(0, "signature_delta", signature="sig"), stop(0),
        delta(1, "text_delta", text="A2"), stop(2), stop(1),
    )  # fmt: skip
    assert response(events).message.content == (
        ReasoningPart("T1T2", "sig", None, "anthropic"), TextPart("A1A2"), ToolCallPart("c1", "f", {}, "{}"),
    )  # fmt: skip


def test_blocks_without_an_index_follow_one_another() -> None:
    begun = event("content_block_start", content_block={"type": "text", "text": ""})
    one, two = (event("content_block_delta", **more, delta={"type": "text_delta", "text": "a"}) for more in ({}, {"index": None}))
    ended = event("content_block_stop")
    assert response(answered(begun, one, ended, begun, two, ended)).message.content == (TextPart("a"), TextPart("a"))


def test_blanks_before_the_last_brace_mean_nothing() -> None:
    padded = delta(0, "text_delta", text="a").replace(b"}\n\n", b"         }\n\n")
    assert response(answered(start(0, "text", text=""), padded, stop(0))).text == "a"


def test_a_block_may_begin_with_all_of_its_text() -> None:
    assert response(answered(block(0, "text", text="Hello"))).text == "Hello"


def test_deltas_without_a_start_are_read() -> None:
    events = streamed(delta(0, "text_delta", text="a"), finish(), STOP)
    assert response(events).text == "a"
    assert events[0] == MessageStarted(None, None)


def test_an_answer_may_be_empty() -> None:
    told = response(answered())
    assert (told.message.content, told.finish_reason) == ("", "stop")
    assert response(whole(message())).message.content == ""


# reasoning


def test_thinking_is_signed_and_names_its_maker() -> None:
    events = answered(
        block(0, "thinking", ("thinking_delta", {"thinking": "Hm"}), ("thinking_delta", {"thinking": "m"}),
              ("signature_delta", {"signature": "sig"}), thinking="", signature=""),
        text(1, "Hi"),
    )  # fmt: skip
    assert events[1:5] == [
        ReasoningStarted("b1.1"), ReasoningDelta("b1.1", "Hm"), ReasoningDelta("b1.1", "m"),
        ReasoningCompleted("b1.1", "Hmm", "sig", None, "anthropic"),
    ]  # fmt: skip
    assert response(events).message.content == (ReasoningPart("Hmm", "sig", None, "anthropic"), TextPart("Hi"))
    body = message({"type": "thinking", "thinking": "Hmm", "signature": "sig"}, {"type": "text", "text": "Hi"})
    assert response(whole(body)).message == response(events).message


def test_thinking_that_is_not_shown_has_its_signature_only() -> None:
    told = response(answered(block(0, "thinking", ("signature_delta", {"signature": "sig"}), thinking=""), text(1, "Hi")))
    assert told.message.parts[0] == ReasoningPart("", "sig", None, "anthropic")


def test_thinking_without_a_signature_has_no_maker() -> None:
    told = response(answered(block(0, "thinking", ("thinking_delta", {"thinking": "Hm"}), thinking=""), text(1, "Hi")))
    assert told.message.parts[0] == ReasoningPart("Hm")


def test_thinking_that_another_host_did_not_sign_is_that_hosts() -> None:
    unsigned = block(0, "thinking", ("thinking_delta", {"thinking": "Hm"}), thinking="")
    signed = block(1, "thinking", ("thinking_delta", {"thinking": "So"}), ("signature_delta", {"signature": "sig"}), thinking="")
    for base_url, maker in (("https://api.deepseek.com/anthropic", "anthropic@api.deepseek.com"), ("https://api.anthropic.com", None)):
        made = AnthropicDecoder(CallContext(request_id="req", base_url=base_url))
        told = response(checked(made.feed(begin() + unsigned + signed + text(2, "Hi") + finish() + STOP)))
        assert told.message.parts[:2] == (ReasoningPart("Hm", provider=maker), ReasoningPart("So", "sig", None, "anthropic"))


def test_redacted_thinking_is_data() -> None:
    told = response(answered(block(0, "redacted_thinking", data="x1"), block(1, "redacted_thinking", data="x2"), text(2, "Hi")))
    assert told.message.parts[:2] == (ReasoningPart("", None, "x1", "anthropic"), ReasoningPart("", None, "x2", "anthropic"))


# tool calls


def test_a_call_comes_in_pieces() -> None:
    events = answered(call(0, "", '{"city": ', '"Oslo"}'), reason="tool_use")
    assert events[1:-1] == [
        ToolCallStarted("b1.1", "weather"), ToolCallDelta("b1.1", '{"city": '), ToolCallDelta("b1.1", '"Oslo"}'),
        ToolCallCompleted("b1.1", "weather", {"city": "Oslo"}, '{"city": "Oslo"}', "toolu_1"),
    ]  # fmt: skip
    told = response(events)
    assert told.finish_reason == "tool_calls"
    assert told.tool_calls == (ToolCallPart("toolu_1", "weather", {"city": "Oslo"}, '{"city": "Oslo"}'),)


def test_a_call_without_parameters_has_empty_arguments() -> None:
    (only,) = response(answered(call(0, ""), reason="tool_use")).tool_calls
    assert (only.arguments, only.raw_arguments) == ({}, "{}")


def test_a_call_may_begin_with_all_of_its_input() -> None:
    (only,) = response(answered(call(0, input={"city": "Oslo"}), reason="tool_use")).tool_calls
    assert only.arguments == {"city": "Oslo"}


def test_input_may_be_a_json_text() -> None:
    (only,) = response(answered(call(0, input='{"city": "Oslo"}'), reason="tool_use")).tool_calls
    assert (only.arguments, only.raw_arguments) == ({"city": "Oslo"}, '{"city": "Oslo"}')
    told = response(answered(block(0, "server_tool_use", id="s1", name="x", input='{"q": 1}'), text(1, "Hi")))
    assert told.message.parts[0] == ProviderPart(
        "anthropic", "server_tool_use", {"type": "server_tool_use", "id": "s1", "name": "x", "input": {"q": 1}}
    )


@pytest.mark.parametrize(
    ("blocks", "reason", "raw"),
    [
        ((call(0),), "max_tokens", [None]),
        ((call(0), call(1, id="toolu_2")), "max_tokens", ["{}", None]),
        ((call(0), text(1, "and")), "max_tokens", ["{}"]),
        ((call(0, '{"city": "Os'),), "max_tokens", ['{"city": "Os']),
        ((call(0, '{"city": "Oslo"}'),), "max_tokens", ['{"city": "Oslo"}']),
        ((call(0),), "tool_use", ["{}"]),
    ],
    ids=["cut before its input", "the last of two", "text follows", "half of it", "whole", "no parameters"],
)
def test_a_call_without_input_was_cut_off_where_the_answer_was(blocks: tuple[bytes, ...], reason: str, raw: list[str | None]) -> None:
    assert [each.raw_arguments for each in response(answered(*blocks, reason=reason)).tool_calls] == raw


def test_a_tool_with_a_dotted_name_is_called_by_it() -> None:
    made = AnthropicDecoder(CallContext(request_id="req", tools=("a.b", "a_b")))
    sent = wire_names(("a.b", "a_b"), 128)["a.b"]
    events = checked(made.feed(begin() + call(0, "{}", name=sent) + call(1, "{}", id="c2", name="a_b") + finish("tool_use") + STOP))
    assert [each.name for each in response(events).tool_calls] == ["a.b", "a_b"]


def test_calls_in_parallel_and_text_before_them() -> None:
    told = response(answered(text(0, "Let me see."), call(1, '{"a": 1}'), call(2, '{"a": 2}', id="toolu_2"), reason="tool_use"))
    assert told.text == "Let me see."
    assert [(each.id, each.arguments) for each in told.tool_calls] == [("toolu_1", {"a": 1}), ("toolu_2", {"a": 2})]


def test_an_id_that_the_thread_has_is_replaced() -> None:
    (only,) = response(streamed(begin(), call(0, "{}"), finish("tool_use"), STOP, used=["toolu_1"])).tool_calls
    assert only.id == "call_req_b1.1"


def test_a_call_by_the_model_itself_says_nothing_more() -> None:
    told = response(answered(call(0, "{}", caller={"type": "direct"}), reason="tool_use"))
    assert told.message.parts == told.tool_calls


def test_a_call_by_a_server_tool_keeps_who_called() -> None:
    caller = {"type": "code_execution_20250825", "tool_id": "srvtoolu_1"}
    told = response(answered(call(0, "{}", caller=caller), reason="tool_use"))
    assert told.message.parts[1:] == (ProviderPart("anthropic", "tool_use", {"id": "toolu_1", "caller": caller}),)


def test_a_call_without_a_name_is_kept_as_it_came() -> None:
    told = response(answered(block(0, "tool_use", id="toolu_1", input={})))
    assert told.message.parts == (ProviderPart("anthropic", "tool_use", {"type": "tool_use", "id": "toolu_1", "input": {}}),)


# the answer as a tool


def test_the_answer_by_a_tool_is_text() -> None:
    events = answered(call(0, '{"n":', " 1}", name=ANSWER_TOOL), reason="tool_use")
    told = response(events)
    assert (told.text, told.tool_calls, told.finish_reason, told.raw_finish_reason) == ('{"n": 1}', (), "stop", "tool_use")
    assert [each for each in events if isinstance(each, TextDelta)] == [TextDelta("b1.1", '{"n":'), TextDelta("b1.1", " 1}")]
    body = whole(message({"type": "tool_use", **CALL, "name": ANSWER_TOOL, "input": {"n": 1}}, reason="tool_use"))
    assert json.loads(response(body).text) == {"n": 1}
    assert response(body).finish_reason == "stop"


def test_an_empty_answer_by_a_tool_is_an_empty_object() -> None:
    assert response(answered(call(0, "", name=ANSWER_TOOL), reason="tool_use")).text == "{}"


def test_the_answer_beside_a_call_leaves_the_call_to_be_done() -> None:
    told = response(answered(call(0, "{}", name=ANSWER_TOOL), call(1, "{}"), reason="tool_use"))
    assert (told.text, told.finish_reason) == ("{}", "tool_calls")


def test_an_answer_that_was_cut_stays_cut() -> None:
    assert response(answered(call(0, '{"n', name=ANSWER_TOOL), reason="max_tokens")).finish_reason == "length"


# blocks of the provider's own


def test_server_tools_are_kept_in_their_places() -> None:
    found = [{"type": "web_search_result", "url": "https://a.example", "title": "A", "encrypted_content": "x", "page_age": None}]
    result = {"type": "web_search_tool_result", "tool_use_id": "srvtoolu_1", "content": found}
    events = answered(
        text(0, "I look."),
        block(1, "server_tool_use", *written("", '{"query": "a"}'), **SEARCH),
        block(2, "web_search_tool_result", tool_use_id="srvtoolu_1", content=found),
        text(3, "Here."),
    )
    used = {"type": "server_tool_use", **SEARCH, "input": {"query": "a"}}
    parts = response(events).message.parts
    assert parts[0] == TextPart("I look.")
    assert parts[1] == ProviderPart("anthropic", "server_tool_use", used)
    assert isinstance(parts[2], ProviderPart)
    assert parts[2].type == "web_search_tool_result"
    assert parts[2].data["content"][0]["url"] == "https://a.example"
    assert sum(isinstance(each, PartCompleted) for each in events) == 2
    body = whole(message({"type": "text", "text": "I look."}, used, result, {"type": "text", "text": "Here."}))
    assert [type(part) for part in response(body).message.parts] == [TextPart, ProviderPart, ProviderPart, TextPart]


@pytest.mark.parametrize("pieces", ['{"query"', '"\ud800"'])
def test_input_of_a_server_tool_that_is_no_json_is_empty(pieces: str) -> None:
    (part,) = response(answered(block(0, "server_tool_use", *written(pieces), **SEARCH))).message.parts
    assert isinstance(part, ProviderPart)
    assert part.data["input"] == {} or "\ufffd" in part.data["input"]


def test_citations_follow_the_text_they_are_of() -> None:
    cited = {"type": "char_location", "cited_text": "x", "document_index": 0}
    events = answered(block(0, "text", ("text_delta", {"text": "a"}), ("citations_delta", {"citation": cited}), text=""), text(1, "b"))
    parts = (TextPart("a"), ProviderPart("anthropic", "citations", {"citations": [cited]}), TextPart("b"))
    assert response(events).message.parts == parts
    body = message({"type": "text", "text": "a", "citations": [cited]}, {"type": "text", "text": "b", "citations": None})
    assert response(whole(body)).message.parts == parts


def test_a_compaction_is_put_together() -> None:
    told = response(answered(block(0, "compaction", ("compaction_delta", {"content": "Summary"}), content=None), text(1, "Hi")))
    assert told.message.parts[0] == ProviderPart("anthropic", "compaction", {"type": "compaction", "content": "Summary"})


def test_blocks_and_deltas_of_a_newer_wire_are_kept() -> None:
    more: list[tuple[str, dict[str, Any]]] = [
        ("new_delta", {"a": "x", "b": [1], "c": 1}),
        ("new_delta", {"a": "y", "b": [2], "c": 2}),
        ("other_delta", {"b": 3}),
    ]
    told = response(
        answered(block(0, "new", *more, a="w", b=[0]), text(1, "Hi"), delta(1, "new_delta", a="x"), delta(9, "new_delta", a="x"))
    )
    assert told.message.parts == (ProviderPart("anthropic", "new", {"type": "new", "a": "wxy", "b": [0, 1, 2, 3], "c": 2}), TextPart("Hi"))


def test_a_block_that_is_no_block_is_kept_as_unknown_or_left_out() -> None:
    events = answered(event("content_block_start", index=0, content_block={"x": 1}), stop(0), stop(7))
    assert response(events).message.parts == (ProviderPart("anthropic", "unknown", {"x": 1}),)


def test_a_block_beyond_our_limits_is_left_out() -> None:
    deep: Any = 1
    for _ in range(500):
        deep = [deep]
    assert response(answered(block(0, "new", a=deep), text(1, "Hi"))).message.content == "Hi"


def test_events_of_a_newer_wire_are_passed_over() -> None:
    odd = b'event: new\ndata: {"type": "new", "delta": "x", "index": "y"}\n\n'
    assert response(streamed(begin(), odd, b"data: [1]\n\n", event("newer", delta={"a": 1}), text(0, "a"), finish(), STOP)).text == "a"
    assert response(streamed(begin(), event("content_block_delta", index=0), text(0, "a"), finish(), STOP)).text == "a"


def test_a_delta_for_no_block_is_passed_over() -> None:
    lost = [delta(0, "input_json_delta", partial_json="{"), delta(0, "citations_delta", citation={})]
    empty = [delta(0, "text_delta", text=""), delta(0, "thinking_delta", thinking=None), delta(0, "signature_delta", signature="")]
    assert response(answered(*lost, *empty)).message.content == ""


# the end


@pytest.mark.parametrize(
    ("reason", "finish_reason"),
    [
        ("end_turn", "stop"),
        ("stop_sequence", "stop"),
        ("max_tokens", "length"),
        ("model_context_window_exceeded", "length"),
        ("tool_use", "tool_calls"),
        ("refusal", "content_filter"),
        ("pause_turn", "other"),
        ("a_new_one", "other"),
    ],
)
def test_why_it_ended(reason: str, finish_reason: str) -> None:
    for told in (response(answered(text(0, "a"), reason=reason)), response(whole(message({"type": "text", "text": "a"}, reason=reason)))):
        assert (told.finish_reason, told.raw_finish_reason) == (finish_reason, reason)


def test_a_refusal_tells_why() -> None:
    details = {"type": "refusal", "category": "cyber", "explanation": "Not this."}
    told = response(streamed(begin(), finish("refusal", stop_details=details), STOP))
    assert (told.refusal, told.text, told.metadata["stop_details"]) == ("Not this.", "", details)
    assert response(whole(message(reason="refusal", stop_details=details))).refusal == "Not this."
    assert response(whole(message(reason="refusal"))).refusal == "The provider refused to answer."


def test_what_stands_beside_the_answer_is_metadata() -> None:
    container = {"id": "container_1", "expires_at": "2026-01-01T00:00:00Z"}
    managed: dict[str, Any] = {"applied_edits": []}
    last = event(
        "message_delta",
        delta={"stop_reason": "stop_sequence", "stop_sequence": "END", "container": container},
        usage={"output_tokens": 1},
        context_management=managed,
    )
    told = response(streamed(begin(), last, STOP))
    assert told.metadata == {"stop_sequence": "END", "container": container, "context_management": {"applied_edits": ()}}
    body = message(reason="stop_sequence", container=container, context_management=managed) | {"stop_sequence": "END"}
    assert response(whole(body)).metadata == told.metadata


def test_headers_tell_the_request_and_its_limits() -> None:
    told = decoder()
    told.headers({"request-id": "req_1", "retry-after": "9", "anthropic-ratelimit-requests-remaining": "3", "x": "y"})
    events = [*told.feed(begin() + finish() + STOP), *told.end()]
    limits = {"anthropic-ratelimit-requests-remaining": "3"}
    assert response(events).metadata == {"rate_limits": limits, "provider_request_id": "req_1"}


def test_a_stop_reason_without_the_stop_is_an_end() -> None:
    events = streamed(begin(), start(0, "text", text=""), delta(0, "text_delta", text="a"), start(1, "new", a=1), finish())
    assert response(events).message.parts == (TextPart("a"), ProviderPart("anthropic", "new", {"type": "new", "a": 1}))


def test_the_stop_without_a_reason_is_an_end() -> None:
    told = response(streamed(begin(), text(0, "a"), STOP))
    assert (told.finish_reason, told.raw_finish_reason) == ("stop", None)
    assert response(streamed(begin(), text(0, "a"), event("message_delta"), STOP)).text == "a"


def test_a_stream_that_breaks_off_has_no_terminal_event() -> None:
    for pieces in ([], [begin()], [begin(), text(0, "a")], [begin(), text(0, "a"), finish()[:40]]):
        told = decoder()
        events = [event for piece in pieces for event in told.feed(piece)] + told.end()
        assert not any(isinstance(each, MessageCompleted) for each in events)


def test_the_last_event_may_lack_its_blank_line() -> None:
    assert response(streamed(begin(), text(0, "a"), finish(), STOP.rstrip())).text == "a"
    assert response(streamed(begin(), text(0, "a"), finish().rstrip())).text == "a"


def test_nothing_follows_the_end() -> None:
    told = decoder()
    assert isinstance(told.feed(begin() + text(0, "a") + finish() + STOP + text(1, "b"))[-1], MessageCompleted)
    assert told.feed(text(2, "c")) == []
    assert told.end() == []


def test_a_partial_response_has_what_came() -> None:
    told = decoder()
    assert not told.has_content
    pieces = [
        begin(),
        text(0, "a"),
        start(1, "server_tool_use", **SEARCH),
        start(2, "tool_use", **CALL),
        *map(delta, [2], ["input_json_delta"]),
    ]
    events = told.feed(b"".join(pieces))
    closing, partial = told.partial("cancelled", None)
    assert (partial.text, partial.tool_calls, partial.finish_reason) == ("a", (), "cancelled")
    assert (partial.usage.input_tokens, partial.usage.output_tokens) == (5, 1)
    assert told.has_content
    assert told.block_ids() == ("b1.1", "b1.2")
    assert isinstance(events[0], MessageStarted)
    assert closing == []


def test_hosts_that_end_like_chat_are_understood() -> None:
    assert response(streamed(begin(), text(0, "a"), finish(), b"data: [DONE]\n\n", b"data: \n\n", STOP)).text == "a"


# usage


def test_usage_of_the_end_replaces_that_of_the_start() -> None:
    first = {"input_tokens": 727, "output_tokens": 2, "cache_read_input_tokens": 0, "service_tier": "standard"}
    last = {"input_tokens": 1595, "output_tokens": 143, "cache_read_input_tokens": 30, "cache_creation_input_tokens": 4,
            "output_tokens_details": {"thinking_tokens": 53, "new": 1}, "server_tool_use": {"web_search_requests": 1}}  # fmt: skip
    usage = response(streamed(begin(usage=first), finish(usage=last), STOP)).usage
    assert (usage.input_tokens, usage.output_tokens, usage.reasoning_tokens, usage.total_tokens) == (1629, 143, 53, 1772)
    assert (usage.cached_input_tokens, usage.cache_write_input_tokens) == (30, 4)
    assert usage.extra == {"service_tier": "standard", "server_tool_use": {"web_search_requests": 1}, "new": 1}


def test_what_the_end_does_not_tell_stays_as_the_start_told_it() -> None:
    usage = response(streamed(begin(), finish(usage={"output_tokens": 9, "input_tokens": None}), STOP)).usage
    assert (usage.input_tokens, usage.output_tokens, usage.cached_input_tokens) == (5, 9, None)


def test_usage_that_is_not_told_is_unknown() -> None:
    usage = response(streamed(begin(usage=None), text(0, "a"), event("message_delta", delta={"stop_reason": "end_turn"}), STOP)).usage
    assert usage.input_tokens is usage.output_tokens is usage.total_tokens is None


@pytest.mark.parametrize("count", [-1, 1 << 63, True, "5", None])
def test_a_count_that_is_none_is_unknown(count: Any) -> None:
    assert response(whole(message(usage={"input_tokens": count, "output_tokens": 1}))).usage.input_tokens is None


# errors


@pytest.mark.parametrize(
    ("kind", "reason"),
    [
        ("overloaded_error", "overloaded"),
        ("rate_limit_error", "rate_limited"),
        ("api_error", "server_error"),
        ("invalid_request_error", "invalid_request"),
        ("a_new_one", "server_error"),
    ],
)
def test_an_error_inside_the_stream(kind: str, reason: str) -> None:
    error = {"type": kind, "message": "Sorry"}
    for raw in (event("error", error=error), b"data: " + json.dumps({"error": error}).encode() + b"\n\n"):
        events = streamed(begin(), text(0, "a"), raw, text(1, "b"))
        assert failure(events) == (reason, "Sorry")
        assert sum(isinstance(each, TextDelta) for each in events) == 1
    assert failure(whole({"type": "error", "error": error})) == (reason, "Sorry")


def test_an_error_that_says_nothing_is_an_error() -> None:
    assert failure(streamed(begin(), b"event: error\ndata: {}\n\n"))[0] == "server_error"


@pytest.mark.parametrize("bad", [b'data: {"type": "content_block_delta", "del\n\n', b'data: {"type": 7}\n\n'])
def test_an_event_that_is_none_fails_the_attempt(bad: bytes) -> None:
    for raw_chunks in (False, True):
        assert failure(streamed(begin(), text(0, "a"), bad, STOP, raw_chunks=raw_chunks))[0] == "malformed_response"


@pytest.mark.parametrize("bad", [b"", b"[]", b"{}", b'{"content": {}}', b"<html>"])
def test_a_body_that_is_no_message_fails_the_attempt(bad: bytes) -> None:
    assert failure(whole(bad))[0] == "malformed_response"


def test_an_event_beyond_all_bounds_fails_the_attempt() -> None:
    told = decoder()
    assert failure(told.feed(b"data: " + b"x" * MAX_FRAME + b"x"))[0] == "malformed_response"


def test_half_an_emoji_is_read() -> None:
    raw = b'data: {"type": "content_block_delta", "index": 0, "delta": {"type": "text_delta", "text": "\\ud83d"}}\n\n'
    assert response(answered(start(0, "text", text=""), raw, stop(0))).text == "\ufffd"


@pytest.mark.parametrize(
    ("status", "kind", "words", "reason"),
    [
        (400, "invalid_request_error", "prompt is too long: 210000 tokens > 200000 maximum", "context_length_exceeded"),
        (
            400,
            "invalid_request_error",
            "input length and `max_tokens` exceed context limit: 190000 + 20000 > 200000",
            "context_length_exceeded",
        ),
        (400, "invalid_request_error", "Your credit balance is too low to access the API.", "quota_exceeded"),
        (400, "invalid_request_error", "messages: at least one message is required", "invalid_request"),
        (401, "authentication_error", "invalid x-api-key", "authentication"),
        (402, "billing_error", "Pay", "quota_exceeded"),
        (403, "permission_error", "No", "permission"),
        (404, "not_found_error", "model: x", "not_found"),
        (413, "request_too_large", "Request exceeds the maximum size", "invalid_request"),
        (429, "rate_limit_error", "Slow down", "rate_limited"),
        (500, "api_error", "Internal server error", "server_error"),
        (504, "timeout_error", "Late", "timeout"),
        (529, "overloaded_error", "Overloaded", "overloaded"),
    ],
)
def test_an_error_answer(status: int, kind: str, words: str, reason: str) -> None:
    body = {"type": "error", "error": {"type": kind, "message": words}, "request_id": "req_9"}
    error = Anthropic().failure(status, {}, json.dumps(body).encode())
    assert (error.reason, error.message, error.status, error.provider) == (reason, words, status, "anthropic")
    assert error.metadata["provider_request_id"] == "req_9"


def test_a_wait_is_told_by_the_header() -> None:
    error = Anthropic().failure(
        429, {"retry-after": "7", "request-id": "req_1"}, b'{"error": {"type": "rate_limit_error"}, "request_id": 5}'
    )
    assert (error.retry_after, error.metadata["provider_request_id"]) == (7, "req_1")


# progress, raw chunks, framing


@pytest.mark.parametrize(
    ("data", "progress"),
    [
        (PING, False),
        (begin(), False),
        (delta(0, "text_delta", text=""), False),
        (start(0, "server_tool_use", **SEARCH), True),
        (start(0, "new") + delta(0, "new_delta", a="x"), True),
        (finish(), False),
    ],
)
def test_what_shows_progress(data: bytes, progress: bool) -> None:
    told = decoder()
    told.feed(data)
    assert told.progress is progress


def test_a_server_tool_at_work_shows_progress() -> None:
    told = decoder()
    told.feed(begin() + start(0, "server_tool_use", **SEARCH))
    for piece in (
        delta(0, "input_json_delta", partial_json="{"),
        stop(0) + start(1, "thinking"),
        delta(1, "signature_delta", signature="x"),
    ):
        told.progress = False
        told.feed(piece)
        assert told.progress


def test_raw_chunks_are_given_as_they_came() -> None:
    events = streamed(begin(), PING, text(0, "a"), finish(), STOP, raw_chunks=True)
    raw = [each.chunk["type"] for each in events if isinstance(each, RawChunk)]
    assert raw == [
        "message_start", "ping", "content_block_start", "content_block_delta", "content_block_stop", "message_delta", "message_stop",
    ]  # fmt: skip
    body = message({"type": "text", "text": "a"})
    events = whole(body, raw_chunks=True)
    assert isinstance(events[0], RawChunk)
    assert response(events).raw["id"] == "m1"


RICH = b"".join([
    begin(), PING, block(0, "thinking", ("thinking_delta", {"thinking": "H\u00e4"}), ("signature_delta", {"signature": "s"}), thinking=""),
    text(1, "a", "\u20ac", " b"), block(2, "server_tool_use", *written('{"q"', ": 1}"), **SEARCH), block(3, "new", ("n", {"a": "x"}), a=""),
    call(4, "", '{"city": ', '"Oslo"}'), call(5, name=ANSWER_TOOL), finish("tool_use"), STOP,
])  # fmt: skip


@given(st.lists(st.integers(0, len(RICH)), max_size=20), st.sampled_from([b"\n", b"\r\n", b"\r"]))
def test_any_framing_gives_the_same_events(places: list[int], end: bytes) -> None:
    def events(*pieces: bytes) -> list[Event]:
        return joined(streamed(*pieces))

    assert events(*cut(RICH.replace(b"\n", end), places)) == events(RICH)


@pytest.mark.parametrize(
    "behind",
    [b"data: {\n\n", event("error", error={"type": "overloaded_error", "message": "Overloaded"}), b"data: [" + b"[" * 9999 + b"\n\n"],
    ids=["no JSON", "an error", "nonsense"],
)
def test_nothing_behind_a_finished_answer_fails_it(behind: bytes) -> None:
    for after in (b"", STOP):
        told = response(streamed(begin(), text(0, "a"), finish(), behind, after))
        assert (told.text, told.finish_reason) == ("a", "stop")


def test_fields_of_another_type_fail_nothing() -> None:
    odd = event("content_block_delta", index="0", delta={"type": "text_delta", "text": "a", "signature": 7, "partial_json": {}}, usage=[])
    end = event("message_delta", delta={"stop_reason": "end_turn", "stop_sequence": 5}, usage=[1])
    told = response(streamed(begin(model=3, usage="x"), start(0, "text", text=None, citations=5), odd, stop(0), end, STOP))
    assert (told.text, told.finish_reason, told.model) == ("a", "stop", None)
    raw = delta(0, "text_delta", text="Z").replace(b'"Z"', b'"\xff"')
    assert response(answered(start(0, "text", text=""), raw, stop(0))).text == "\ufffd"


def test_an_event_whose_type_is_no_text_is_malformed() -> None:
    assert failure(streamed(b'data: {"type": []}\n\n'))[0] == "malformed_response"
    assert failure(streamed(begin(), text(0, "a"), b'data: {"type": {}}\n\n', STOP))[0] == "malformed_response"


@pytest.mark.parametrize("content", ["hi", {"type": "text", "text": "hi"}])
def test_a_body_with_a_text_or_a_block_in_place_of_blocks_is_read(content: Any) -> None:
    body = {"id": "m", "type": "message", "role": "assistant", "content": content, "stop_reason": "end_turn"}
    assert response(checked(decoder().body(json.dumps(body).encode()))).text == "hi"


# What hosts of this wire do otherwise


@pytest.mark.parametrize("stopped", [True, False])
@pytest.mark.parametrize("piece", ["", '{"city'])
def test_an_end_without_a_reason_within_a_call_is_a_truncation(piece: str, stopped: bool) -> None:
    if piece and stopped:
        return  # its host says that the block is whole
    begun = start(0, "tool_use", id="t1", name="f", input={}) + (delta(0, "input_json_delta", partial_json=piece) if piece else b"")
    last = streamed(begin(), begun, stop(0) if stopped else b"", STOP)[-1]
    assert isinstance(last, ErrorOccurred)
    assert last.error.reason == "truncated"


def test_a_call_that_is_whole_needs_no_reason_for_the_end() -> None:
    begun = start(0, "tool_use", id="t1", name="f", input={}) + delta(0, "input_json_delta", partial_json='{"a": 1}')
    for pieces in ([begun], [begun, stop(0)]):
        assert [call.arguments for call in response(streamed(begin(), *pieces, STOP)).tool_calls] == [{"a": 1}]
    told = message({"type": "tool_use", "id": "t1", "name": "f", "input": {}}, stop_reason=None)
    assert [call.name for call in response(whole(told)).tool_calls] == ["f"]


def test_an_input_that_comes_as_an_object_or_behind_an_empty_one_is_the_input() -> None:
    for pieces in ([{"a": 1}], ["{}", '{"a": 1}']):
        begun = start(0, "tool_use", id="t1", name="f", input={}) + b"".join(
            delta(0, "input_json_delta", partial_json=each) for each in pieces
        )
        assert [call.arguments for call in response(answered(begun + stop(0), reason="tool_use")).tool_calls] == [{"a": 1}]


def test_deltas_that_do_not_tell_their_type_are_known_by_what_is_in_them() -> None:
    def untyped(index: int, **fields: Any) -> bytes:
        return event("content_block_delta", index=index, delta=fields)

    blocks = [
        start(0, "thinking", thinking="") + untyped(0, thinking="hm") + untyped(0, signature="SIG") + stop(0),
        start(1, "text", text="") + untyped(1, text="hi") + stop(1),
        start(2, "tool_use", id="t1", name="f", input={}) + untyped(2, partial_json='{"a": 1}') + stop(2),
    ]
    answer = response(answered(*blocks, reason="tool_use"))
    assert (answer.reasoning_text, answer.text, [call.arguments for call in answer.tool_calls]) == ("hm", "hi", [{"a": 1}])
