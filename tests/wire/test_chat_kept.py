"""What an answer of the Chat wire holds beside text and calls: shown to the caller, and given back to the host that needs it."""

import base64
import json
import subprocess
import sys
from typing import Any

import pytest

from allm.blocks import CallContext
from allm.codec import from_json, to_json
from allm.engine import Engine
from allm.events import MessageCompleted
from allm.messages import ImagePart, Message, ProviderPart, ReasoningPart, TextPart, ToolCallPart, system, tool_result, user
from allm.providers.adapter import HttpRequest
from allm.providers.openai_chat import ChatDecoder, OpenAIChat
from allm.requests import Request
from allm.responses import Response
from allm.usage import Usage
from tests.wire.chat import DONE, chunk, frame, response, streamed, whole

PNG = "data:image/png;base64,iVBORw0KGgo="
HOST = "https://api.deepseek.example/v1"
OTHERS = ["https://api.groq.example/v1", "https://api.openai.com/v1", "https://eu.api.openai.com/v1", "http://localhost:8000/v1"]
CALL = {"tool_calls": [{"index": 0, "id": "c1", "type": "function", "function": {"name": "f", "arguments": "{}"}}]}
STOP = chunk(finish="stop") + DONE
CALLED = chunk(finish="tool_calls") + DONE


def answered(*deltas: dict[str, Any], base_url: str = HOST, end: bytes = CALLED) -> Response:
    """The answer of this host, made of these deltas."""
    decoder = ChatDecoder(CallContext(request_id="req", base_url=base_url))
    events = [event for delta in deltas for event in decoder.feed(chunk(delta))] + decoder.feed(end) + decoder.end()
    return response(events)


def turn_of(answer: Response, base_url: str = HOST, engine: Engine | None = None) -> dict[str, Any]:
    """The assistant's turn as it goes to `base_url`, after the thread was stored and read."""
    stored = [from_json(to_json(message), Message) for message in (user("q"), answer.message, tool_result("c1", "r"))]
    return next(item for item in sent(stored, base_url, engine) if item["role"] == "assistant")


def sent(messages: list[Message], base_url: str = HOST, engine: Engine | None = None) -> list[dict[str, Any]]:
    made = OpenAIChat().request(engine or Engine("openai.chat:m"), Request(tuple(messages)), base_url, True)
    assert isinstance(made, HttpRequest)
    said: list[dict[str, Any]] = json.loads(made.body)["messages"]
    return said


# What goes back


@pytest.mark.parametrize("field", ["reasoning_content", "reasoning"])
def test_reasoning_goes_back_in_its_field_to_its_host_alone(field: str) -> None:
    answer = answered({field: "I need "}, {field: "f"}, CALL)
    assert turn_of(answer)[field] == "I need f"
    for other in OTHERS:
        assert turn_of(answer, other).keys() == {"role", "content", "tool_calls"}


def test_reasoning_details_are_put_together_and_go_back_as_they_came() -> None:
    text: dict[str, Any] = {"type": "reasoning.text", "index": 0, "format": "anthropic-claude-v1"}
    secret = {"type": "reasoning.encrypted", "data": "OPAQUE", "id": "rs", "index": 1}
    answer = answered(
        {"reasoning": "I need ", "reasoning_details": [{**text, "text": "I need ", "signature": None}]},
        {"reasoning": "f", "reasoning_details": [{**text, "text": "f"}]},
        {"reasoning_details": [{**text, "signature": "SIG"}, secret]},
        CALL,
    )
    assert answer.reasoning_text == "I need f"
    assert turn_of(answer)["reasoning_details"] == [{**text, "text": "I need f", "signature": "SIG"}, secret]
    assert "OPAQUE" not in json.dumps([turn_of(answer, other) for other in OTHERS])


def test_details_alone_are_reasoning_too_and_those_told_anew_each_time_are_told_once() -> None:
    detail: dict[str, Any] = {"type": "reasoning.text", "index": 0, "format": "MiniMax-response-v1"}
    answer = answered(*[{"reasoning_details": [{**detail, "text": text}]} for text in ("I", "I need", "I need f")], CALL)
    assert answer.reasoning_text == "I need f"
    assert turn_of(answer)["reasoning_details"] == [{**detail, "text": "I need f"}]


def test_what_stands_beside_a_call_goes_back_beside_it() -> None:
    extra = {"google": {"thought_signature": "SIG"}}
    calls = [{**CALL["tool_calls"][0], "extra_content": extra}, {**CALL["tool_calls"][0], "index": 1, "id": "c2"}]
    answer = answered({"tool_calls": calls})
    assert [call.get("extra_content") for call in turn_of(answer)["tool_calls"]] == [extra, None]
    assert answer.tool_calls[0].signature == "SIG"
    assert not any("SIG" in json.dumps(turn_of(answer, other)) for other in OTHERS)
    google = "https://generativelanguage.googleapis.com/v1beta/openai"
    assert turn_of(answer, google)["tool_calls"][0]["extra_content"] == extra  # whose signature it is


@pytest.mark.parametrize("last", ["", "I need it"])
def test_thinking_blocks_go_back_signed_to_their_host_alone(last: str) -> None:
    def said(text: str, **more: Any) -> dict[str, Any]:
        return {"thinking_blocks": [{"type": "thinking", "thinking": text, **more}]}

    hidden = {"thinking_blocks": [{"type": "redacted_thinking", "data": "OPAQUE"}]}
    signed = [{"type": "thinking", "thinking": "I need it", "signature": "SIG"}, {"type": "redacted_thinking", "data": "OPAQUE"}]
    for shown in (True, False):
        pieces = [{**said(text), **({"reasoning_content": text} if shown else {})} for text in ("I need ", "it")]
        answer = answered(*pieces, said(last, signature="SIG"), hidden, CALL)
        assert answer.reasoning_text == "I need it"
        assert turn_of(answer)["thinking_blocks"] == signed
        for other in OTHERS:
            assert turn_of(answer, other).keys() == {"role", "content", "tool_calls"}


def test_an_id_in_which_a_host_keeps_something_goes_back_whole_to_that_host() -> None:
    long = "call_1__thought__" + "QUJD+/" * 20 + "=="
    answer = answered({"tool_calls": [{**CALL["tool_calls"][0], "id": long}]})
    thread = [user("q"), answer.message, tool_result(long, "r")]
    assert [(item.get("tool_call_id") or item["tool_calls"][0]["id"]) for item in sent(thread)[1:]] == [long, long]
    for other in OTHERS:
        ids = [(item.get("tool_call_id") or item["tool_calls"][0]["id"]) for item in sent(thread, other)[1:]]
        assert ids[0] == ids[1]
        assert len(ids[0]) <= 40


def test_a_turn_without_calls_and_one_of_the_vendors_own_host_keep_nothing_for_their_host() -> None:
    for answer in (
        answered({"reasoning_content": "hm"}, {"content": "a"}, end=STOP),
        answered({"reasoning_content": "hm"}, CALL, base_url="https://api.openai.com/v1"),
        answered({"reasoning_content": "hm"}, CALL, base_url=""),
        answered(CALL),
    ):
        assert not any(isinstance(part, ProviderPart) for part in answer.message.parts)
        assert "reasoning" not in json.dumps(turn_of(answer))


def test_another_process_that_has_the_thread_gives_back_the_same() -> None:
    answer = answered({"reasoning_content": "hm"}, CALL)
    script = f"""
import sys
from allm.codec import from_json
from allm.engine import Engine
from allm.messages import Message, tool_result, user
from allm.providers.openai_chat import OpenAIChat
from allm.requests import Request
thread = (user("q"), from_json(sys.stdin.read(), Message), tool_result("c1", "r"))
print(OpenAIChat().request(Engine("openai.chat:m"), Request(thread), {HOST!r}, True).body.decode())
"""
    told = to_json(answer.message)
    done = subprocess.run(
        [sys.executable, "-c", script], input=told, capture_output=True, text=isinstance(told, str), check=True, timeout=60
    )
    assert '"reasoning_content":"hm"' in (done.stdout if isinstance(done.stdout, str) else done.stdout.decode())


# What is shown


def test_images_are_parts_each_of_them_once() -> None:
    image = {"type": "image_url", "image_url": {"url": PNG}}
    far = {"type": "image_url", "image_url": {"url": "https://example.com/a.png"}}
    broken = {"type": "image_url", "image_url": {"url": "nowhere"}}
    message = {"content": "Here", "images": [image, far, broken]}
    for answer in (
        response(streamed(chunk({"content": "Here"}), chunk({"images": [image, far, broken]}), chunk({"images": [image]}), STOP)),
        response(whole({"choices": [{"message": message, "finish_reason": "stop"}]})),
    ):
        assert [type(part) for part in answer.message.parts] == [TextPart, ImagePart, ImagePart, ProviderPart]
        assert [(part.image.mime, part.image.url) for part in answer.message.images] == [
            ("image/png", None),
            (None, "https://example.com/a.png"),
        ]
        assert answer.message.parts[-1].data == broken  # type: ignore[union-attr]


def test_images_and_what_is_not_known_among_content_parts_are_kept() -> None:
    reference = {"type": "reference", "reference_ids": [1]}
    content = [{"type": "text", "text": "a"}, {"type": "image_url", "image_url": {"url": PNG}}, reference, "b"]
    answer = response(streamed(chunk({"content": content}), STOP))
    assert [type(part) for part in answer.message.parts] == [TextPart, ImagePart, ProviderPart, TextPart]
    assert answer.text == "ab"


def test_annotations_and_speech_are_a_part_each() -> None:
    cited = {"type": "url_citation", "url_citation": {"url": "https://example.com"}}
    pieces = [base64.b64encode(piece).decode() for piece in (b"RIFF", b"more")]
    deltas = [{"annotations": [cited]}, {"annotations": [cited]}, {"audio": {"id": "a1"}}]
    deltas += [{"audio": {"data": piece, "transcript": word}} for piece, word in zip(pieces, ("hel", "lo"), strict=True)]
    answer = response(streamed(*map(chunk, deltas), STOP))
    notes, sound = answer.message.parts
    assert isinstance(notes, ProviderPart)
    assert isinstance(sound, ProviderPart)
    assert notes == ProviderPart("openai.chat", "annotations", {"annotations": [cited]})
    assert sound.data == {"id": "a1", "data": base64.b64encode(b"RIFFmore").decode(), "transcript": "hello"}
    assert sent([user("q"), answer.message, user("more")]) == [{"role": "user", "content": "q"}, {"role": "user", "content": "more"}]


def test_a_body_of_speech_alone_is_an_answer() -> None:
    audio = {"id": "a1", "data": "UklGRg==", "transcript": "hello", "expires_at": 1}
    answer = response(whole({"choices": [{"message": {"content": None, "audio": audio}}]}))
    assert answer.message.parts == (ProviderPart("openai.chat", "audio", audio),)


# Fields that nobody needs


ODD = [None, 7, "x", [], {}, [None], {"a": 1}, True, 1.5]


@pytest.mark.parametrize("odd", ODD, ids=repr)
@pytest.mark.parametrize(
    "field",
    ["id", "model", "created", "object", "usage", "service_tier", "system_fingerprint", "citations", "x_groq", "search_results",
     "delta.role", "delta.refusal", "delta.reasoning", "delta.reasoning_content", "delta.reasoning_details", "delta.tool_calls",
     "delta.function_call", "delta.images", "delta.annotations", "delta.audio", "choice.logprobs", "choice.usage", "choice.message"],
)  # fmt: skip
def test_a_field_of_any_type_fails_no_answer(field: str, odd: Any) -> None:
    delta: dict[str, Any] = {"content": "hi"}
    choice: dict[str, Any] = {"index": 0, "delta": delta, "finish_reason": None}
    told: dict[str, Any] = {"id": "x", "model": "m", "choices": [choice]}
    place, _, name = field.rpartition(".")
    {"": told, "choice": choice, "delta": delta}[place][name] = odd
    answer = response(streamed(frame(told), STOP))
    assert (answer.text, answer.finish_reason) == ("hi", "stop")


def test_numbers_that_are_none_stand_for_nothing() -> None:
    told = b'data: {"id":"x","choices":[{"index":0,"delta":{"content":"hi"},"logprobs":{"a":[NaN,-Infinity]},"finish_reason":"stop"}]}\n\n'
    assert response(streamed(told, DONE)).text == "hi"


# Usage


@pytest.mark.parametrize(
    ("told", "usage"),
    [
        (
            {"prompt_tokens": 390, "completion_tokens": 26, "total_tokens": 493, "completion_tokens_details": {"reasoning_tokens": 77}},
            Usage(input_tokens=390, output_tokens=103, reasoning_tokens=77, total_tokens=493),
        ),
        (
            {"prompt_tokens": 390, "completion_tokens": 103, "total_tokens": 493, "completion_tokens_details": {"reasoning_tokens": 77}},
            Usage(input_tokens=390, output_tokens=103, reasoning_tokens=77, total_tokens=493),
        ),
        (
            {"prompt_tokens": 19, "completion_tokens": 13, "total_tokens": 32, "cached_tokens": 12},
            Usage(input_tokens=19, output_tokens=13, cached_input_tokens=12, total_tokens=32),
        ),
    ],
)  # fmt: skip
def test_usage_counts_every_token_on_every_host(told: dict[str, Any], usage: Usage) -> None:
    zeros = {"prompt_tokens": 0, "completion_tokens": 0, "total_tokens": 0}
    choice = {"index": 0, "delta": {}, "finish_reason": "stop", "usage": told}
    for pieces in (
        [chunk({"content": "hi"}, "stop", usage=told)],
        [chunk({"content": "hi"}), frame({"id": "x", "choices": [choice]})],
        [chunk({"content": "hi"}, "stop", usage=told), frame({"id": "x", "choices": [], "usage": zeros})],
    ):
        assert response(streamed(*pieces, DONE)).usage == usage


# What hosts take


def test_system_messages_go_first_as_one_where_templates_want_that() -> None:
    thread = [system("I"), system("S"), user("a"), Message("assistant", "b"), system("T"), user("c")]
    first = ["system", "user", "assistant", "user"]
    placed = ["system", "system", "user", "assistant", "system", "user"]
    assert [item["role"] for item in sent(thread)] == first
    assert sent(thread)[0]["content"] == "I\n\nS\n\nT"
    for own in ("https://api.openai.com/v1", "https://x.openai.azure.com/openai/v1"):
        assert [item["role"] for item in sent(thread, own)] == placed
    for place, roles in (("in_place", placed), ("first", first)):
        engine = Engine("openai.chat:m", adapter_opts={"system": place})
        assert {tuple(item["role"] for item in sent(thread, base_url, engine)) for base_url in (HOST, *OTHERS)} == {tuple(roles)}
    parts = Message("system", (TextPart("x"), TextPart("y")))
    assert [part["text"] for part in sent([user("a"), parts, system("z")])[0]["content"]] == ["x", "y", "z"]


@pytest.mark.parametrize(
    ("model", "base_url"),
    [("mistral-large-latest", HOST), ("mistralai/mixtral-8x7b", HOST), ("open-mistral-nemo", HOST), ("m", "https://api.mistral.ai/v1")],
)
def test_call_ids_are_as_mistral_has_them(model: str, base_url: str) -> None:
    ids = ["toolu_01A09q90qw90lq917835lq9", "D681PevKs", "toolu_2", "D681PevKs"]
    calls = Message("assistant", tuple(ToolCallPart(each, "f", {}) for each in ids))
    said = sent([user("a"), calls, *[tool_result(each, "r") for each in ids]], base_url, Engine(adapter="openai.chat", model=model))
    told = [call["id"] for call in said[1]["tool_calls"]]
    assert told == [item["tool_call_id"] for item in said[2:]]
    assert all(len(each) == 9 and each.isalnum() for each in told)
    assert len(set(told)) == 4
    assert told[1] == "D681PevKs"


def test_an_assistant_who_says_nothing_is_left_out() -> None:
    for nothing in (
        Message("assistant"),
        Message("assistant", (ReasoningPart("hm"),)),
        Message("assistant", (ProviderPart("x", "y", {}),)),
        Message("assistant", " \n"),
    ):
        assert [item["role"] for item in sent([user("a"), nothing, user("b")])] == ["user", "user"]
    blank = Message("assistant", (TextPart("\n"), ToolCallPart("c1", "f", {})))
    assert sent([user("a"), blank, tool_result("c1", "r")])[1]["content"] is None


def test_the_end_of_a_stream_is_told_as_ever() -> None:
    assert isinstance(streamed(chunk({"content": "a"}), STOP)[-1], MessageCompleted)
