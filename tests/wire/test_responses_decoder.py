"""OpenAI Responses and the hosts that speak it: answers, and their quirks, to events. Fixtures are written by hand."""

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
)
from allm.messages import ImagePart, ProviderPart, ReasoningPart, TextPart, ToolCallPart
from allm.providers.openai_responses import OpenAIResponses
from allm.providers.openai_responses_decoder import ResponsesDecoder
from allm.sse import MAX_FRAME
from allm.usage import Usage
from tests.wire.chat import checked, cut, failure, frame, joined, response
from tests.wire.responses import (
    CREATED,
    PNG,
    USAGE,
    added,
    bare,
    body,
    call,
    completed,
    decoder,
    done,
    message,
    more_of_call,
    parts,
    picture,
    streamed,
    summary,
    text,
    thought,
    told,
    whole,
)

COUNTED = Usage(input_tokens=10, output_tokens=5, total_tokens=15)


# A plain answer


def test_a_stream_of_text_is_one_block_and_a_message() -> None:
    events = streamed(
        CREATED, added({**message(), "content": []}), text("Hel"), text("lo"),
        told("response.output_text.done", output_index=0, content_index=0, text="Hello"), done(message("Hello")),
        completed(message("Hello"), usage=USAGE),
    )  # fmt: skip
    assert events[:-1] == [
        MessageStarted("resp_1", "m1"),
        TextStarted("b1.1"),
        TextDelta("b1.1", "Hel"),
        TextDelta("b1.1", "lo"),
        TextCompleted("b1.1", "Hello"),
    ]
    answer = response(events)
    assert (answer.id, answer.model, answer.request_id, answer.text) == ("resp_1", "m1", "req", "Hello")
    assert (answer.finish_reason, answer.raw_finish_reason, answer.usage) == ("stop", "completed", COUNTED)
    assert answer.message.content == "Hello"


@pytest.mark.parametrize(
    ("status", "details", "finish", "raw"),
    [
        ("completed", None, "stop", "completed"),
        ("complete", None, "stop", "complete"),
        (None, None, "stop", None),
        ("incomplete", {"reason": "max_output_tokens"}, "length", "incomplete:max_output_tokens"),
        ("incomplete", {"reason": "content_filter"}, "content_filter", "incomplete:content_filter"),
        ("incomplete", {"reason": "never_heard_of"}, "other", "incomplete:never_heard_of"),
        ("incomplete", None, "other", "incomplete"),
        ("queued", None, "other", "queued"),
        ("in_progress", None, "other", "in_progress"),
        ("cancelled", None, "cancelled", "cancelled"),
        ("never_heard_of", None, "other", "never_heard_of"),
    ],
)
def test_the_status_is_kept_with_its_reason_beside_our_word(status: str | None, details: Any, finish: str, raw: str | None) -> None:
    answer = response(whole(body(message("a"), status=status, incomplete_details=details)))
    assert (answer.finish_reason, answer.raw_finish_reason) == (finish, raw)


def test_a_background_call_that_is_queued_is_an_answer_without_content() -> None:
    answer = response(whole(body(status="queued", usage=None)))
    assert (answer.text, answer.finish_reason, answer.raw_finish_reason, answer.usage) == ("", "other", "queued", Usage())


def test_the_event_says_what_the_response_in_it_does_not() -> None:
    filtered = told("response.incomplete", response={"incomplete_details": {"reason": "content_filter"}})
    answer = response(streamed(CREATED, text("a"), filtered))
    assert (answer.finish_reason, answer.raw_finish_reason) == ("content_filter", "incomplete:content_filter")
    assert response(streamed(CREATED, text("a"), told("response.completed"))).raw_finish_reason == "completed"


# Several messages


def test_several_messages_are_several_texts_joined_with_nothing_between() -> None:
    events = streamed(CREATED, text("one "), done(message("one ")), text("two", 1, item="msg_2"), done(message("two"), 1), completed())
    assert parts(events) == (TextPart("one "), TextPart("two"))
    assert response(events).text == "one two"


def test_a_message_that_never_ends_is_ended_by_the_next_one() -> None:
    assert parts(streamed(CREATED, text("one"), text("two", 1, item="msg_2"), completed())) == (TextPart("one"), TextPart("two"))


def test_several_pieces_of_one_message_are_texts_of_their_own() -> None:
    events = streamed(CREATED, text("a"), text("b", part=1), text("c"), text("d", part=1), done(message("ac", "bd")), completed())
    assert parts(events) == (TextPart("ac"), TextPart("bd"))


def test_what_a_message_has_beside_its_text_stands_behind_it() -> None:
    cited = {"type": "url_citation", "url": "https://example.org", "start_index": 0, "end_index": 1}
    item = message("a", phase="final_answer")
    item["content"][0]["annotations"] = [cited]
    events = streamed(CREATED, text("a"), done(item), completed())
    left_over = freezing({"id": "msg_1", "phase": "final_answer", "annotations": [cited]})
    assert parts(events) == (TextPart("a"), ProviderPart("openai", "message", left_over))
    assert [type(event) for event in events[1:]] == [TextStarted, TextDelta, TextCompleted, PartCompleted, MessageCompleted]


def freezing(data: dict[str, Any]) -> dict[str, Any]:
    """The data as a part has it."""
    return ProviderPart("x", "x", data).data


# What was told in deltas, and what was not


def test_what_the_deltas_left_out_comes_with_the_end_of_the_item() -> None:
    events = streamed(CREATED, text("Hel"), done(message("Hello")), completed(message("Hello, you")))
    assert [event.delta for event in events if isinstance(event, TextDelta)] == ["Hel", "lo"]
    assert response(events).text == "Hello"


def test_items_that_only_the_terminal_event_tells_are_told_then() -> None:
    events = streamed(CREATED, added({**message(), "content": []}), text("Hel"), completed(message("Hello"), call('{"a":1}')))
    assert parts(events) == (TextPart("Hello"), ToolCallPart("call_1", "f", {"a": 1}, '{"a":1}'))


def test_a_terminal_event_whose_list_is_another_one_tells_nothing_twice() -> None:
    for output in ((), (message("a"),), (message("a", id="msg_9"),)):
        assert parts(streamed(CREATED, text("a"), done(message("a")), completed(*output))) == (TextPart("a"),)


def test_deltas_hold_against_a_whole_that_contradicts_them() -> None:
    assert response(streamed(CREATED, text("It ran."), done(message("It ran well, and longer.")), completed())).text == "It ran."
    assert response(streamed(CREATED, text("longer"), done(message("long")), completed())).text == "longer"


def test_empty_and_odd_deltas_are_nothing() -> None:
    events = streamed(
        CREATED, text(""), text("a"), text("", 1, item="msg_2"), text("b"),
        told("response.output_text.delta", delta={"x": 1}, output_index=0), told("response.output_text.delta", output_index=0),
        completed(message("ab"), message("c", id="msg_2")),
    )  # fmt: skip
    assert parts(events) == (TextPart("ab"), TextPart("c"))


# Correlation


def test_items_are_told_apart_by_their_index_though_their_ids_change() -> None:
    events = streamed(
        CREATED, added(call(id="a"), 0), added(call(id="b", call_id="call_2", name="g"), 1), more_of_call('{"x"', 0, "c"),
        more_of_call('{"y"', 1, "d"), more_of_call(":1}", 0, "e"), more_of_call(":2}", 1, "f"),
        done(call('{"y":2}', "z", "call_2", "g"), 1), done(call('{"x":1}', "w"), 0), completed(),
    )  # fmt: skip
    made = [(each.id, each.name, each.arguments) for each in response(events).tool_calls]
    assert made == [("call_1", "f", {"x": 1}), ("call_2", "g", {"y": 2})]


def test_a_stream_without_numbers_and_places_is_understood() -> None:
    first = {"type": "function_call", "call_id": "fc_a", "name": "f", "arguments": "", "status": "in_progress"}
    second = {**first, "call_id": "fc_b", "name": "g"}
    seen: dict[str, Any] = {"type": "reasoning", "id": "rs_1", "summary": [], "encrypted_content": ""}
    answer = response(
        streamed(
            bare("response.created", response={"id": "resp_1", "status": "in_progress"}),
            bare("response.output_item.added", item=seen),
            bare("response.reasoning_text.delta", item_id="rs_1", delta="hm"),
            bare("response.output_item.done", item={**seen, "content": [{"type": "reasoning_text", "text": "hm"}]}),
            bare("response.output_item.added", item={"type": "message", "id": "msg_1", "content": []}),
            bare("response.output_text.delta", item_id="msg_1", delta="Let me"),
            bare("response.output_text.delta", item_id="msg_1", delta=" see."),
            bare("response.output_item.added", item=first),
            bare("response.function_call_arguments.delta", item_id="fc_a", delta='{"x":1}'),
            bare("response.output_item.added", item=second),
            bare("response.function_call_arguments.delta", item_id="fc_b", delta='{"y":'),
            bare("response.function_call_arguments.delta", item_id="unheard of", delta="2}"),
            bare("response.output_item.done", item=message("Let me see.")),
            bare("response.output_item.done", item={**first, "arguments": '{"x":1}'}),
            bare("response.output_item.done", item={**second, "arguments": '{"y":2}'}),
            bare("response.completed", response={"status": "completed", "model": "m1", "output": [], "usage": USAGE}),
            frame(b"[DONE]"),
        )
    )
    assert answer.message.parts == (
        ReasoningPart("hm"),
        TextPart("Let me see."),
        ToolCallPart("fc_a", "f", {"x": 1}, '{"x":1}'),
        ToolCallPart("fc_b", "g", {"y": 2}, '{"y":2}'),
    )
    assert (answer.id, answer.model, answer.finish_reason, answer.usage) == ("resp_1", "m1", "tool_calls", COUNTED)


def test_a_host_that_numbers_everything_0_is_understood() -> None:
    events = streamed(CREATED, added(message()), text("a"), added(call()), text("b"), more_of_call('{"x":1}'), completed())
    assert response(events).text == "ab"
    assert response(events).tool_calls == (ToolCallPart("call_1", "f", {"x": 1}, '{"x":1}'),)


def test_what_was_never_begun_begins_with_its_first_word() -> None:
    events = streamed(text("a"), more_of_call("{}", 1), done(call("{}"), 1), completed())
    assert parts(events) == (TextPart("a"), ToolCallPart("call_1", "f", {}, "{}"))
    assert isinstance(events[0], MessageStarted)


@pytest.mark.parametrize(
    "more",
    [
        (done(message("Hello")), completed(message("Hello"))),
        (done(message("Hello")), done(message("Hello")), completed(message("Hello"))),
        (done(message("Hello"), 3), completed(thought(), message("Hello"))),
        (completed(thought(), {"type": "web_search_call", "id": "ws_1"}, message("Hello")),),
        (done(message("Hello", id="msg_7"), 3), completed(thought(), message("Hello", id="msg_8"))),
        (completed(thought(), message("Hello", id="msg_9")),),
        (told("response.output_text.done", output_index=0, item_id="msg_1", text="Hello"), completed(message("Hello"))),
        (
            told("response.content_part.done", output_index=0, item_id="msg_1", part={"type": "output_text", "text": "Hello"}),
            done(message("Hello")), text("lo"), completed(message("Hello")),
        ),
        (told("response.done", response={"output": [message("Hello")]}),),
        (told("response.completed", response={**body(message("Hello")), "status": "in_progress"}),),
    ],
    ids=[
        "as it should be", "its end twice", "its end at another index", "items before it that nobody announced", "under new ids",
        "only the list, under a new id", "repeated as a text", "repeated as a part, and late deltas", "the end by another name",
        "an end that says it goes on",
    ],
)  # fmt: skip
def test_what_a_message_says_is_told_once(more: tuple[bytes, ...]) -> None:
    events = streamed(CREATED, added({**message(), "content": []}), text("Hel"), text("lo"), *more)
    assert response(events).text == "Hello"
    assert response(events).finish_reason == "stop"


OSLO, ROME = '{"city":"Oslo"}', '{"city":"Rome"}'


@pytest.mark.parametrize(
    "more",
    [
        (done(call(OSLO)), done(call(OSLO)), completed(call(OSLO))),
        (done(call(OSLO), 2), completed(thought(), call(OSLO))),
        (done(call(OSLO, id="fc_9"), 3), completed(call(OSLO, id="fc_8"))),
        (done(call(OSLO, id="fc_9", call_id="call_9")), completed(thought(), call(OSLO, id="fc_8", call_id="call_8"))),
        (completed(call(OSLO, id="fc_8", call_id="call_8"),),),
        (
            told("response.function_call_arguments.done", output_index=0, item_id="fc_1", arguments=OSLO),
            done(call(OSLO)), added(call()), more_of_call(OSLO), completed(),
        ),
    ],
    ids=["its end twice", "at other indexes", "under other ids", "under other call ids", "only in the list", "all of it again"],
)  # fmt: skip
def test_a_call_is_made_once(more: tuple[bytes, ...]) -> None:
    made = response(streamed(CREATED, added(call()), more_of_call(OSLO), *more)).tool_calls
    assert [(each.id, each.arguments) for each in made] == [("call_1", {"city": "Oslo"})]


def test_calls_that_share_an_index_are_told_apart_by_their_ids() -> None:
    other = {"id": "fc_2", "call_id": "call_2"}
    events = streamed(
        CREATED, added(call()), added(call(**other)), more_of_call(OSLO[:5]), more_of_call(ROME[:5], 0, "fc_2"), more_of_call(OSLO[5:]),
        more_of_call(ROME[5:], 0, "fc_2"), done(call(OSLO)), done(call(ROME, **other)), completed(call(OSLO), call(ROME, **other)),
    )  # fmt: skip
    assert [(each.id, each.raw_arguments) for each in response(events).tool_calls] == [("call_1", OSLO), ("call_2", ROME)]


def test_calls_of_the_same_tool_with_the_same_arguments_are_all_made() -> None:
    other = {"id": "fc_2", "call_id": "call_2"}
    for stream in (
        (done(call(OSLO)), done(call(OSLO, **other), 1), completed(call(OSLO), call(OSLO, **other))),
        (done(call(OSLO)), completed(call(OSLO), call(OSLO, **other))),
        (completed(call(OSLO, **other), call(OSLO)),),
    ):
        assert sorted(each.id for each in response(streamed(CREATED, *stream)).tool_calls) == ["call_1", "call_2"]


def test_texts_that_interleave_stay_apart() -> None:
    events = streamed(
        CREATED, added(message()), added(message(id="msg_2"), 1), text("a"), text("x", 1, item="msg_2"), added(call(), 2), text("b"),
        more_of_call(OSLO, 2), text("y", 1, item="msg_2"), done(message("ab")), done(message("xy", id="msg_2"), 1), completed(),
    )  # fmt: skip
    assert parts(events) == (TextPart("ab"), TextPart("xy"), ToolCallPart("call_1", "f", {"city": "Oslo"}, OSLO))


def test_what_is_told_at_the_end_of_a_part_only_is_told() -> None:
    place = {"output_index": 0, "item_id": "x"}
    assert response(streamed(CREATED, told("response.output_text.done", **place, text="a"), completed())).text == "a"
    part = {"type": "reasoning_text", "text": "hm"}
    assert parts(streamed(CREATED, told("response.content_part.done", **place, part=part), completed())) == (ReasoningPart("hm"),)
    summed = told("response.reasoning_summary_text.done", **place, summary_index=0, text="hm")
    assert parts(streamed(CREATED, summed, completed())) == (ReasoningPart("hm"),)
    assert response(streamed(CREATED, told("response.refusal.done", **place, refusal="No."), completed())).refusal == "No."
    given = told("response.function_call_arguments.done", output_index=0, item_id="fc_1", arguments=OSLO)
    assert response(streamed(CREATED, added(call()), given, completed())).tool_calls == (
        ToolCallPart("call_1", "f", {"city": "Oslo"}, OSLO),
    )


def test_an_event_may_have_its_type_in_its_name_alone() -> None:
    delta = frame({"delta": "hi", "output_index": 0}, "response.output_text.delta")
    end = frame({"response": body(message("hi"))}, "response.completed")
    assert response(streamed(delta, end)).text == "hi"


def test_fields_of_another_type_fail_nothing() -> None:
    odd = frame({"type": "response.output_text.delta", "output_index": "0", "item_id": 5, "content_index": [], "delta": "hi", "x": {}})
    events = streamed(CREATED, odd, frame({"type": "response.output_text.delta", "output_index": {"a": 1}, "delta": "!"}), completed())
    assert response(events).text == "hi!"
    assert response(streamed(CREATED, text("a\ud800"), completed())).text == "a\ufffd"
    raw = text("Z").replace(b'"Z"', b'"\xff"')
    assert response(streamed(CREATED, raw, completed())).text == "\ufffd"
    arguments = done({**call(), "arguments": {"city": "Oslo"}})
    assert response(streamed(CREATED, arguments, completed())).tool_calls[0].arguments == {"city": "Oslo"}


def test_the_same_reasoning_as_text_and_as_summary_is_told_once_and_another_one_beside_it() -> None:
    def more(piece: str) -> bytes:
        return told("response.reasoning_text.delta", output_index=0, item_id="rs_1", content_index=0, delta=piece)

    assert parts(streamed(CREATED, more("Th"), summary("Th"), more("ink"), summary("ink"), completed())) == (ReasoningPart("Think"),)
    ended = done({**thought("Think", sealed=None), "content": [{"type": "reasoning_text", "text": "Think"}]})
    assert parts(streamed(CREATED, summary("Think"), ended, completed())) == (ReasoningPart("Think"),)
    assert parts(streamed(CREATED, more("Think"), summary("Sum"), text("a", 1), completed())) == (
        ReasoningPart("Think\n\nSum"),
        TextPart("a"),
    )
    assert parts(streamed(CREATED, more("Think"), summary("Think more"), completed())) == (ReasoningPart("Think more"),)


# Tool calls


def test_a_call_that_was_cut_before_its_first_argument_has_none_and_one_that_is_complete_has_an_empty_object() -> None:
    cut_off = {"status": "incomplete", "incomplete_details": {"reason": "max_output_tokens"}}
    whole_call, cut_call = call(status="completed"), call(id="fc_2", call_id="call_2", status="incomplete")
    events = streamed(CREATED, done(whole_call), done(cut_call, 1), completed(whole_call, cut_call, **cut_off))
    assert response(events).finish_reason == "length"
    assert [each.raw_arguments for each in response(events).tool_calls] == ["{}", None]


def test_a_tool_with_a_dotted_name_is_called_by_it() -> None:
    made = ResponsesDecoder(CallContext(request_id="req", tools=("a.b", "c")))
    events = checked(made.feed(CREATED + done(call("{}", name="a_b")) + completed()))
    assert [each.name for each in response(events).tool_calls] == ["a.b"]


def test_a_call_is_told_as_it_is_written() -> None:
    events = streamed(CREATED, added(call()), more_of_call('{"a"'), more_of_call(":1}"), done(call('{"a":1}')), completed(call('{"a":1}')))
    assert events[1:-1] == [
        ToolCallStarted("b1.1", "f"),
        ToolCallDelta("b1.1", '{"a"'),
        ToolCallDelta("b1.1", ":1}"),
        ToolCallCompleted("b1.1", "f", {"a": 1}, '{"a":1}', "call_1"),
    ]
    assert response(events).finish_reason == "tool_calls"


@pytest.mark.parametrize(
    ("pieces", "expected"),
    [
        ([added(call('{"a":1}'))], {"a": 1}),
        ([added(call()), done(call('{"a":1}'))], {"a": 1}),
        ([done(call('{"a":1}'))], {"a": 1}),
        ([added(call()), more_of_call('{"a":1}')], {"a": 1}),
        ([added({**call(), "name": None, "arguments": None}), more_of_call('{"a":'), done(call('{"a":1}'))], {"a": 1}),
        ([added(call()), done(call())], {}),
        ([added(call()), more_of_call('{"a":')], {}),
    ],
    ids=["whole at its start", "whole at its end", "only its end", "without an end", "its name at its end", "without arguments", "cut off"],
)
def test_a_call_is_the_same_however_it_is_told(pieces: list[bytes], expected: dict[str, Any]) -> None:
    made = response(streamed(CREATED, *pieces, completed())).tool_calls
    assert [(each.id, each.name, each.arguments) for each in made] == [("call_1", "f", expected)]


def test_an_id_that_the_thread_has_already_is_replaced() -> None:
    (made,) = response(streamed(CREATED, done(call("{}")), completed(), used=["call_1"])).tool_calls
    assert made.id not in ("", "call_1")


def test_the_items_id_is_never_the_calls() -> None:
    (made,) = response(streamed(CREATED, done({**call("{}"), "call_id": None}), completed())).tool_calls
    assert made.id not in ("", "fc_1")


def test_a_custom_tool_is_called_with_text() -> None:
    item = {"type": "custom_tool_call", "id": "ctc_1", "call_id": "call_1", "name": "sql", "input": ""}
    more = told("response.custom_tool_call_input.delta", output_index=0, item_id="ctc_1", delta="SELECT 1")
    events = streamed(CREATED, added(item), more, done({**item, "input": "SELECT 1"}), completed())
    assert parts(events) == (
        ToolCallPart("call_1", "sql", {}, "SELECT 1"),
        ProviderPart("openai", "custom_tool_call", {"call_id": "call_1"}),
    )


def test_what_a_call_has_beside_its_arguments_stands_behind_it() -> None:
    caller = {"type": "program", "caller_id": "call_0"}
    events = streamed(CREATED, done(call("{}", namespace="crm", caller=caller)), completed())
    assert parts(events)[1] == ProviderPart("openai", "function_call", {"call_id": "call_1", "namespace": "crm", "caller": caller})


# Reasoning


def test_reasoning_is_its_summary_and_goes_with_its_sealed_item() -> None:
    item = thought("One.", "Two.")
    events = streamed(CREATED, added(thought(sealed="gA")), summary("One"), summary("."), summary("Two.", 1), done(item), completed(item))
    (part,) = parts(events)
    assert (part.text, part.provider, part.signature) == ("One.\n\nTwo.", "openai", None)
    assert json.loads(part.data) == {key: item[key] for key in ("type", "id", "summary", "encrypted_content")}
    assert [type(event) for event in events[1:-1]] == [ReasoningStarted, *[ReasoningDelta] * 3, ReasoningCompleted]
    ended = events[-2]
    assert isinstance(ended, ReasoningCompleted)
    assert (ended.data, ended.provider) == (part.data, "openai")


def test_sealed_reasoning_without_a_summary_is_kept() -> None:
    (part, said) = parts(streamed(CREATED, done(thought()), done(message("a"), 1), completed()))
    assert (part.text, json.loads(part.data)["encrypted_content"], said) == ("", "gAAA", TextPart("a"))


def test_reasoning_that_is_neither_told_nor_sealed_is_nothing() -> None:
    assert parts(streamed(CREATED, done(thought(sealed=None)), done(message("a"), 1), completed())) == (TextPart("a"),)


def test_reasoning_that_is_not_sealed_has_no_maker() -> None:
    item = thought("One.", sealed=None, content=[{"type": "reasoning_text", "text": "Really."}])
    assert parts(whole(body(item))) == (ReasoningPart("One.\n\nReally."),)


def test_two_items_of_reasoning_are_two_parts() -> None:
    one, two = parts(whole(body(thought("a"), thought("b", id="rs_2"))))
    assert (one.text, two.text) == ("a", "b")


# What only the provider understands


@pytest.mark.parametrize(
    "item",
    [
        {"type": "web_search_call", "id": "ws_1", "status": "completed", "action": {"type": "search", "query": "x"}},
        {"type": "mcp_list_tools", "id": "mcpl_1", "server_label": "s", "tools": []},
        {"type": "compaction", "id": "cmp_1", "encrypted_content": "gAAA"},
        {"type": "never_heard_of", "role": "assistant", "content": [{"type": "output_text", "text": "no text of ours"}]},
    ],
    ids=lambda item: item["type"],
)
def test_an_item_of_the_providers_own_is_kept_in_its_place(item: dict[str, Any]) -> None:
    begun = {**item, "status": "in_progress"}
    events = streamed(CREATED, added(begun), told(f"response.{item['type']}.in_progress"), done(item), text("a", 1), completed())
    assert parts(events) == (ProviderPart("openai", item["type"], item), TextPart("a"))
    assert parts(whole(body(item, message("a")))) == parts(events)


def test_an_item_beyond_the_limits_of_a_value_is_kept_without_its_data() -> None:
    deep: Any = "bottom"
    for _ in range(200):
        deep = [deep]
    assert parts(whole(body({"type": "x", "deep": deep}))) == (ProviderPart("openai", "x"),)


def test_events_and_fields_that_nobody_knows_are_passed_over() -> None:
    events = streamed(
        CREATED, told("response.never_heard_of", delta="x", new={"a": 1}), frame({"no": "type"}), told("response.output_item.added"),
        told("response.output_item.done", item=7), text("a"), told("keepalive"), completed(message("a")),
    )  # fmt: skip
    assert parts(events) == (TextPart("a"),)


# Images


def test_an_image_that_the_model_made_is_an_image() -> None:
    half = told("response.image_generation_call.partial_image", output_index=0, partial_image_b64=PNG)
    events = streamed(CREATED, added(picture(None)), half, done(picture(revised_prompt="a cat")), completed())
    image, how = parts(events)
    assert isinstance(image, ImagePart)
    assert (image.image.data, image.image.mime) == (b"\x89PNG\r\n\x1a\n", "image/png")
    left = {"type": "image_generation_call", "id": "ig_1", "status": "completed", "output_format": "png", "revised_prompt": "a cat"}
    assert how == ProviderPart("openai", "image_generation_call", left)
    assert response(events).images == (image,)


def test_an_image_of_untold_type_is_known_by_its_bytes() -> None:
    (image, _) = parts(whole(body(picture(output_format=None))))
    assert image.image.mime == "image/png"


@pytest.mark.parametrize("result", [None, "", "no base64!", "AAAA", "é"])
def test_an_image_that_is_none_is_kept_as_it_came(result: str | None) -> None:
    item = picture(result, output_format=None)
    assert parts(whole(body(item))) == (ProviderPart("openai", "image_generation_call", item),)


# Refusals


def test_a_refusal_is_no_text() -> None:
    item = {**message(), "content": [{"type": "refusal", "refusal": "I cannot."}]}
    more = [told("response.refusal.delta", output_index=0, content_index=0, delta=piece) for piece in ("I ", "cannot.")]
    for events in (streamed(CREATED, *more, done(item), completed(item)), whole(body(item))):
        answer = response(events)
        assert (answer.refusal, answer.text, answer.finish_reason) == ("I cannot.", "", "stop")


# Usage and what stands beside


def test_the_details_of_usage_have_their_places_and_the_rest_is_kept() -> None:
    usage = {
        **USAGE, "input_tokens_details": {"cached_tokens": 4, "cache_write_tokens": 2, "audio_tokens": 1},
        "output_tokens_details": {"reasoning_tokens": 3}, "cost": 0.5, "nothing": 0,
    }  # fmt: skip
    counted = response(whole(body(usage=usage))).usage
    assert (counted.cached_input_tokens, counted.cache_write_input_tokens, counted.reasoning_tokens) == (4, 2, 3)
    assert counted.extra == {"audio_tokens": 1, "cost": 0.5}


@pytest.mark.parametrize(
    "usage", [None, {}, [], "12", {"input_tokens": "12", "output_tokens": True, "input_tokens_details": 7, "x": 10**30}]
)
def test_counts_that_are_no_counts_are_unknown(usage: Any) -> None:
    assert response(whole(body(usage=usage))).usage == Usage()


def test_what_stands_beside_the_answer_goes_to_its_metadata() -> None:
    made = decoder()
    made.headers({"x-request-id": "req_9", "x-ratelimit-remaining-tokens": "99", "retry-after": "20", "content-type": "x"})
    events = made.body(json.dumps(body(message("a"), service_tier="default", moderation=None, store=False)).encode())
    limits = {"x-ratelimit-remaining-tokens": "99"}
    assert response(events).metadata == {"rate_limits": limits, "provider_request_id": "req_9", "service_tier": "default"}
    plain = decoder()
    plain.headers({"content-type": "x"})
    assert response(plain.body(json.dumps(body()).encode())).metadata == {}


# Ends and errors


def test_a_stream_without_a_terminal_event_has_no_end() -> None:
    for pieces in ([CREATED, text("a")], [CREATED, text("a"), done(message("a"))], [CREATED, told("response.queued")], [frame(b"[DONE]")]):
        assert not any(isinstance(event, MessageCompleted) for event in streamed(*pieces))


def test_a_last_event_without_its_blank_line_counts_only_if_it_is_whole() -> None:
    last = completed(message("a"))
    assert response(streamed(CREATED, text("a"), last.rstrip())).text == "a"
    assert not isinstance(streamed(CREATED, text("a"), last[:-9])[-1], MessageCompleted)


def test_nothing_is_told_after_the_end() -> None:
    made = decoder()
    assert isinstance(made.feed(CREATED + completed() + text("a"))[-1], MessageCompleted)
    assert made.feed(text("b")) == []
    assert made.end() == []


QUOTA = {"type": "insufficient_quota", "code": "insufficient_quota", "message": "You exceeded your current quota", "param": None}


@pytest.mark.parametrize(
    ("piece", "reason"),
    [
        (told("error", error=QUOTA), "quota_exceeded"),
        (told("error", code="rate_limit_exceeded", message="slow down"), "rate_limited"),
        (told("error", code="server_error", message="oops"), "server_error"),
        (told("error", code=None, message="oops"), "server_error"),
        (told("error", error="oops"), "server_error"),
        (told("error", code="context_length_exceeded", message="too long"), "context_length_exceeded"),
        (told("error", code="invalid_prompt", message="flagged"), "content_filter"),
        (told("error", code="failed_to_download_image", message="404"), "invalid_request"),
        (frame({"error": QUOTA}), "quota_exceeded"),
        (frame({"message": "oops"}, "error"), "server_error"),
        (told("response.failed", response={"status": "failed", "error": QUOTA}), "quota_exceeded"),
        (told("response.failed", response={"status": "failed", "error": {"code": "vector_store_timeout", "message": "x"}}), "timeout"),
        (told("response.failed", response={"status": "failed", "error": None}), "server_error"),
        (told("response.failed"), "server_error"),
    ],
)
def test_an_error_in_a_stream_ends_it(piece: bytes, reason: str) -> None:
    assert failure(streamed(CREATED, text("a"), piece, completed()))[0] == reason


def test_of_two_errors_the_first_counts() -> None:
    second = told("response.failed", response={"status": "failed", "error": {"code": "server_error", "message": "another"}})
    assert failure(streamed(CREATED, told("error", error=QUOTA), second)) == ("quota_exceeded", QUOTA["message"])


@pytest.mark.parametrize(
    ("data", "reason"),
    [
        (body(status="failed", error={"code": "server_error", "message": "x"}), "server_error"),
        ({"error": QUOTA}, "quota_exceeded"),
        ({"error": "oops"}, "server_error"),
        ({"id": "x", "choices": [{"message": {"content": "Hi"}}]}, "malformed_response"),
        ({"output": "text", "error": None}, "malformed_response"),
        ([1], "malformed_response"),
        (b"<html>", "malformed_response"),
        (b"", "malformed_response"),
    ],
)
def test_a_body_that_is_no_answer_is_an_error(data: Any, reason: str) -> None:
    assert failure(whole(data))[0] == reason


@pytest.mark.parametrize(
    "piece",
    [
        frame(b'{"type": "response.output_text.delta", "del'),
        frame(b"[1]"),
        b"data: " + b"x" * (MAX_FRAME + 1),
        frame(b"[" * 100_000),
    ],
    ids=["no JSON", "no object", "too large", "too deep"],
)
def test_nonsense_in_a_stream_fails_it(piece: bytes) -> None:
    assert failure(streamed(CREATED, text("a"), piece, completed()))[0] == "malformed_response"


def test_what_is_careless_but_clear_is_read() -> None:
    lone = b'data: {"type":"response.output_text.delta","output_index":"0","content_index":0,"delta":"a\\ud83d"}\n\n'
    assert response(streamed(CREATED, frame(b" "), lone, completed())).text == "a\ufffd"


def test_what_came_so_far_can_be_taken_at_any_moment() -> None:
    made = decoder()
    assert (made.has_content, made.block_ids()) == (False, ())
    made.feed(CREATED + text("a") + added(call(), 1) + more_of_call("{", 1))
    assert (made.has_content, made.block_ids()) == (True, ("b1.1", "b1.2"))
    events, so_far = made.partial("cancelled", None)
    assert [type(event) for event in events] == [TextCompleted]
    assert (so_far.text, so_far.finish_reason, so_far.tool_calls, so_far.id) == ("a", "cancelled", (), "resp_1")


# Progress


@pytest.mark.parametrize(
    ("piece", "shows"),
    [
        (CREATED, False), (told("response.in_progress", response={}), False), (told("response.queued"), False), (told("keepalive"), False),
        (b": ping\n\n", False), (text(""), False), (frame({"a": 1}), False), (frame(b" "), False),
        (added(thought()), True), (told("response.web_search_call.searching"), True), (told("response.refusal.delta", delta="I"), True),
        (told("response.code_interpreter_call_code.delta", delta="x"), True), (told("response.content_part.added"), True),
    ],
)  # fmt: skip
def test_what_the_provider_does_is_progress_and_that_it_is_there_is_none(piece: bytes, shows: bool) -> None:
    made = decoder()
    made.feed(piece)
    assert made.progress is shows


# Raw chunks


def test_raw_chunks_are_told_before_what_they_mean() -> None:
    events = streamed(CREATED, text("a"), completed(), raw_chunks=True)
    kinds = [type(event) for event in events]
    assert kinds == [RawChunk, MessageStarted, RawChunk, TextStarted, TextDelta, RawChunk, TextCompleted, MessageCompleted]


def test_a_body_is_kept_when_it_is_asked_for() -> None:
    asked = body(message("a"))
    raw = response(whole(asked, raw_chunks=True)).raw
    assert isinstance(raw, dict)
    assert raw["id"] == "resp_1"
    assert response(whole(asked)).raw is None
    assert response(whole(body(x=10**30), raw_chunks=True)).raw is None  # beyond the limits of a value


# Any framing


ITEMS = (thought("a b", "c"), message("Hello, ", "world", phase="x"), call('{"a": "é"}'), picture(), message("🙂", id="msg_2"))
STREAM = (
    CREATED + added(thought()) + summary("a b") + summary("c", 1) + done(ITEMS[0]) + text("Hello", 1) + text(", ", 1) + text("world", 1, 1)
    + done(ITEMS[1], 1) + added(call(), 2) + more_of_call('{"a": "', 2) + more_of_call('é"}', 2) + done(ITEMS[2], 2) + done(ITEMS[3], 3)
    + text("🙂", 4) + completed(*ITEMS, usage=USAGE)
)  # fmt: skip


@settings(max_examples=300, deadline=None)
@given(st.lists(st.integers(0, len(STREAM)), max_size=40), st.sampled_from([b"\n", b"\r\n", b"\r"]))
def test_any_framing_gives_the_same_events(places: list[int], end: bytes) -> None:
    data = STREAM.replace(b"\n", end)
    assert joined(streamed(*cut(data, places))) == joined(streamed(STREAM))


def test_a_body_folds_to_what_its_stream_folds_to() -> None:
    expected = response(whole(body(*ITEMS, usage=USAGE)))
    assert response(streamed(STREAM)) == expected
    ends = [done(item, i) for i, item in enumerate(ITEMS)]
    assert response(streamed(CREATED, *ends, completed(*ITEMS, usage=USAGE))) == expected
    assert response(streamed(CREATED, completed(*ITEMS, usage=USAGE))) == expected


# The adapter


def test_the_adapter_gives_decoders_and_reads_error_answers() -> None:
    adapter = OpenAIResponses()
    made = adapter.decoder(Engine("openai.responses:m"), CallContext(request_id="req"))
    assert isinstance(made, ResponsesDecoder)
    answer = json.dumps({"error": {"message": "no such model", "code": "model_not_found", "type": "invalid_request_error"}}).encode()
    error = adapter.failure(400, {"x-request-id": "req_9"}, answer)
    assert (error.reason, error.status, error.provider) == ("not_found", 400, "openai")


def test_an_item_whose_end_came_before_its_start_is_told_once() -> None:
    said = message("hi")
    assert response(streamed(CREATED, done(said), added({**said, "content": []}), completed(said))).text == "hi"


@pytest.mark.parametrize("content", ["hi", ["h", "i"], [{"type": "output_text", "text": "h"}, "i"]])
def test_content_that_is_text_in_place_of_parts_is_read(content: Any) -> None:
    assert response(whole(body({**message(), "content": content}))).text == "hi"
    assert response(streamed(CREATED, done({**message(), "content": content}), completed({**message(), "content": content}))).text == "hi"


# What starts say already


@pytest.mark.parametrize("more", [[], ["hi"], ["h", "i"]], ids=str)
@pytest.mark.parametrize("place", ["item", "part"])
def test_what_the_start_of_an_item_or_a_part_says_is_told_once(place: str, more: list[str]) -> None:
    begun = message("hi") if place == "item" else {**message(), "status": "in_progress"}
    part = told("response.content_part.added", output_index=0, item_id="msg_1", content_index=0, part={"type": "output_text", "text": "hi"})
    pieces = [CREATED, added(begun), *([part] if place == "part" else []), *map(text, more)]
    for end in ([completed()], [done(message("hi")), completed(message("hi"))], [done(message()), completed()]):
        assert response(streamed(*pieces, *end)).text == "hi"


def test_deltas_go_on_behind_what_the_start_said() -> None:
    assert response(streamed(CREATED, added(message("h")), text("i"), text("!"), completed(message("hi!")))).text == "hi!"


@pytest.mark.parametrize("head", ["", "{}", '{"a": 1}', '{"a"'])
@pytest.mark.parametrize("whole_again", [True, False])
def test_arguments_in_the_start_of_a_call_are_told_once(head: str, whole_again: bool) -> None:
    arguments = '{"a": 1}'
    rest = arguments.removeprefix(head) if head == '{"a"' and not whole_again else arguments
    item = {"type": "function_call", "id": "fc_1", "call_id": "c1", "name": "f", "status": "completed"}
    pieces = [CREATED, added({**item, "arguments": head}), *map(more_of_call, (rest[:3], rest[3:]))]
    for end in ([completed()], [done({**item, "arguments": arguments}), completed({**item, "arguments": arguments})]):
        answer = response(streamed(*pieces, *end))
        assert [(call.name, call.arguments) for call in answer.tool_calls] == [("f", {"a": 1})]
    quiet = response(streamed(CREATED, added({**item, "arguments": arguments}), completed()))
    assert [call.arguments for call in quiet.tool_calls] == [{"a": 1}]


def test_the_short_form_of_a_text_counts_where_there_is_no_other() -> None:
    assert response(whole({**body(), "output_text": "hi"})).text == "hi"
    assert response(whole({**body(message("hi")), "output_text": "hi"})).text == "hi"
    assert response(streamed(CREATED, text("hi"), completed(output_text="hi"))).text == "hi"


def test_why_an_answer_is_incomplete_may_be_a_word_alone() -> None:
    answer = response(whole({**body(message("hi")), "status": "incomplete", "incomplete_details": "max_output_tokens"}))
    assert (answer.finish_reason, answer.raw_finish_reason) == ("length", "incomplete:max_output_tokens")


def test_a_response_that_has_failed_before_it_began_is_an_error() -> None:
    late = told("response.in_progress", response={"id": "r", "status": "failed", "error": {"code": "rate_limit_exceeded", "message": "x"}})
    last = streamed(CREATED, late)[-1]
    assert isinstance(last, ErrorOccurred)
    assert last.error.reason == "rate_limited"


def test_a_call_that_is_called_incomplete_before_its_arguments_is_cut_whatever_the_response_says() -> None:
    item = {"type": "function_call", "id": "fc_1", "call_id": "c1", "name": "f", "arguments": "", "status": "incomplete"}
    for last in (streamed(CREATED, added(item), done(item), completed(item))[-1], whole(body(item))[-1]):
        assert isinstance(last, ErrorOccurred)
        assert last.error.reason == "truncated"
    assert len(response(whole(body({**item, "status": "completed"}))).tool_calls) == 1
