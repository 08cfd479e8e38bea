"""The adapter `openai`: which wire a model goes to, and answers that are read in whichever wire they come."""

import json
import tracemalloc
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import allm
from allm.blocks import CallContext
from allm.engine import Engine
from allm.events import ErrorOccurred, Event, MessageCompleted
from allm.providers.openai import ROUTES, OpenAI, RoutedDecoder, wire_of
from allm.providers.openai_chat import ChatDecoder
from allm.providers.openai_responses_decoder import ResponsesDecoder
from allm.providers.openai_responses_request import reasons
from allm.providers.registry import adapter_for
from allm.requests import Request
from allm.sse import MAX_FRAME
from allm.testing.simulator import Simulator
from tests.wire.chat import DONE, checked, chunk, cut, failure, joined, response
from tests.wire.responses import CREATED, USAGE, body, completed, done, message, text, told

OWN = "https://api.openai.com/v1"
CHAT = chunk({"content": "Hel"}) + chunk({"content": "lo"}, "stop") + DONE
RESPONSES = CREATED + text("Hel") + text("lo") + done(message("Hello")) + completed(message("Hello"), usage=USAGE)
CHAT_BODY = {"id": "x", "model": "m", "choices": [{"index": 0, "message": {"content": "Hello"}, "finish_reason": "stop"}]}

MODELS = {
    "responses": [
        "gpt-5", "gpt-5-mini", "gpt-5.4-nano-2026-03-17", "gpt-5.6-sol", "gpt-6-astra", "gpt-5-pro", "gpt-5.1-codex-max", "o1", "o1-pro",
        "o3", "o3-mini", "o3-deep-research", "o4-mini", "O4-MINI", "codex-mini-latest", "computer-use-preview", "gpt-daybreak-blue-latest",
        "gpt-rosalind-research", "ft:o4-mini-2025-04-16:me::x",
    ],
    "chat": [
        "gpt-4.1-mini", "gpt-4o", "chatgpt-4o-latest", "gpt-4o-audio-preview", "gpt-audio-mini", "gpt-4o-search-preview",
        "gpt-5-search-api", "gpt-5-chat-latest", "gpt-5.1-chat-latest", "o1-mini", "o1-preview", "gpt-4", "gpt-3.5-turbo",
        "ft:gpt-4.1-mini:me::x", "omni", "my-model", "",
    ],
}  # fmt: skip
EVERY = [(model, wire) for wire, models in MODELS.items() for model in models]


def context() -> CallContext:
    return CallContext(request_id="req")


def decoder() -> RoutedDecoder:
    return OpenAI().decoder(Engine("openai:gpt-5"), context())


def streamed(*pieces: bytes) -> list[Event]:
    made = decoder()
    return checked([event for piece in pieces for event in made.feed(piece)] + made.end())


def whole(data: Any) -> list[Event]:
    return checked(decoder().body(data if isinstance(data, bytes) else json.dumps(data).encode()))


def address(model: str, base_url: str = OWN, *, asked: str | None = None, **opts: Any) -> str:
    engine = Engine(adapter="openai", model=model, adapter_opts=opts)
    return OpenAI().request(engine, Request((allm.user("Hi"),), model=asked), base_url, True).url


# Where a request goes


@pytest.mark.parametrize(("model", "wire"), EVERY)
def test_a_model_goes_to_its_wire(model: str, wire: str) -> None:
    assert wire_of(model, OWN) == wire
    assert reasons(model) is (wire == "responses")  # so that none is asked on Responses for what it refuses


def test_the_table_ends_with_any_model() -> None:
    assert ROUTES[-1] == ("*", "chat")


@pytest.mark.parametrize(
    ("base_url", "wire"),
    [
        (OWN, "responses"), ("https://eu.api.openai.com/v1", "responses"), ("HTTPS://API.OPENAI.COM:443/v1", "responses"),
        ("http://localhost:8080/v1", "chat"), ("https://openrouter.ai/api/v1", "chat"), ("https://mine.openai.azure.com/openai/v1", "chat"),
        ("https://a.org/api.openai.com", "chat"), ("https://notapi.openai.com.evil.org/v1", "chat"), ("", "chat"),
    ],
)  # fmt: skip
def test_compatible_hosts_are_asked_on_chat(base_url: str, wire: str) -> None:
    assert wire_of("gpt-5", base_url) == wire


def test_the_model_of_the_request_decides() -> None:
    assert address("gpt-4o", asked="gpt-5") == f"{OWN}/responses"
    assert address("gpt-5", asked="gpt-4o") == f"{OWN}/chat/completions"


def test_the_engine_may_decide_otherwise() -> None:
    assert address("gpt-4o", "http://localhost:1/v1", wire="responses") == "http://localhost:1/v1/responses"
    assert address("gpt-5", wire="chat") == f"{OWN}/chat/completions"
    with pytest.raises(allm.ValidationError, match=r"engine\.adapter_opts\.wire: expected chat or responses, got 'grpc'"):
        address("gpt-5", wire="grpc")


def test_it_is_registered_under_its_name() -> None:
    assert isinstance(adapter_for("openai"), OpenAI)
    assert Engine("gpt-5@openai").adapter == "openai"


# What comes back


def test_either_wire_is_understood() -> None:
    assert response(streamed(CHAT)).text == response(streamed(RESPONSES)).text == "Hello"
    assert response(whole(CHAT_BODY)).raw_finish_reason == "stop"
    assert response(whole(body(message("Hello"), usage=USAGE))).raw_finish_reason == "completed"


def test_the_events_are_those_of_the_wires_own_decoder() -> None:
    for data, plain in ((CHAT, ChatDecoder(context())), (RESPONSES, ResponsesDecoder(context()))):
        assert streamed(data) == plain.feed(data) + plain.end()


@settings(max_examples=150, deadline=None)
@given(st.sampled_from([CHAT, RESPONSES, b": hello\n\ndata:\n\n" + RESPONSES]), st.lists(st.integers(0, 2000), max_size=20))
def test_any_framing_gives_the_same_events(data: bytes, places: list[int]) -> None:
    assert joined(streamed(*cut(data, places))) == joined(streamed(data))


def test_an_answer_that_ends_too_early_has_no_end() -> None:
    for data in (
        b"",
        b": ping\n\n",
        b'data: {"type": "respo',
        CREATED + text("a"),
        chunk({"content": "a"}),
        CREATED.rstrip(),
        b"data: \n\n",
    ):
        assert not any(isinstance(event, MessageCompleted) for event in streamed(data))


def test_an_answer_of_one_event_without_its_blank_line_is_read() -> None:
    assert response(streamed(completed(message("Hello")).rstrip())).text == "Hello"
    assert response(streamed(chunk({"content": "Hello"}, "stop").rstrip())).text == "Hello"


def test_errors_are_errors_in_either_wire() -> None:
    flat = told("error", code="rate_limit_exceeded", message="slow down")
    for data in (flat, told("error", error={"code": "rate_limit_exceeded", "message": "slow down"}), flat.rstrip()):
        assert failure(streamed(data)) == ("rate_limited", "slow down")
    for data in (b"data: nonsense\n\n", b"data: " + b"x" * (MAX_FRAME + 1)):
        assert failure(streamed(data))[0] == "malformed_response"
    assert failure(whole({"error": {"code": "rate_limit_exceeded", "message": "slow down"}}))[0] == "rate_limited"
    assert failure(whole(b"<html>"))[0] == "malformed_response"
    assert OpenAI().failure(401, {}, b"{}").reason == "authentication"


def test_headers_reach_whichever_wire_it_is() -> None:
    for data in (CHAT, RESPONSES):
        made = decoder()
        made.headers({"x-request-id": "req_9"})
        (*_, last) = made.feed(data)
        assert isinstance(last, MessageCompleted)
        assert last.response.metadata["provider_request_id"] == "req_9"


def test_what_came_so_far_can_be_taken_at_any_moment() -> None:
    made = decoder()
    assert (made.has_content, made.block_ids(), made.progress) == (False, (), False)
    _, nothing = made.partial("cancelled", None)
    assert nothing.text == ""
    made.feed(CREATED + text("a"))
    assert (made.has_content, made.block_ids()) == (True, ("b1.1",))
    made.feed(told("response.web_search_call.searching"))
    assert made.progress
    made.progress = False
    assert not made.progress
    _, so_far = made.partial("cancelled", None)
    assert so_far.text == "a"


@pytest.mark.parametrize("wire", ["chat", "responses"])
def test_a_call_over_http(wire: str) -> None:
    with Simulator(wires=("chat", "responses")) as sim:
        sim.reply("Hello, you!", "Again.")
        engine = Engine("openai:gpt-5", base_url=sim.base_url(wire), keys={"openai": "sk-a"}, adapter_opts={"wire": wire})
        assert allm.generate(engine, "Hi").text == "Hello, you!"
        events = list(allm.stream_generate(engine, "Hi", wire="json"))
        assert not any(isinstance(event, ErrorOccurred) for event in events)
        assert [seen.wire for seen in sim.requests] == [wire, wire]


def test_nothing_is_held_of_what_comes_before_the_first_event_with_data() -> None:
    made = decoder()
    comments = (b": " + b"x" * 1000 + b"\n\n\n") * 64
    tracemalloc.start()
    try:
        for _ in range(200):  # 13 MB, cut where no line ends
            assert made.feed(comments[:999]) == made.feed(comments[999:]) == []
        assert tracemalloc.get_traced_memory()[1] < 1 << 20
    finally:
        tracemalloc.stop()
    (*_, last) = made.feed(CHAT) + made.end()
    assert isinstance(last, MessageCompleted)


@pytest.mark.parametrize("data", [CHAT, RESPONSES], ids=["chat", "responses"])
@pytest.mark.parametrize("before", [b": ping\n\n", b"data:\n\n", b"\xef\xbb\xbf", b"event: x\n\n"])
def test_the_wire_is_chosen_by_the_first_event_however_it_is_cut(data: bytes, before: bytes) -> None:
    made = decoder()
    events = [event for byte in before + data for event in made.feed(bytes([byte]))] + made.end()
    whole_ = decoder()
    assert response(events) == response(whole_.feed(before + data) + whole_.end())
