"""Errors inside answers that began well: whichever field they stand in, whichever wire brings them, framed or bare."""

import json
from collections.abc import Callable
from typing import Any

import pytest

from allm.blocks import CallContext
from allm.engine import Engine
from allm.errors import ErrorInfo
from allm.events import ErrorOccurred, Event, MessageCompleted
from allm.providers.error_bodies import error_told
from allm.providers.failures import failure
from allm.providers.openai import OpenAI, RoutedDecoder
from tests.wire import anthropic, chat, gemini, responses

SAID = {"code": 429, "message": "slow down"}


def routed() -> RoutedDecoder:
    return OpenAI().decoder(Engine("openai:m"), CallContext(request_id="req"))


DECODERS: dict[str, Callable[[], Any]] = {
    "openai.chat": chat.decoder, "openai.responses": responses.decoder, "openai": routed, "anthropic": anthropic.decoder,
    "gemini": gemini.decoder,
}  # fmt: skip
BEGUN = {
    "openai.chat": chat.chunk({"content": "half"}),
    "openai.responses": responses.CREATED + responses.text("half"),
    "openai": chat.chunk({"content": "half"}),
    "anthropic": anthropic.begin() + anthropic.start(0, "text", text="") + anthropic.delta(0, "text_delta", text="half"),
    "gemini": gemini.chunk("half"),
}
ANSWERS: dict[str, Any] = {
    "openai.chat": {"id": "x", "choices": [{"index": 0, "message": {"role": "assistant", "content": "hello"}, "finish_reason": "stop"}]},
    "openai.responses": responses.body(responses.message("hello")),
    "anthropic": anthropic.message({"type": "text", "text": "hello"}),
    "gemini": gemini.said("hello", finish="STOP"),
}
ANSWERS["openai"] = ANSWERS["openai.chat"]
SHAPES: dict[str, Any] = {
    "error": {"error": SAID},
    "error beside a word": {"type": "error", "error": SAID},
    "errors": {"success": False, "errors": [SAID], "result": None},
    "error as a text": {"error": "slow down", "code": 429},
    "error as a word": {"error": "rate_limit_exceeded", "message": "slow down"},
    "object": {"object": "error", **SAID, "type": "RateLimitError", "param": None},
    "detail": {"detail": "slow down", "status_code": 429},
    "message and code": SAID,
    "message and code as text": {"message": "slow down", "code": "429", "request_id": "r"},
    "msg": {"code": 429, "msg": "slow down", "success": False},
    "error_code": {"text": "slow down", "error_code": 429},
    "base_resp": {"choices": None, "base_resp": {"status_code": 429, "status_msg": "slow down"}},
    "a list of one": [{"error": SAID}],
}
NONE: list[Any] = [
    {"error": None}, {"error": ""}, {"error": {}}, {"error": False}, {"error": []}, {"error": {"message": "", "code": None}},
    {"error_code": 0}, {"errors": []}, {"base_resp": {"status_code": 0, "status_msg": "success"}}, {}, [], "error", 5, None,
]  # fmt: skip


def info(events: list[Event]) -> ErrorInfo:
    last = events[-1]
    assert isinstance(last, ErrorOccurred), last
    return last.error


def framed(data: Any, name: str = "") -> bytes:
    return chat.frame(data, name)


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("wire", DECODERS)
def test_an_error_is_found_wherever_it_stands_and_has_its_reason(wire: str, shape: str) -> None:
    told = json.dumps(SHAPES[shape]).encode()
    for begun in (b"", BEGUN[wire]):
        for piece in (framed(told), told + b"\n\n", json.dumps(SHAPES[shape], indent=2).encode() + b"\n\n"):
            if isinstance(SHAPES[shape], list) and piece[:1] != b"[":
                continue
            decoder = DECODERS[wire]()
            error = info(decoder.feed(begun + piece + b"data: [DONE]\n\n") + decoder.end())
            assert (error.reason, error.message) == ("rate_limited", "slow down"), piece
            assert decoder.has_content is bool(begun)
    assert info(DECODERS[wire]().body(told)).reason == "rate_limited"


@pytest.mark.parametrize("said", NONE, ids=repr)
@pytest.mark.parametrize("wire", ANSWERS)
def test_an_error_that_says_nothing_is_none(wire: str, said: Any) -> None:
    assert error_told(said) is None
    if isinstance(said, dict):
        last = DECODERS[wire]().body(json.dumps({**ANSWERS[wire], **said}).encode())[-1]
        assert isinstance(last, MessageCompleted), last
        assert last.response.text == "hello"


@pytest.mark.parametrize("wire", ANSWERS)
@pytest.mark.parametrize("indent", [None, 2])
def test_a_whole_answer_without_data_in_an_event_stream_is_the_answer(wire: str, indent: int | None) -> None:
    told = json.dumps(ANSWERS[wire], indent=indent).encode()
    for pieces in (
        [told],
        [told + b"\n"],
        [told[i : i + 7] for i in range(0, len(told), 7)],
        [b": ping\n\n", told, b"\n\ndata: [DONE]\n\n"],
    ):
        decoder = DECODERS[wire]()
        last = ([event for piece in pieces for event in decoder.feed(piece)] + decoder.end())[-1]
        assert isinstance(last, MessageCompleted), last
        assert (last.response.text, last.response.finish_reason) == ("hello", "stop")


@pytest.mark.parametrize("wire", DECODERS)
def test_an_event_named_an_error_is_one_whatever_is_in_it(wire: str) -> None:
    for data, message in ((b"upstream timeout", "upstream timeout"), (b'"words"', "words"), (b"{}", "the provider reported an error")):
        decoder = DECODERS[wire]()
        assert info(decoder.feed(BEGUN[wire] + framed(data, "error"))).message == message


@pytest.mark.parametrize("wire", DECODERS)
def test_bare_json_that_says_nothing_is_passed_over(wire: str) -> None:
    decoder = DECODERS[wire]()
    assert decoder.feed(b'{"status": "queued"}\n\n{\n\n[{]\n{"a": [1,\n') == []
    assert not any(isinstance(event, ErrorOccurred | MessageCompleted) for event in decoder.feed(BEGUN[wire]) + decoder.end())
    assert decoder.has_content


CHOICE: dict[str, Any] = {"index": 0, "delta": {"content": ""}, "finish_reason": None}


@pytest.mark.parametrize(
    "choice",
    [
        {**CHOICE, "error": SAID}, {**CHOICE, "error": SAID, "finish_reason": "error"}, {"index": 0, "error": SAID},
        {**CHOICE, "delta": {"error": SAID}}, {"index": 0, "message": {"content": "", "error": SAID}, "finish_reason": "stop"},
    ],
    ids=json.dumps,
)  # fmt: skip
def test_an_error_on_a_choice_or_in_a_delta_is_one(choice: dict[str, Any]) -> None:
    told = {"id": "x", "choices": [choice]}
    streams = [chat.streamed(framed(told), chat.DONE), chat.streamed(BEGUN["openai.chat"], framed(told), chat.DONE), chat.whole(told)]
    assert [(info(events).reason, info(events).message) for events in streams] == [("rate_limited", "slow down")] * 3


def test_a_choice_with_an_error_of_nothing_is_an_answer() -> None:
    choice: dict[str, Any] = {"index": 0, "delta": {"content": "hi", "error": {}}, "finish_reason": "stop", "error": False}
    assert chat.response(chat.streamed(framed({"id": "x", "choices": [choice]}), chat.DONE)).text == "hi"


@pytest.mark.parametrize(
    "piece", [framed({"error": SAID}), framed(b"{nonsense"), framed({"error": SAID}, "error"), framed(b"\xff"), b"{\n"]
)
def test_nothing_behind_a_finished_answer_fails_it(piece: bytes) -> None:
    answers = [
        chat.streamed(chat.chunk({"content": "hi"}, "stop"), piece, chat.frame({"choices": [], "usage": {"prompt_tokens": 3}}), chat.DONE),
        anthropic.streamed(anthropic.begin(), anthropic.text(0, "hi"), anthropic.finish(), piece),
        gemini.streamed(gemini.chunk("hi", finish="STOP"), piece),
    ]
    assert [chat.response(events).text for events in answers] == ["hi"] * 3
    assert chat.response(answers[0]).usage.input_tokens == 3


@pytest.mark.parametrize("shape", SHAPES)
def test_an_error_answer_of_any_status_is_read_in_the_same_shapes(shape: str) -> None:
    error = failure("openai", 400, {}, json.dumps(SHAPES[shape]).encode())
    assert (error.message, error.status) == ("slow down", 400)


def test_an_invalid_byte_is_replaced() -> None:
    told = chat.chunk({"content": "a?b"}, "stop").replace(b"?", b"\xff")
    assert chat.response(chat.streamed(told, chat.DONE)).text == "a\ufffdb"
    claude = anthropic.text(0, "a?b").replace(b"?", b"\xc3")
    assert chat.response(anthropic.answered(claude)).text == "a\ufffdb"
