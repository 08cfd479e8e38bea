"""The fake provider: scripts for tests of bots, played through real calls and through its adapter."""

from typing import Any

import pytest

import allm
from allm import AdapterError, Engine, Retry, StreamError, ValidationError
from allm.blocks import CallContext
from allm.events import ErrorOccurred, Event, RawChunk, RetryScheduled, ToolCallDelta
from allm.messages import ReasoningPart, TextPart, ToolCallPart
from allm.providers.adapter import Script
from allm.providers.fake import Fake
from allm.providers.fake_log import log_of
from allm.requests import Request
from allm.testing import Fake as FakeEngine
from tests.wire.chat import checked, response

HI = Request((allm.user("hi"),))
SWIFT = Retry(base_delay=0)


def engine(*script: Any, **opts: Any) -> Engine:
    return Engine("fake:any", adapter_opts={"script": script, **opts} if script else opts, retry=SWIFT)


def steps(played: Engine) -> tuple[tuple[float, bytes], ...]:
    script = Fake().request(played, HI, "", True)
    assert isinstance(script, Script)
    return script.steps


def play(played: Engine, attempt: int = 1, raw_chunks: bool = False) -> list[Event]:
    """The events of one attempt, without a runtime."""
    decoder = Fake().decoder(played, CallContext(request_id="req", generation=attempt, include_raw_chunks=raw_chunks))
    events = [event for _, item in steps(played) for event in decoder.feed(item)]
    return checked(events + decoder.end())


# Items


def test_a_script_of_all_kinds_is_one_answer() -> None:
    played = engine(
        ("reasoning", "hm"),
        ("text", "Hel"),
        ("delay", 0),
        ("text", "lo"),
        ("tool_call", "f", {"a": [1]}, "c1"),
        ("tool_call_delta", {"index": 0, "id": "c2", "name": "g", "arguments": '{"b":'}),
        ("tool_call_delta", {"arguments": "2}"}),
        ("usage", {"input_tokens": 3, "extra": {"x": 1}}),
        ("raw_chunk", {"n": 1}),
        ("finish", "tool_calls"),
    )
    answer = response(play(played))
    assert answer.message.content == (
        ReasoningPart("hm"),
        TextPart("Hello"),
        ToolCallPart("c1", "f", {"a": (1,)}, '{"a":[1]}'),
        ToolCallPart("c2", "g", {"b": 2}, '{"b":2}'),
    )
    assert (answer.finish_reason, answer.raw_finish_reason) == ("tool_calls", "tool_calls")
    assert answer.usage == allm.Usage(input_tokens=3, extra={"x": 1})


def test_a_call_may_have_a_name_only() -> None:
    (each,) = response(play(engine(("tool_call", "f"), ("tool_call", "g"), ("finish", "stop")))).tool_calls[:1]
    assert (each.name, each.arguments, each.id) == ("f", {}, "call_req_b1.1")


@pytest.mark.parametrize("reason", ["stop", "length", "tool_calls", "content_filter", "error"])
def test_every_finish_reason_can_be_played(reason: str) -> None:
    assert response(play(engine(("text", "a"), ("finish", reason)))).finish_reason == reason


def test_raw_chunks_are_for_those_who_ask() -> None:
    played = engine(("raw_chunk", [1]), ("raw_chunk", True), ("finish", "stop"))
    assert [event.chunk for event in play(played, raw_chunks=True) if isinstance(event, RawChunk)] == [(1,), True]
    assert not any(isinstance(event, RawChunk) for event in play(played))


def test_delays_add_up_and_go_before_what_follows_or_the_end() -> None:
    script = [("delay", 0.5), ("delay", 1), ("text", "a"), ("text", "b"), ("delay", 2)]
    assert [wait for wait, _ in steps(engine(*script))] == [1.5, 0.0, 2.0]


def test_nothing_is_played_after_the_finish() -> None:
    events = play(engine(("text", "a"), ("finish", "stop"), ("text", "b")))
    assert response(events).text == "a"


@pytest.mark.parametrize("kind", ["error", "stream_error"])
def test_an_error_after_content_ends_the_attempt(kind: str) -> None:
    details = {"message": "slow down", "retry_after": 1, "status": 429, "metadata": {"a": [1]}, "provider": "other"}
    last = play(engine(("text", "a"), (kind, "rate_limited", details), ("text", "b")))[-1]
    assert isinstance(last, ErrorOccurred)
    assert last.error == allm.ErrorInfo("adapter", "rate_limited", "slow down", 429, 1, None, "other", {"a": (1,)})


def test_an_error_without_details_says_that_it_is_scripted() -> None:
    (last,) = play(engine(("preflight_error", "permission")))
    assert isinstance(last, ErrorOccurred)
    assert (last.error.message, last.error.provider) == ("the script says permission", "fake")


# Calls


def test_a_call_plays_its_script() -> None:
    assert allm.generate(engine(("text", "Hello"), ("finish", "stop")), "Hi.").text == "Hello"


def test_a_stream_tells_the_deltas_of_its_script() -> None:
    script = [("tool_call_delta", {"name": "f", "arguments": "{"}), ("tool_call_delta", {"arguments": "}"}), ("finish", "stop")]
    events = list(allm.stream_generate(engine(*script), "Hi."))
    assert [event.arguments_delta for event in events if isinstance(event, ToolCallDelta)] == ["{", "}"]


def test_a_script_without_a_finish_is_a_truncated_stream() -> None:
    answer = allm.generate(engine(("text", "a")), "Hi.", retry=Retry.none())
    assert (answer.text, answer.finish_reason) == ("a", "error")
    assert answer.error is not None
    assert answer.error.reason == "truncated"


@pytest.mark.parametrize("kind", ["error", "preflight_error"])
def test_an_error_before_content_is_raised(kind: str) -> None:
    with pytest.raises(AdapterError) as caught:
        allm.generate(engine((kind, "authentication", {"status": 401})), "Hi.")
    assert (caught.value.reason, caught.value.status, caught.value.provider) == ("authentication", 401, "fake")


def test_scripts_are_played_one_a_call_and_then_there_is_no_more() -> None:
    fake = FakeEngine(scripts=[[("text", word), ("finish", "stop")] for word in "ab"])
    assert [allm.generate(fake.engine, word).text for word in "xy"] == ["a", "b"]
    with pytest.raises((AdapterError, StreamError)) as caught:
        allm.generate(fake.engine, "z")
    assert caught.value.reason == "no_scripted_response"
    assert fake.calls == 3
    assert [request.messages[0].text for request in fake.requests] == ["x", "y", "z"]


def test_an_engine_without_a_script_has_no_response() -> None:
    with pytest.raises(AdapterError) as caught:
        allm.generate(engine(), "Hi.")
    assert caught.value.reason == "no_scripted_response"


def test_the_cursor_counts_calls_and_not_attempts() -> None:
    fake = FakeEngine(scripts=[[("text", word), ("finish", "stop")] for word in "ab"], retry_until_call=3, retry=SWIFT)
    events = list(allm.stream_generate(fake.engine, "x"))
    assert sum(isinstance(event, RetryScheduled) for event in events) == 2
    assert response(events).text == "a"
    assert (fake.calls, allm.generate(fake.engine, "y").text) == (1, "b")


def test_attempts_that_fail_until_the_last_one_are_service_unavailable() -> None:
    with pytest.raises(AdapterError) as caught:
        allm.generate(engine(("finish", "stop"), retry_until_call=4), "Hi.")
    assert caught.value.reason == "service_unavailable"
    assert [type(play(engine(("finish", "stop"), retry_until_call=2), attempt)[-1]).__name__ for attempt in (1, 2)] == [
        "ErrorOccurred",
        "MessageCompleted",
    ]


def test_engines_made_of_one_another_share_the_cursor_and_others_do_not() -> None:
    played = engine(scripts=[[("text", word), ("finish", "stop")] for word in "ab"])
    other = Engine("fake:any", adapter_opts=played.adapter_opts)
    assert allm.generate(played, "x").text == "a"
    assert allm.generate(played.with_model("other"), "x").text == "b"
    assert allm.generate(other, "x").text == "a"
    assert (log_of(played).calls, log_of(other).calls) == (2, 1)


def test_requests_are_recorded_only_on_demand_and_as_they_were_merged() -> None:
    played = engine(("finish", "stop"), record=True).put_param("temperature", 0.5)
    allm.generate(played, "x", top_p=0.25)
    (request,) = log_of(played).requests
    assert (request.temperature, request.top_p) == (0.5, 0.25)
    silent = engine(("finish", "stop"))
    allm.generate(silent, "x")
    assert (log_of(silent).calls, log_of(silent).requests) == (1, [])


def test_the_fake_reads_error_answers_as_other_wires_do() -> None:
    assert Fake().failure(503, {}, b"").reason == "service_unavailable"
    decoder = Fake().decoder(engine(), CallContext(request_id="req"))
    decoder.headers({})
    assert (decoder.has_content, decoder.block_ids(), decoder.end()) == (False, (), [])
    decoder.body(b'["text","a"]')
    _, partial = decoder.partial("cancelled", None)
    assert (partial.text, partial.finish_reason, decoder.has_content, decoder.block_ids()) == ("a", "cancelled", True, ("b1.1",))


# Bad scripts

BAD: list[tuple[Any, str]] = [
    ("text", "expected (kind, ...)"),
    ((), "expected (kind, ...)"),
    (("speech", "a"), "expected (kind, ...)"),
    (({}, "a"), "expected (kind, ...)"),
    (("text",), "'text' takes 1 to 1 values, got 0"),
    (("text", "a", "b"), "'text' takes 1 to 1 values, got 2"),
    (("text", 5), "'text' takes a text here, got 5"),
    (("reasoning", None), "'reasoning' takes a text here, got None"),
    (("tool_call", 5), "'tool_call' takes a text here, got 5"),
    (("tool_call", "f", "{}"), "'tool_call' takes an object here, got '{}'"),
    (("tool_call", "f", {}, 5), "'tool_call' takes a text here, got 5"),
    (("tool_call_delta", "f"), "'tool_call_delta' takes an object here, got 'f'"),
    (("tool_call_delta", {"nam": "f"}), "unknown fields ['nam']"),
    (("tool_call_delta", {"arguments": {}}), "Expected `str | null`, got `object`"),
    (("usage", 5), "'usage' takes an object here, got 5"),
    (("usage", {"inputs": 5}), "unknown fields ['inputs']"),
    (("usage", {"input_tokens": "5"}), "Expected `int | null`, got `str`"),
    (("finish", "done"), "unknown finish reason 'done'"),
    (("finish", {}), "'finish' takes a text here"),
    (("error", "bad_luck"), "unknown reason 'bad_luck'"),
    (("error", {}), "'error' takes a text here"),
    (("error", "timeout", "slow"), "'error' takes an object here, got 'slow'"),
    (("error", "timeout", {"stats": 5}), "unknown fields ['stats']"),
    (("error", "timeout", {"status": "504"}), "Expected `int | null`, got `str`"),
    (("error", "timeout", {"retry_after": "5"}), "Expected `float | null`, got `str`"),
    (("delay", "long"), "'delay' takes seconds here, got 'long'"),
    (("delay", True), "'delay' takes seconds here, got True"),
    (("delay", -1), "a delay is at least 0 seconds, got -1"),
    (("preflight_error", "timeout"), "a preflight error comes first"),
]


@pytest.mark.parametrize(("item", "problem"), BAD, ids=[repr(item) for item, _ in BAD])
def test_a_bad_item_is_refused_before_the_call_with_its_path(item: Any, problem: str) -> None:
    for opts, path in ({"script": [("text", "a"), item]}, "script[1]"), ({"scripts": [[("text", "a"), item]]}, "scripts[0][1]"):
        with pytest.raises(ValidationError) as caught:
            allm.generate(Engine("fake:any", adapter_opts=opts), "Hi.")
        assert caught.value.metadata == {"path": f"adapter_opts.{path}"}
        assert problem in caught.value.message


def test_a_stream_error_comes_after_content() -> None:
    with pytest.raises(ValidationError, match=r"script\[0\]: a stream error comes after content"):
        steps(engine(("stream_error", "timeout")))


@pytest.mark.parametrize(
    ("opts", "path"),
    [
        ({"script": "text"}, "script"),
        ({"script": 5}, "script"),
        ({"scripts": 5}, "scripts"),
        ({"scripts": [5]}, "scripts[0]"),
        ({"script": [], "retry_until_call": "3"}, "retry_until_call"),
        ({"script": [], "retry_until_call": True}, "retry_until_call"),
    ],
    ids=str,
)
def test_options_that_make_no_sense_are_refused_with_their_path(opts: dict[str, Any], path: str) -> None:
    with pytest.raises(ValidationError) as caught:
        allm.generate(Engine("fake:any", adapter_opts=opts), "Hi.")
    assert caught.value.metadata == {"path": f"adapter_opts.{path}"}
