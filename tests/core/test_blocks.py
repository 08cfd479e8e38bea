"""The message being built: block ids, tool calls as hosts send them, and what is left of a broken answer."""

import json

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from allm.block_parts import message_of
from allm.blocks import CallContext, MessageBuilder
from allm.events import (
    Event,
    MessageCompleted,
    MessageStarted,
    TextCompleted,
    ToolCallCompleted,
    ToolCallDelta,
    ToolCallStarted,
)
from allm.messages import Part, ProviderPart, ReasoningPart, TextPart, ToolCallPart
from allm.responses import FinishReason, Response
from tests.core.streams import OPENING, Op, build, scripts


def builder(*used: str, generation: int = 1) -> MessageBuilder:
    return MessageBuilder(CallContext(request_id="req", generation=generation, used_ids=frozenset(used)))


def finish(build: MessageBuilder, reason: FinishReason = "stop") -> Response:
    build.complete(reason)
    last = build.take()[-1]
    assert isinstance(last, MessageCompleted)
    return last.response


def calls(build: MessageBuilder) -> list[tuple[str, str, object]]:
    return [(call.id, call.name, call.arguments) for call in finish(build).tool_calls]


def opened(events: list[Event]) -> list[str]:
    return [event.id for event in events if isinstance(event, OPENING)]


@settings(deadline=None)
@given(st.lists(scripts(), min_size=1, max_size=4))
def test_block_ids_are_never_reused_over_the_attempts_of_a_call(attempts: list[list[Op]]) -> None:
    seen: list[str] = []
    for generation, script in enumerate(attempts, 1):
        told = build(script, generation)
        seen += opened(told.take())
    assert len(seen) == len(set(seen))


def test_an_id_that_is_made_up_is_new_to_the_thread_even_under_the_same_request_id() -> None:
    ids: list[str] = []
    for _ in range(3):
        told = builder(*ids)
        told.call(0, None, "f", "{}")
        ids += [call.id for call in finish(told).tool_calls]
    assert len(set(ids)) == 3


@settings(deadline=None)
@given(scripts())
def test_the_ids_to_forget_are_those_of_all_blocks_that_were_told(script: list[Op]) -> None:
    told = build(script)
    assert set(opened(told.take())) <= set(told.block_ids())


@settings(deadline=None)
@given(scripts())
def test_there_is_content_exactly_when_a_block_was_told(script: list[Op]) -> None:
    told = build(script)
    assert told.has_content == bool(opened(told.take()))


def test_text_around_reasoning_makes_three_blocks_in_order() -> None:
    told = builder()
    told.text("a")
    told.text("b")
    told.reasoning("hm")
    told.text("c")
    assert finish(told).message.content == (TextPart("ab"), ReasoningPart("hm"), TextPart("c"))


def test_the_deltas_of_interleaved_calls_go_to_their_own_call() -> None:
    told = builder()
    told.call(0, "c0", "f", '{"a"')
    told.call(1, "c1", "g", '{"b"')
    told.call(0, None, None, ":0}")
    told.call(1, None, None, ":1}")
    assert calls(told) == [("c0", "f", {"a": 0}), ("c1", "g", {"b": 1})]


def test_repeated_ids_and_names_do_not_begin_a_new_call() -> None:
    told = builder()
    told.call(0, "c0", "f", '{"a"')
    told.call(0, "c0", "f", ":0}")
    assert calls(told) == [("c0", "f", {"a": 0})]


def test_a_new_id_and_name_under_a_known_key_begin_a_new_call() -> None:
    told = builder()
    told.call(0, "c0", "f", "{}")
    told.call(0, "c1", "g", "{}")
    kinds = [type(event) for event in told.take()]
    assert kinds == [
        ToolCallStarted, ToolCallDelta, ToolCallCompleted, ToolCallStarted, ToolCallDelta,
    ]  # fmt: skip
    assert calls(told) == [("c0", "f", {}), ("c1", "g", {})]


def test_a_call_is_told_once_its_name_is_known_and_loses_nothing_of_before() -> None:
    told = builder()
    told.call(0, "c0", None, '{"a"')
    told.call(0, None, None, ":")
    assert told.take() == []
    told.call(0, None, "f", None)
    assert told.take() == [ToolCallStarted("b1.1", "f"), ToolCallDelta("b1.1", '{"a":')]
    told.call(0, None, None, "0}")
    assert calls(told) == [("c0", "f", {"a": 0})]


def test_a_call_without_a_name_is_no_call() -> None:
    told = builder()
    told.call(0, "c0", None, "{}")
    response = finish(told)
    assert (response.tool_calls, response.finish_reason) == ((), "stop")


def test_a_missing_id_is_replaced_by_one_that_names_the_call_and_the_block() -> None:
    told = builder()
    told.call(0, None, "f", "{}")
    told.call(1, None, "f", "{}")
    ids = [call.id for call in finish(told).tool_calls]
    assert ids == ["call_req_b1.1", "call_req_b1.2"]


def test_an_id_that_the_thread_already_has_is_replaced() -> None:
    told = builder("0")
    told.call(0, "0", "f", "{}")
    assert [call.id for call in finish(told).tool_calls] == ["call_req_b1.1"]


def test_two_calls_of_one_message_never_share_an_id() -> None:
    told = builder()
    told.call(0, "same", "f", "{}")
    told.call(1, "same", "g", "{}")
    assert [call.id for call in finish(told).tool_calls] == ["same", "call_req_b1.2"]


def test_half_a_tool_call_is_no_call_in_a_partial_response() -> None:
    told = builder()
    told.text("Let me see.")
    told.call(0, "c0", "f", '{"a"')
    response = told.partial("cancelled", None)
    assert response.message.content == "Let me see."
    assert response.finish_reason == "cancelled"
    assert not any(isinstance(event, ToolCallCompleted) for event in told.take())


def test_a_call_that_was_complete_stays_in_a_partial_response() -> None:
    told = builder()
    told.call(0, "c0", "f", "{}")
    told.call(0, "c1", "g", '{"a"')
    assert [call.id for call in told.partial("error", None).tool_calls] == ["c0"]


@pytest.mark.parametrize(
    ("raw", "arguments"),
    [
        ('{"a": [1, {"b": null}]}', {"a": (1, {"b": None})}),
        ("", {}),
        ("  ", {}),
        ("null", {}),
        ("[1]", {}),
        ('"text"', {}),
        ('{"a":', {}),
        ('{"a": NaN}', {}),
        ('{"a": 1e999}', {}),
        ('{"a": %s}' % ("9" * 40), {}),
        ('{"a": "\\ud800"}', {"a": "\ufffd"}),
        ('{"a":' * 80 + "1" + "}" * 80, {}),
        ("[" * 100_000, {}),
    ],
    ids=lambda value: value[:12] if isinstance(value, str) else "",
)
def test_arguments_are_an_object_or_empty_and_the_raw_text_stays(raw: str, arguments: object) -> None:
    told = builder()
    told.call(0, "c0", "f", raw)
    (call,) = finish(told).tool_calls
    assert call.arguments == arguments
    assert call.raw_arguments == (raw or None)


@pytest.mark.parametrize(("reason", "expected"), [("stop", "tool_calls"), ("length", "length"), ("tool_calls", "tool_calls")])
def test_a_message_with_calls_that_just_stopped_stopped_for_its_calls(reason: FinishReason, expected: str) -> None:
    told = builder()
    told.call(0, "c0", "f", "{}")
    assert finish(told, reason).finish_reason == expected


def test_a_message_that_was_never_begun_is_begun_when_it_completes() -> None:
    told = builder()
    told.complete("stop")
    assert [type(event) for event in told.take()] == [MessageStarted, MessageCompleted]


def test_blocks_that_are_named_stay_open_while_others_go_on() -> None:
    told = builder()
    for key, text in ((0, "a"), (1, "x"), (0, "b"), (1, "y")):
        told.turn_to(key)
        told.text(text)
    told.turn_to("a call")
    told.call("a call", "c0", "f", "{}")
    told.turn_to(0)
    told.text("c")
    told.turn_to("thought")
    told.reasoning("hm")
    told.turn_to(1)
    told.close_block()
    told.text("z")
    call = ToolCallPart("c0", "f", {}, "{}")
    assert finish(told).message.content == (TextPart("abc"), TextPart("xy"), call, ReasoningPart("hm"), TextPart("z"))


def test_all_open_blocks_are_closed_in_a_partial_response() -> None:
    told = builder()
    for key in (0, 1):
        told.turn_to(key)
        told.text(str(key))
    assert told.partial("error", None).message.content == (TextPart("0"), TextPart("1"))
    assert [event.text for event in told.take() if isinstance(event, TextCompleted)] == ["0", "1"]


def test_a_call_that_is_known_to_be_whole_has_an_object_of_arguments_and_one_that_was_cut_has_none() -> None:
    told = builder()
    told.call(0, "c0", "f", None)
    told.end_call(0, whole=True)
    told.call(1, "c1", "g", None)
    assert [call.raw_arguments for call in finish(told, "length").tool_calls] == ["{}", None]


def test_arguments_that_a_host_encoded_twice_are_read_as_the_model_wrote_them() -> None:
    told = builder()
    told.call(0, "c0", "f", json.dumps('{"a": 1}'))
    told.call(1, "c1", "f", json.dumps("[1]"))
    first, second = finish(told).tool_calls
    assert (first.arguments, first.raw_arguments) == ({"a": 1}, '{"a": 1}')
    assert (second.arguments, second.raw_arguments) == ({}, '"[1]"')


def test_a_tool_is_called_by_its_own_name_where_the_wire_has_another() -> None:
    told = builder()
    told.names = {"a_b": "a.b"}
    told.call(0, "c0", "a_b", "{}")
    assert told.take() == [ToolCallStarted("b1.1", "a.b"), ToolCallDelta("b1.1", "{}")]
    assert [call.name for call in finish(told).tool_calls] == ["a.b"]


def test_unsigned_reasoning_has_the_maker_that_is_named_and_signed_reasoning_keeps_its_own() -> None:
    told = builder()
    told.made_by("nobody's")
    told.reasoning("a")
    told.made_by("a host")
    told.close_block()
    told.reasoning("b")
    told.sign("sig", provider="anthropic", reasoning=True)
    told.made_by("a host")
    assert finish(told).message.content == (ReasoningPart("a", provider="a host"), ReasoningPart("b", "sig", None, "anthropic"))


def test_a_signature_belongs_to_the_open_block_or_begins_one() -> None:
    told = builder()
    told.reasoning("hm")
    told.sign("s1", provider="anthropic", reasoning=True)
    told.sign(data="opaque", reasoning=True)
    told.sign("s2")
    told.close_block()
    told.sign(data="redacted", provider="anthropic", reasoning=True)
    assert finish(told).message.content == (
        ReasoningPart("hm", "s1", "opaque", "anthropic"),
        TextPart("", "s2"),
        ReasoningPart("", None, "redacted", "anthropic"),
    )


def test_a_signed_call_keeps_its_signature() -> None:
    told = builder()
    told.call(0, "c0", "f", "{}")
    told.sign_call(0, "sig")
    assert [call.signature for call in finish(told).tool_calls] == ["sig"]


def test_a_call_that_was_ended_is_complete_in_a_partial_response_and_its_key_is_free() -> None:
    told = builder()
    told.end_call(0)
    told.call(0, "c0", "f", "{}")
    told.end_call(0)
    told.call(0, None, "g", '{"a"')
    assert [call.id for call in told.partial("error", None).tool_calls] == ["c0"]
    assert calls(told) == [("c0", "f", {}), ("call_req_b1.2", "g", {})]


def test_a_part_that_comes_whole_closes_the_block_before_it() -> None:
    part = ProviderPart("openai", "search", {"n": 1})
    told = builder()
    told.text("a")
    told.whole(part)
    told.text("b")
    assert finish(told).message.content == (TextPart("a"), part, TextPart("b"))


def test_the_newest_call_is_known_by_its_key() -> None:
    told = builder()
    assert told.last_call() is None
    told.call("x", "c0", "f", None)
    told.call("y", "c1", "g", None)
    assert told.last_call() == "y"


@pytest.mark.parametrize(
    ("parts", "content"),
    [
        ([], ""),
        ([TextPart("a")], "a"),
        ([TextPart("a", "sig")], (TextPart("a", "sig"),)),
        ([ReasoningPart("a")], (ReasoningPart("a"),)),
        ([TextPart("a"), ToolCallPart("c", "f")], (TextPart("a"), ToolCallPart("c", "f"))),
    ],
)
def test_a_message_of_one_plain_text_has_text_for_content(parts: list[Part], content: object) -> None:
    assert message_of(parts).content == content
