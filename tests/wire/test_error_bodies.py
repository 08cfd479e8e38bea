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
    "an object within": {"ResponseMetadata": {"RequestId": "r", "Error": {"Code": "RateLimitExceeded", "Message": "slow down"}}},
    "a response with an error": {"Response": {"Error": {"Code": "Throttling", "Message": "slow down"}, "RequestId": "r"}},
    "an exception by its name": {"throttlingException": {"message": "slow down"}},
    "a title": {"type": "about:blank", "title": "slow down", "status": 429},
    "x_groq": {"id": "x", "choices": [], "x_groq": {"id": "r", "error": {"message": "slow down", "code": 429}}},
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


@pytest.mark.parametrize("wire", DECODERS)
def test_a_line_of_an_error_in_place_of_data_is_one(wire: str) -> None:
    for told in (b'error: {"code":429,"message":"slow down"}', b'error:{"error":{"code":"429","message":"slow down"}}'):
        for begun in (b"", BEGUN[wire]):
            decoder = DECODERS[wire]()
            error = info(decoder.feed(begun + told + b"\n\ndata: [DONE]\n\n") + decoder.end())
            assert (error.reason, error.message) == ("rate_limited", "slow down")
        assert failure("openai", 500, {}, told + b"\n\ndata: [DONE]\n\n").message == "slow down"
    decoder = DECODERS[wire]()
    assert info(decoder.feed(BEGUN[wire] + b"error: it broke\n\n")).message == "it broke"


def test_a_stream_that_groq_stopped_early_is_no_answer_whatever_its_finish_reason() -> None:
    last = chat.chunk(finish="stop", x_groq={"id": "r", "error": "over capacity"})
    assert info(chat.streamed(BEGUN["openai.chat"], last, chat.DONE)).reason == "overloaded"


def test_a_list_of_an_error_and_a_delta_with_one_are_errors_in_the_midst_of_an_answer() -> None:
    for wire in ("anthropic", "gemini"):
        assert info(DECODERS[wire]().feed(BEGUN[wire] + framed([{"error": SAID}]))).reason == "rate_limited"
    odd = anthropic.delta(0, "text_delta", text="", error=SAID)
    assert info(anthropic.streamed(BEGUN["anthropic"], odd)).reason == "rate_limited"


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


NESTED: dict[str, tuple[Any, str, str]] = {
    "a word alone": ({"error": "rate_limit_exceeded"}, "rate_limited", "rate_limit_exceeded"),
    "an error in an error": ({"error": {"error": SAID}}, "rate_limited", "slow down"),
    "an error for a message": ({"error": {"message": {"error": {"message": "no", "type": "overloaded_error"}}}}, "overloaded", "no"),
    "an error in a detail": ({"detail": {"error": {"message": "no", "type": "rate_limit_error"}}}, "rate_limited", "no"),
    "a detail of fields": ({"detail": SAID}, "rate_limited", "slow down"),
    "a status as text": ({"status": "429", "message": "slow down"}, "rate_limited", "slow down"),
    "a class for a type": ({"error": {"type": "RateLimitError", "message": "no"}}, "rate_limited", "no"),
    "an exception for a type": ({"__type": "ThrottlingException", "message": "no"}, "rate_limited", "no"),
    "a code with a dot": ({"code": "Throttling.RateQuota", "message": "no"}, "rate_limited", "no"),
    "error_type": ({"error_type": "authentication_error", "message": "no"}, "authentication", "no"),
    "http_code": ({"error": {"message": "no", "http_code": "529"}}, "overloaded", "no"),
    "error_message": ({"error_message": "no"}, "server_error", "no"),
    "Error": ({"Error": {"Code": "AccessDenied", "Message": "no"}}, "permission", "no"),
    "fault": ({"fault": {"faultstring": "Too many requests"}}, "rate_limited", "Too many requests"),
    "words alone": ({"detail": "Not authenticated"}, "authentication", "Not authenticated"),
    "a bad request that says in which way": ({"error": {"type": "invalid_request_error", "code": "model_not_found"}}, "not_found", ""),
    "the fields that FastAPI refuses": ({"detail": [{"loc": ["body"], "msg": "missing"}]}, "invalid_request", "missing"),
}


@pytest.mark.parametrize("shape", NESTED)
@pytest.mark.parametrize("wire", DECODERS)
def test_an_error_within_another_or_in_words_of_its_own_has_its_reason(wire: str, shape: str) -> None:
    said, reason, message = NESTED[shape]
    told = json.dumps(said).encode()
    for begun in (b"", BEGUN[wire]):
        decoder = DECODERS[wire]()
        error = info(decoder.feed(begun + framed(told)) + decoder.end())
        assert error.reason == reason
        assert message in error.message
    assert info(DECODERS[wire]().body(told)).reason == reason


END = anthropic.finish()
DEEP: list[tuple[str, bytes]] = [
    ("anthropic", framed({"type": "message_start", "message": {"error": SAID}})),
    ("anthropic", framed({"type": "content_block_delta", "index": 0, "error": SAID})),
    ("anthropic", framed({"type": "content_block_delta", "index": 0, "delta": {"type": "error", "error": SAID}})),
    ("anthropic", framed({"type": "content_block_start", "index": 1, "content_block": {"type": "error", "error": SAID}})),
    ("anthropic", framed({"type": "message_delta", "delta": {"error": SAID}})),
    ("anthropic", framed({"type": "message_delta", "delta": {"stop_reason": "end_turn"}, "error": SAID})),
    ("openai.responses", framed({"type": "response.error", "error": SAID})),
    ("openai.responses", framed({"type": "response.output_item.done", "error": SAID})),
    ("openai.responses", framed({"type": "response.failed", "error": SAID})),
    ("openai.responses", framed({"type": "response.failed", "response": None, **SAID})),
    ("openai.responses", framed({"type": "response.failed", "response": {"last_error": SAID}})),
    ("openai.responses", framed({"type": "response.failed", "response": {"status": "completed", "error": [SAID]}})),
    ("openai.responses", framed({"type": "response.completed", "response": {"status": "completed", "output": [], "error": SAID}})),
    ("openai.chat", chat.chunk({"content": ""}, "stop", errors=[SAID])),
    ("gemini", framed({"candidates": [{"error": SAID, "finishReason": "STOP"}]})),
]  # fmt: skip


@pytest.mark.parametrize(("wire", "piece"), DEEP, ids=lambda value: value if isinstance(value, str) else value[6:90].decode())
def test_an_error_anywhere_in_an_event_is_one(wire: str, piece: bytes) -> None:
    decoder = DECODERS[wire]()
    error = info(decoder.feed(BEGUN[wire] + piece + (END if wire == "anthropic" else b"")) + decoder.end())
    assert (error.reason, error.message) == ("rate_limited", "slow down")


@pytest.mark.parametrize("place", ["error", "errors"])
def test_a_whole_response_that_has_an_error_is_none_whatever_its_status_says(place: str) -> None:
    for status in ("completed", "incomplete", "failed", None):
        body = json.dumps({"id": "r", "object": "response", "status": status, "output": [], place: [SAID]}).encode()
        assert info(responses.decoder().body(body)).reason == "rate_limited"


def test_a_response_that_failed_is_no_answer_whatever_its_status_says() -> None:
    told = framed({"type": "response.failed", "response": {"id": "r", "status": "completed", "output": []}})
    assert info(responses.decoder().feed(BEGUN["openai.responses"] + told)).message == "the response failed"


def test_a_word_for_a_failure_is_not_taken_back_by_another() -> None:
    events = chat.streamed(chat.chunk({"content": "hi"}, "error"), chat.chunk({}, "stop"), chat.DONE)
    assert info(events).reason == "server_error"


def test_a_choice_that_holds_nothing_is_no_answer() -> None:
    assert not any(isinstance(event, MessageCompleted) for event in chat.streamed(framed({"id": "x", "choices": [{}]}), chat.DONE))


def test_a_ping_that_says_more_is_no_error() -> None:
    piece = framed({"type": "ping", "detail": "still here", "message": "wait"})
    assert chat.response(anthropic.streamed(anthropic.begin(), piece, anthropic.text(0, "hi"), anthropic.finish())).text == "hi"
