"""Gemini generateContent: answers, and their quirks, to events."""

import base64
import json
from typing import Any

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import allm
from allm import Engine, FilePart, Image, ImagePart, Message, ProviderPart, ReasoningPart, Request, TextPart, ToolCallPart
from allm.blocks import CallContext
from allm.events import (
    ErrorOccurred,
    Event,
    MessageCompleted,
    MessageStarted,
    PartCompleted,
    RawChunk,
    TextCompleted,
    TextDelta,
    TextStarted,
    ToolCallCompleted,
    ToolCallDelta,
    ToolCallStarted,
)
from allm.freezing import freeze
from allm.plain import MAX_DEPTH
from allm.providers.answer_ways import ANSWER_TOOL
from allm.providers.gemini import Gemini, GeminiDecoder
from allm.providers.gemini_arguments import StreamedArguments
from allm.sse import MAX_FRAME
from allm.usage import Usage
from tests.wire.chat import cut, failure, joined, response
from tests.wire.gemini import OTHER, SIGNED, body_of, call, chunk, decoder, frame, said, streamed, whole

STOP = chunk(finish="STOP")
PNG = b"\x89PNG\r\n\x1a\n"
PNG64 = base64.b64encode(PNG).decode()
IMAGE = ImagePart(Image(data=PNG))


def made(*pieces: bytes) -> list[tuple[str, str, object]]:
    """(id, name, arguments) of the calls of a stream."""
    return [(each.id, each.name, each.arguments) for each in response(streamed(*pieces)).tool_calls]


def message(*pieces: bytes) -> tuple[Any, ...]:
    return response(streamed(*pieces)).message.parts


# A plain answer


def test_a_stream_of_text_is_one_block_and_a_message() -> None:
    events = streamed(chunk("Hel"), chunk("lo"), STOP)
    assert events[:-1] == [
        MessageStarted("r1", "m1"),
        TextStarted("b1.1"),
        TextDelta("b1.1", "Hel"),
        TextDelta("b1.1", "lo"),
        TextCompleted("b1.1", "Hello"),
    ]
    answer = response(events)
    assert (answer.id, answer.model, answer.request_id, answer.text) == ("r1", "m1", "req", "Hello")
    assert (answer.finish_reason, answer.raw_finish_reason) == ("stop", "STOP")


def test_nothing_is_complete_before_the_stream_ends_as_content_may_follow_its_reason() -> None:
    told = decoder()
    events = told.feed(chunk("a", finish="STOP")) + told.feed(chunk("b", finish="MAX_TOKENS"))
    assert not any(isinstance(event, MessageCompleted) for event in events)
    answer = response(events + told.end())
    assert (answer.text, answer.finish_reason) == ("ab", "length")
    assert told.feed(STOP) == [] == told.end()


@pytest.mark.parametrize(
    ("word", "reason", "raw"),
    [
        ("STOP", "stop", "STOP"), ("MAX_TOKENS", "length", "MAX_TOKENS"), ("SAFETY", "content_filter", "SAFETY"),
        ("RECITATION", "content_filter", "RECITATION"), ("PROHIBITED_CONTENT", "content_filter", "PROHIBITED_CONTENT"),
        ("BLOCKLIST", "content_filter", "BLOCKLIST"), ("SPII", "content_filter", "SPII"),
        ("MODEL_ARMOR", "content_filter", "MODEL_ARMOR"), ("IMAGE_SAFETY", "content_filter", "IMAGE_SAFETY"),
        ("MALFORMED_FUNCTION_CALL", "other", "MALFORMED_FUNCTION_CALL"), ("OTHER", "other", "OTHER"),
        ("NEVER_HEARD_OF", "other", "NEVER_HEARD_OF"),
        (1, "stop", "STOP"), (2, "length", "MAX_TOKENS"), (3, "content_filter", "SAFETY"), (5, "other", "OTHER"),
        (8, "content_filter", "8"), (10, "other", "10"),
    ],
)  # fmt: skip
def test_the_providers_word_for_the_end_is_kept_beside_ours(word: str | int, reason: str, raw: str) -> None:
    for answer in (response(streamed(chunk("a"), chunk(finish=word))), response(whole(said("a", finish=word)))):
        assert (answer.finish_reason, answer.raw_finish_reason) == (reason, raw)


@pytest.mark.parametrize("word", ["FINISH_REASON_UNSPECIFIED", "", 0, None])
def test_without_a_reason_the_stream_is_not_at_its_end(word: Any) -> None:
    assert not any(isinstance(event, MessageCompleted) for event in streamed(chunk("a"), chunk("b", finish=word)))


def test_a_whole_body_needs_no_reason() -> None:
    answer = response(whole(said("a")))
    assert (answer.text, answer.finish_reason, answer.raw_finish_reason) == ("a", "stop", None)


@pytest.mark.parametrize("content", [{}, {"content": None}, {"content": {}}, {"content": {"role": "model"}}, {"content": {"parts": []}}])
def test_an_answer_of_thoughts_only_has_no_content(content: dict[str, Any]) -> None:
    told = {"candidates": [{**content, "finishReason": "MAX_TOKENS"}], "usageMetadata": {"promptTokenCount": 15, "thoughtsTokenCount": 2}}
    for answer in (response(whole(told)), response(streamed(frame(told)))):
        assert (answer.message, answer.finish_reason) == (Message("assistant"), "length")
        assert answer.usage == Usage(input_tokens=15, output_tokens=2, reasoning_tokens=2)


def test_only_the_first_candidate_is_read() -> None:
    told = said("a", finish="STOP")
    told["candidates"] += [{"index": 1, "content": {"parts": [{"text": "b"}]}}, {"content": {"parts": [{"text": "c"}]}}]
    assert response(whole(told)).text == "a"


# Prompts that were refused


@pytest.mark.parametrize(
    ("feedback", "raw", "refusal"),
    [
        ({"blockReason": "SAFETY"}, "SAFETY", None),
        ({"blockReason": 4}, "PROHIBITED_CONTENT", None),
        ({"blockReason": 9, "blockReasonMessage": "No."}, "9", "No."),
        ({"blockReasonMessage": "No."}, None, "No."),
    ],
)
def test_a_refused_prompt_is_a_filtered_answer(feedback: dict[str, Any], raw: str | None, refusal: str | None) -> None:
    told = {"promptFeedback": feedback, "usageMetadata": {"promptTokenCount": 4}}
    for answer in (response(streamed(frame(told))), response(whole(told)), response(whole([told]))):
        assert (answer.finish_reason, answer.raw_finish_reason, answer.refusal) == ("content_filter", raw, refusal)
        assert (answer.metadata["promptFeedback"], answer.usage.input_tokens, answer.text) == (feedback, 4, "")


def test_ratings_of_a_prompt_refuse_nothing() -> None:
    ratings = {"safetyRatings": [{"category": "C", "probability": "LOW"}]}
    told = frame({"promptFeedback": ratings})
    assert not any(isinstance(event, MessageCompleted) for event in streamed(told))
    assert response(streamed(told, chunk("a", finish="STOP"))).metadata["promptFeedback"] == freeze(ratings)
    assert response(streamed(frame({"promptFeedback": "odd"}), chunk("a", finish="STOP"))).metadata["promptFeedback"] == "odd"


def test_why_an_answer_was_filtered_is_its_refusal_and_else_stands_in_the_metadata() -> None:
    filtered = response(streamed(chunk(finish="SAFETY", finishMessage="Not this.")))
    assert (filtered.refusal, filtered.metadata) == ("Not this.", {})
    broken = response(streamed(chunk(finish="MALFORMED_FUNCTION_CALL", finishMessage="print(f())")))
    assert (broken.refusal, broken.metadata) == (None, {"finishMessage": "print(f())"})


# Tool calls


def test_a_call_comes_whole_and_ends_with_stop() -> None:
    events = streamed(chunk(call("weather", {"city": "Oslo"})), STOP)
    assert events[1:-1] == [
        ToolCallStarted("b1.1", "weather"),
        ToolCallDelta("b1.1", '{"city": "Oslo"}'),
        ToolCallCompleted("b1.1", "weather", {"city": "Oslo"}, '{"city": "Oslo"}', "call_req_b1.1"),
    ]
    answer = response(events)
    assert (answer.finish_reason, answer.raw_finish_reason) == ("tool_calls", "STOP")


def test_parallel_calls_come_in_one_chunk_or_in_several_and_may_have_one_name() -> None:
    calls = [call("f", {"n": 1}), call("f", {"n": 2}), call("g")]
    expected: list[tuple[str, str, Any]] = [("call_req_b1.1", "f", {"n": 1}), ("call_req_b1.2", "f", {"n": 2}), ("call_req_b1.3", "g", {})]
    assert made(chunk(*calls), STOP) == expected
    assert made(*[chunk(each) for each in calls], STOP) == expected


def test_an_id_of_the_providers_is_kept_unless_the_thread_has_it() -> None:
    answer = response(streamed(chunk(call("f", {}, id="x1"), call("g", {}, id="x2")), STOP, used=("x2",)))
    assert [each.id for each in answer.tool_calls] == ["x1", "call_req_b1.2"]


@pytest.mark.parametrize("given", ["{}", '{"args": null}', '{"args": {}}'])
def test_arguments_may_be_missing(given: str) -> None:
    part: dict[str, Any] = {"functionCall": {"name": "f", **json.loads(given)}}
    none: dict[str, Any] = {}
    assert made(chunk(part), STOP) == [("call_req_b1.1", "f", none)]


@pytest.mark.parametrize(
    "beside", [{"text": ""}, {"text": "", "thought": False}, {"text": "Let me see. "}, {"text": "Hm.", "thought": True}]
)
def test_a_part_may_be_a_text_and_a_call(beside: dict[str, Any]) -> None:
    answer = response(streamed(chunk({**beside, **call("f", {"n": 1}, SIGNED)}), STOP))
    assert answer.text + answer.reasoning_text == beside["text"]
    assert [(each.name, each.arguments, each.signature) for each in answer.tool_calls] == [("f", {"n": 1}, SIGNED)]


def test_a_part_may_be_a_text_and_anything_else() -> None:
    picture = {"inlineData": {"mimeType": "image/png", "data": PNG64}}
    code = {"executableCode": {"code": "1"}}
    assert message(chunk({"text": "", **picture}), STOP) == (IMAGE,)
    assert message(chunk({"text": "a", **picture, **call("f")}), STOP)[::2] == (TextPart("a"), IMAGE)
    for text, before in (("", ()), ("a", (TextPart("a"),))):
        assert message(chunk({"text": text, **code}), STOP) == (*before, ProviderPart("gemini", "executableCode", code))
    assert message(chunk({"text": "", "new": 1}), STOP) == (ProviderPart("gemini", "new", {"new": 1}),)


def test_a_call_that_was_cut_in_its_pieces_is_no_whole_object_and_one_that_came_whole_is() -> None:
    pieces = call("f", willContinue=True, partialArgs=[piece("$.city", "Os", True)])
    for end, raw in (("MAX_TOKENS", '{"city":"Os"'), ("STOP", '{"city":"Os"}')):
        (only,) = response(streamed(chunk(pieces), chunk(finish=end))).tool_calls
        assert only.raw_arguments == raw
    (only,) = response(streamed(chunk(call("f"), finish="MAX_TOKENS"))).tool_calls
    assert (only.arguments, only.raw_arguments) == ({}, "{}")


def test_a_call_without_a_name_is_none() -> None:
    answer = response(streamed(chunk(call(None, {"a": 1}), call(None)), STOP))
    assert (answer.tool_calls, answer.finish_reason) == ((), "stop")


def piece(path: str, value: Any, more: bool = False) -> dict[str, Any]:
    """Of arguments; `value` is text, a number, a boolean, or None."""
    kinds: dict[Any, str] = {str: "stringValue", bool: "boolValue", type(None): "nullValue"}
    kind = kinds.get(value.__class__, "numberValue")
    return {"jsonPath": path, kind: value, **({"willContinue": True} if more else {})}


def test_arguments_in_pieces_are_put_together() -> None:
    told = decoder()
    events = told.feed(chunk(call("cook", signature=SIGNED, willContinue=True)))
    assert events[-1] == ToolCallStarted("b1.1", "cook")
    assert told.progress
    pieces = [
        [piece("$.steps[0]", "Boil", True)],
        [piece("$.steps[0]", " water."), piece("$.steps[1]", "Wait.", True)],
        [piece("$.steps[1]", "")],
        [piece("$.minutes", 8), piece("$.salted", True), piece("$.note", None), piece("$['odd key'][\"a'b\"][0].x", "y")],
    ]
    for each in pieces:
        told.progress = False
        assert told.feed(chunk(call(partialArgs=each, willContinue=True))) == []
        assert told.progress
    events += told.feed(chunk(call())) + told.feed(chunk(call("next", {"n": 1}))) + told.feed(STOP) + told.end()
    first, second = response(events).tool_calls
    assert first.arguments == {
        "steps": ("Boil water.", "Wait."), "minutes": 8, "salted": True, "note": None, "odd key": {"a'b": ({"x": "y"},)},
    }  # fmt: skip
    assert freeze(json.loads(first.raw_arguments or "")) == first.arguments
    assert (first.signature, second.name, second.arguments) == (SIGNED, "next", {"n": 1})


def test_a_call_in_pieces_ends_with_the_next_name_or_with_the_answer() -> None:
    a, b = call("f", willContinue=True), call("g", {"given": 1}, willContinue=True)
    expected = [("call_req_b1.1", "f", {"x": 1}), ("call_req_b1.2", "g", {"given": 1, "x": 2})]
    first, second = call(partialArgs=[piece("$.x", 1)], willContinue=True), call(partialArgs=[piece("$.x", 2)], willContinue=True)
    assert made(chunk(a), chunk(first), chunk(b), chunk(second), STOP) == expected
    assert made(chunk(call("f", partialArgs=[piece("$.x", 1)])), STOP) == expected[:1]


def test_half_a_call_is_none_when_the_answer_is_cut() -> None:
    told = decoder()
    told.feed(chunk("a", call("f", willContinue=True), call(partialArgs=[piece("$.x", 1)], willContinue=True)))
    assert told.end() == []
    assert told.partial("error", None)[1].message == Message("assistant", "a")


@pytest.mark.parametrize("path", ["", "x", "$", "$[0]", "$.", "$..a", "$.a[", "$.a[x]", "$[']", None, 5])
def test_a_path_that_leads_nowhere_is_passed_over(path: Any) -> None:
    arguments = StreamedArguments(msgspec.Raw(b'{"kept": 1}'))
    arguments.add([{"jsonPath": path, "stringValue": "x"}, "odd", {}, {"jsonPath": "$.empty"}])
    assert json.loads(arguments.text()) == {"kept": 1}


def test_pieces_that_contradict_each_other_do_no_harm() -> None:
    arguments = StreamedArguments(msgspec.Raw(b"[]"))
    arguments.add([piece("$.a", "text", True), piece("$.a", 5), piece("$.a.b", 1), piece("$.a[2]", 3), piece("$.a.c", 4)])
    arguments.add([piece("$.list[999999999]", 1), piece("$.list[1]", 2), piece("$.list[1][0]", 3)])
    told = json.loads(arguments.text())
    assert told["a"] == {"c": 4}
    assert (len(told["list"]), told["list"][1]) == (9_999, [3])  # with the two of $.a, 10,000 places were left out


def test_the_tool_that_carries_the_answer_is_its_text() -> None:
    given = streamed(chunk(call(ANSWER_TOOL, {"city": "Oslo"}, SIGNED)), STOP)
    answer = response(given)
    assert (json.loads(answer.text), answer.tool_calls, answer.finish_reason) == ({"city": "Oslo"}, (), "stop")
    pieces = [call(ANSWER_TOOL, willContinue=True), call(partialArgs=[piece("$.city", "Oslo")], willContinue=True), call()]
    assert json.loads(response(streamed(*[chunk(each) for each in pieces], STOP)).text) == {"city": "Oslo"}
    assert response(streamed(chunk(call(ANSWER_TOOL)), STOP)).text == "{}"


# Signatures and thoughts


def test_thoughts_are_reasoning() -> None:
    answer = response(streamed(chunk({"text": "Hm", "thought": True}), chunk({"text": "m.", "thought": True}), chunk("Yes."), STOP))
    assert answer.message.parts == (ReasoningPart("Hmm."), TextPart("Yes."))


def test_signatures_stay_where_they_stand() -> None:
    thought = {"text": "Hm", "thought": True, "thoughtSignature": OTHER}
    pieces = [
        chunk(thought), chunk("a"), chunk({"text": "b", "thoughtSignature": SIGNED}), chunk("c"), chunk(call("f", {}, SIGNED, id="x1")),
        chunk({"text": "", "thoughtSignature": OTHER}), STOP,
    ]  # fmt: skip
    parts = message(*pieces)
    assert parts == (
        ReasoningPart("Hm", OTHER, provider="gemini"),
        TextPart("ab", SIGNED),
        TextPart("c"),
        ToolCallPart("x1", "f", {}, "{}", SIGNED),
        TextPart("", OTHER),
    )
    sent = body_of(Request((allm.user("Hi"), Message("assistant", parts))))["contents"][1]["parts"]
    assert sent == [
        thought, {"text": "ab", "thoughtSignature": SIGNED}, {"text": "c"},
        {"functionCall": {"name": "f", "args": {}, "id": "x1"}, "thoughtSignature": SIGNED}, {"text": "", "thoughtSignature": OTHER},
    ]  # fmt: skip


@pytest.mark.parametrize("last", [{"text": "", "thoughtSignature": SIGNED}, {"thoughtSignature": SIGNED}])
def test_an_empty_text_at_the_end_signs_the_text_before_it(last: dict[str, Any]) -> None:
    assert message(chunk("Hel"), chunk("lo"), chunk(last, finish="STOP")) == (TextPart("Hello", SIGNED),)


def test_an_id_that_was_made_here_is_not_sent_back() -> None:
    events = streamed(chunk(call("f", {}, SIGNED)), STOP)
    thread = (allm.user("Hi"), response(events).message, allm.tool_result("call_req_b1.1", "a"))
    sent = body_of(Request(thread))["contents"]
    assert sent[1]["parts"] == [{"functionCall": {"name": "f", "args": {}}, "thoughtSignature": SIGNED}]
    assert sent[2]["parts"] == [{"functionResponse": {"name": "f", "response": {"output": "a"}}}]


# Images, files, and what only the provider understands


def test_images_and_files_are_parts() -> None:
    parts = message(
        chunk("Here:", {"inlineData": {"mimeType": "image/png", "data": PNG64}}),
        chunk({"inlineData": {"mimeType": "audio/L16;rate=24000", "data": "-_8="}}),
        chunk({"fileData": {"fileUri": "gs://a/b", "mimeType": "video/mp4"}}),
        chunk({"inlineData": {"data": PNG64}, "thoughtSignature": SIGNED}),
        STOP,
    )
    assert parts == (
        TextPart("Here:"),
        IMAGE,
        FilePart(data=b"\xfb\xff", mime="audio/L16;rate=24000"),
        FilePart(url="gs://a/b", mime="video/mp4"),
        IMAGE,
        ProviderPart("gemini", "thoughtSignature", {"thoughtSignature": SIGNED}),
    )


@pytest.mark.parametrize(
    "part",
    [
        {"executableCode": {"language": "PYTHON", "code": "print(1)"}, "thoughtSignature": SIGNED},
        {"codeExecutionResult": {"outcome": 1, "output": "1"}},
        {"thoughtSignature": SIGNED, "toolCall": {"toolType": "GOOGLE_SEARCH_WEB", "args": {"queries": ["x"]}, "id": "1"}},
        {"inlineData": {"mimeType": "image/png", "data": "no base64"}},
        {"inlineData": {"mimeType": "image/png"}},
        {"inlineData": {"data": "AAAA"}},
        {"inlineData": {"mimeType": "image/png", "data": PNG64}, "thought": True, "thoughtSignature": SIGNED},
        {"somethingNew": [1, None, {"a": 1.5}]},
    ],
)
def test_what_only_the_provider_understands_is_kept_in_its_place_and_sent_back(part: dict[str, Any]) -> None:
    parts = message(chunk("a", part, "b"), STOP)
    kind = next(name for name in part if name not in ("thoughtSignature", "thought"))
    assert [type(each) for each in parts] == [TextPart, ProviderPart, TextPart]
    assert (parts[1].provider, parts[1].type) == ("gemini", kind)
    assert body_of(Request((allm.user("Hi"), Message("assistant", parts))))["contents"][1]["parts"] == [{"text": "a"}, part, {"text": "b"}]


def test_an_empty_part_and_one_beyond_all_limits_are_left_out() -> None:
    for part in ({}, {"thought": True}):
        assert message(chunk("a", part, "b"), STOP) == (TextPart("ab"),)
    deep: Any = {}
    for _ in range(MAX_DEPTH + 1):
        deep = {"deep": deep}
    assert message(chunk("a", deep, "b"), STOP) == (TextPart("ab"),)


# Usage and what is told beside


def test_the_last_usage_counts_and_thoughts_are_output() -> None:
    first = said("a") | {"usageMetadata": {"promptTokenCount": 1, "candidatesTokenCount": 1}}
    last = said(finish="STOP") | {
        "usageMetadata": {
            "promptTokenCount": 40, "cachedContentTokenCount": 30, "candidatesTokenCount": 5, "thoughtsTokenCount": 7,
            "toolUsePromptTokenCount": 100, "totalTokenCount": 152, "serviceTier": "standard", "zero": 0,
        }
    }  # fmt: skip
    expected = Usage(
        input_tokens=140, output_tokens=12, cached_input_tokens=30, reasoning_tokens=7, total_tokens=152,
        extra={"toolUsePromptTokenCount": 100, "serviceTier": "standard"},
    )  # fmt: skip
    assert response(streamed(frame(first), frame(last))).usage == expected
    assert response(whole(last)).usage == expected
    assert response(streamed(frame(last), STOP)).usage == expected


@pytest.mark.parametrize("told", [None, {}, {"promptTokenCount": True}, {"promptTokenCount": -1, "candidatesTokenCount": "5"}, [1], "x"])
def test_what_is_not_reported_is_none(told: Any) -> None:
    usage = response(whole(said("a") | {"usageMetadata": told})).usage
    assert (usage.input_tokens, usage.output_tokens, usage.reasoning_tokens) == (None, None, None)


def test_what_stands_beside_the_answer_is_metadata() -> None:
    grounded = {"webSearchQueries": ["x"]}
    answer = response(
        streamed(
            chunk("a", groundingMetadata=grounded, urlContextMetadata={"urlMetadata": [{"retrievedUrl": "u"}]}),
            chunk("b", groundingMetadata={}, avgLogprobs=0.0, safetyRatings=[], citationMetadata={"citations": [{"startIndex": 1}]}),
            STOP,
        )
    )
    assert answer.metadata == {
        "groundingMetadata": {"webSearchQueries": ("x",)},
        "urlContextMetadata": {"urlMetadata": ({"retrievedUrl": "u"},)},
        "citationMetadata": {"citations": ({"startIndex": 1},)},
        "avgLogprobs": 0.0,
    }


def test_headers_of_a_gateway_are_kept() -> None:
    told = decoder()
    told.headers({"x-ratelimit-remaining": "5", "x-request-id": "q", "retry-after": "9", "content-type": "x"})
    answer = response(told.feed(chunk("a", finish="STOP")) + told.end())
    assert answer.metadata == {"rate_limits": {"x-ratelimit-remaining": "5"}, "provider_request_id": "q"}
    plain = decoder()
    plain.headers({"x-goog-request-id": "g"})
    assert response(plain.body(json.dumps(said("a")).encode())).metadata == {"provider_request_id": "g"}


# Errors inside an answer, and answers that are none

FAILED = {"error": {"code": 503, "message": "The model is overloaded.", "status": "UNAVAILABLE"}}


def test_an_error_ends_the_stream_wherever_it_stands() -> None:
    pretty = json.dumps(FAILED, indent=2).encode().replace(b"\n", b"\r\n")
    for told in (frame(FAILED), pretty, pretty + b"\r\n\r\n", json.dumps(FAILED).encode(), json.dumps([FAILED]).encode() + b"\n"):
        events = streamed(chunk("First "), chunk("Second "), told)
        assert [event.delta for event in events if isinstance(event, TextDelta)] == ["First ", "Second "]
        assert failure(events) == ("overloaded", "The model is overloaded.")
        assert response(streamed(chunk("All"), chunk(finish="STOP"), told)).text == "All"  # behind a finished answer it fails nothing


def test_an_error_between_the_events_is_told_at_once() -> None:
    told = decoder()
    told.feed(chunk("a"))
    pretty = json.dumps(FAILED, indent=2).encode() + b"\n"
    assert [told.feed(pretty[i : i + 7]) for i in range(0, len(pretty), 7)][-1][-1] == told_error(FAILED)
    assert told.feed(STOP) == [] == told.end()


def told_error(data: Any) -> Event:
    return whole(data)[-1]


def test_a_body_can_be_an_error() -> None:
    for data in (FAILED, [FAILED], [said("a"), FAILED]):
        assert failure(whole(data)) == ("overloaded", "The model is overloaded.")
    assert failure(whole({"error": "boom"})) == ("server_error", "boom")


def test_a_stream_may_come_as_one_array() -> None:
    chunks = [said("Hel"), said("lo"), said(call("f", {"n": 1}), finish="STOP")]
    answer = response(whole(chunks))
    assert (answer.text, [each.name for each in answer.tool_calls], answer.finish_reason) == ("Hello", ["f"], "tool_calls")
    as_stream = b",\r\n".join(json.dumps(each).encode() for each in chunks)
    assert response(streamed(b"[" + as_stream + b"\r\n]")) == answer
    assert not any(isinstance(event, MessageCompleted | ErrorOccurred) for event in whole(chunks[:2]))


@pytest.mark.parametrize(
    "body",
    [b"", b"{", b"[{}", b"[", b"<html>", b'"text"', b"5", b"{}", b"[5]", b'{"candidates": 5}', b'{"candidates": [{"index": 0}]}'],
)
def test_a_body_that_is_no_answer_is_malformed(body: bytes) -> None:
    reason, _ = failure(whole(body))
    assert reason == "malformed_response"


@pytest.mark.parametrize("body", [b"[]", b"[{}]", b' [{"usageMetadata": {}}] '])
def test_an_array_without_an_answer_is_cut_short(body: bytes) -> None:
    assert whole(body) == []


@pytest.mark.parametrize("data", [b"{", b"nonsense", b'{"candidates": 5}', b'{"candidates": [{"content": {"parts": [{"text": 5.5}]}}]}'])
def test_a_chunk_that_is_none_fails_the_attempt(data: bytes) -> None:
    assert failure(streamed(chunk("a"), frame(data), STOP))[0] == "malformed_response"


@pytest.mark.parametrize("data", [b"", b" ", b"{}", b'{"this": [{"is": 1}]}', b'{"candidates": []}', b'{"candidates": null}'])
def test_a_chunk_that_says_nothing_is_passed_over(data: bytes) -> None:
    assert response(streamed(chunk("a"), frame(data), b": ping\r\n\r\nid: 1\r\n\r\n", STOP)).text == "a"


def test_a_careless_chunk_is_read_as_it_is_meant() -> None:
    half = b'{"candidates": [{"index": "0", "content": {"parts": [{"text": "a\\ud83d"}]}, "finishReason": "STOP"}]}'
    assert response(streamed(frame(half))).text == "a\ufffd"
    assert response(whole(b"[" + half + b"]")).text == "a\ufffd"


def test_fields_of_another_type_fail_nothing() -> None:
    words: dict[str, Any] = {"text": "a", "thought": "no", "thoughtSignature": {}, "inlineData": []}
    content: dict[str, Any] = {"role": 1, "parts": [None, words, call("f", {}, id=7)]}
    candidate = {"index": "first", "finishReason": "STOP", "finishMessage": {}, "safetyRatings": 5, "content": content}
    answer = response(streamed(frame({"candidates": [candidate], "modelVersion": 3, "responseId": 9, "usageMetadata": []})))
    assert (answer.text, [each.id for each in answer.tool_calls], answer.id, answer.model) == ("a", ["7"], "9", None)
    raw = b'{"candidates": [{"content": {"parts": [{"text": "\xff"}]}}]}'
    assert response(streamed(frame(raw), STOP)).text == "\ufffd"


def test_nonsense_behind_a_finished_answer_does_not_fail_it() -> None:
    for behind in (frame(b"{"), frame(b"nonsense")):
        assert response(streamed(chunk("a", finish="STOP"), behind)).text == "a"


def test_an_event_without_its_blank_line_counts_if_it_is_whole() -> None:
    assert response(streamed(chunk("a"), STOP.rstrip())).text == "a"
    assert not any(isinstance(event, MessageCompleted) for event in streamed(chunk("a"), STOP.rstrip()[:-1]))
    assert not any(isinstance(event, ErrorOccurred) for event in streamed(chunk("a"), b'{"error": {"code": 5'))


def test_an_event_without_end_is_refused() -> None:
    told = decoder()
    events = told.feed(b"data: " + b"x" * (MAX_FRAME + 1))
    assert isinstance(events[-1], ErrorOccurred)
    assert "32 MiB" in events[-1].error.message


def test_raw_chunks_are_given_to_those_who_ask() -> None:
    events = streamed(chunk("a", finish="STOP"), raw_chunks=True)
    assert events[0] == RawChunk(said("a", finish="STOP"))
    events = whole(said("a", finish="STOP"), raw_chunks=True)
    assert response(events).raw == RawChunk(said("a", finish="STOP")).chunk
    assert sum(isinstance(event, RawChunk) for event in whole([said("a"), said(finish="STOP")], raw_chunks=True)) == 2


def test_what_came_so_far_is_known_at_any_moment() -> None:
    told = decoder()
    assert (told.has_content, told.block_ids()) == (False, ())
    told.feed(frame(said("Hel", {"inlineData": {"data": PNG64}}) | {"usageMetadata": {"candidatesTokenCount": 3}}) + chunk("lo"))
    assert (told.has_content, told.block_ids()) == (True, ("b1.1", "b1.2", "b1.3"))
    events, answer = told.partial("cancelled", None)
    assert events == [TextCompleted("b1.3", "lo")]
    assert (answer.text, answer.images, answer.usage.output_tokens) == ("Hello", (IMAGE,), 3)
    assert PartCompleted("b1.2", IMAGE).part == answer.images[0]


def test_the_adapter_makes_decoders() -> None:
    assert isinstance(Gemini().decoder(Engine("gemini:m"), CallContext(request_id="r")), GeminiDecoder)


# Any framing


def _thought(text: str) -> dict[str, Any]:
    return {"text": text, "thought": True}


def _signed(text: str, signature: str) -> dict[str, Any]:
    return {"text": text, "thoughtSignature": signature}


def _piece(path: str, value: str) -> dict[str, Any]:
    return call(partialArgs=[piece(path, value)])


_texts = st.text(st.characters(exclude_categories=["Cs"]), max_size=5)
_parts: st.SearchStrategy[Any] = st.one_of(
    _texts,
    st.builds(_thought, _texts),
    st.builds(_signed, _texts, st.sampled_from([SIGNED, OTHER])),
    st.builds(call, st.sampled_from(["f", "g"]), st.none() | st.dictionaries(_texts, _texts | st.integers(), max_size=2)),
    st.builds(_piece, st.sampled_from(["$.a", "$.a[0]", "$.b.c"]), _texts),
    st.sampled_from([{"inlineData": {"data": PNG64}}, {"codeExecutionResult": {"output": "1"}}, {}, call("h", willContinue=True)]),
)
_streams = st.lists(st.lists(_parts, max_size=3), max_size=6)


@settings(max_examples=300, deadline=None)
@given(_streams, st.lists(st.integers(0, 5000), max_size=30), st.sampled_from([b"\r\n", b"\n", b"\r"]))
def test_any_framing_gives_the_same_events(parts: list[list[Any]], places: list[int], end: bytes) -> None:
    data = b"".join(chunk(*each) for each in parts) + STOP
    expected = streamed(data)
    data = data.replace(b"\r\n", end)
    assert joined(streamed(*cut(data, places))) == joined(expected)
    as_array = whole([said(*each) for each in parts] + [said(finish="STOP")])
    assert response(as_array) == response(expected)


@settings(max_examples=200, deadline=None)
@given(_streams, st.integers(0, 5000))
def test_a_cut_stream_is_never_complete_and_its_partial_answer_is_legal(parts: list[list[Any]], place: int) -> None:
    data = b"".join(chunk(*each) for each in parts) + STOP
    told = decoder()
    events = told.feed(data[: min(place, len(data) - len(b"}]}\r\n\r\n") - 20)]) + told.end()
    assert not any(isinstance(event, MessageCompleted | ErrorOccurred) for event in events)
    told.partial("error", None)


@pytest.mark.parametrize("odd", [10**30, [10**30], {"category": 10**30}])
def test_a_blocked_prompt_is_one_whatever_else_its_feedback_says(odd: Any) -> None:
    told = {"promptFeedback": {"blockReason": "SAFETY", "safetyRatings": odd}}
    told_by = decoder()
    last = (told_by.feed(frame(told)) + told_by.end())[-1]
    assert isinstance(last, MessageCompleted)
    assert last.response.finish_reason == "content_filter"


@pytest.mark.parametrize(
    "told",
    [
        {"candidates": {"content": {"parts": [{"text": "hi"}]}, "finishReason": "STOP"}},
        {"candidates": [{"content": {"parts": {"text": "hi"}}, "finishReason": "STOP"}]},
        {"candidates": [{"content": [{"parts": [{"text": "hi"}]}], "finishReason": "STOP"}]},
    ],
    ids=["candidates", "parts", "content"],
)
def test_one_object_stands_for_a_list_of_one_and_the_reverse(told: Any) -> None:
    assert response(streamed(frame(told))).text == "hi"
    assert response(whole(told)).text == "hi"


@pytest.mark.parametrize("content", ["hi", {"parts": "hi"}, {"parts": ["h", "i"]}, {"parts": ["h", {"text": "i"}]}], ids=str)
def test_texts_in_place_of_content_or_parts_are_the_text(content: Any) -> None:
    told = {"candidates": [{"content": content, "finishReason": "STOP"}]}
    assert response(streamed(frame(told))).text == response(whole(told)).text == "hi"


def test_the_end_of_another_wire_is_no_chunk_and_an_array_in_an_event_is_its_chunks() -> None:
    done = b"data: [DONE]\n\n"
    assert response(streamed(chunk("hi"), done, STOP, done)).text == "hi"
    assert not any(isinstance(event, ErrorOccurred | MessageCompleted) for event in streamed(chunk("hi"), done))
    assert response(streamed(frame([said("h"), said("i", finish="STOP")]))).text == "hi"


def test_a_prompt_that_was_refused_has_no_answer_whatever_comes_beside() -> None:
    beside = {**said(call("weather", {}), finish="STOP"), "promptFeedback": {"blockReason": "SAFETY"}}
    answer = response(streamed(frame(beside)))
    assert (answer.finish_reason, answer.raw_finish_reason) == ("content_filter", "SAFETY")
    beside["promptFeedback"] = {"blockReason": "BLOCK_REASON_UNSPECIFIED"}
    assert response(streamed(frame(beside))).finish_reason == "tool_calls"
