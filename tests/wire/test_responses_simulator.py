"""The Responses wire of the Simulator: what it says is what the decoder reads, it refuses what the provider refuses, and fails alike."""

from collections.abc import Iterator
from typing import Any

import pytest

import allm
from allm.events import ErrorOccurred, Event
from allm.providers.openai_responses import OpenAIResponses
from allm.testing.simulator import Fault, Reply, Simulator
from allm.testing.wires.contract import Ask, BadRequest
from allm.testing.wires.responses import ResponsesWire
from allm.testing.wires.script import Failure
from tests.wire.chat import failure, response
from tests.wire.responses import decoder, streamed, whole

WIRE = ResponsesWire()
ASK = Ask(model="gpt-5", stream=True)
CALLS: tuple[tuple[str, dict[str, Any]], ...] = (("weather", {"city": "Oslo"}), ("now", {}))
FAST = allm.Retry(base_delay=0.01, max_delay=0.02)

REPLIES = {
    "text": Reply(text="Hello, you there!"),
    "nothing": Reply(),
    "calls": Reply(text="Let me see.", tool_calls=CALLS),
    "only calls": Reply(tool_calls=CALLS),
    "reasoning": Reply(reasoning="Hm, well.", text="Yes."),
    "only reasoning": Reply(reasoning="Hm, well."),
    "refusal": Reply(refusal="I will not."),
    "refusal and text": Reply(refusal="I will not.", text="But see."),
    "cut off": Reply(text="a", finish="incomplete:max_output_tokens", output_tokens=99),
}


def frames(reply: Reply) -> list[bytes]:
    made = WIRE.stream(ASK, reply, 1)
    assert len(made.deltas) == reply.delta_count()
    return [*made.start, *made.deltas, *made.end]


@pytest.mark.parametrize("reply", REPLIES.values(), ids=REPLIES)
def test_a_stream_and_a_body_say_the_same(reply: Reply) -> None:
    answer = response(streamed(*frames(reply)))
    assert response(whole(WIRE.body(ASK, reply, 1))) == answer
    assert (answer.text, answer.reasoning_text, answer.refusal) == (reply.text, reply.reasoning, reply.refusal)
    assert [(call.name, call.arguments) for call in answer.tool_calls] == list(reply.tool_calls)
    assert [call.id for call in answer.tool_calls] == [f"call_{i + 1}" for i in range(len(reply.tool_calls))]
    assert (answer.usage.input_tokens, answer.usage.output_tokens) == (16, reply.told_tokens())
    assert answer.raw_finish_reason == (reply.finish or "completed")


@pytest.mark.parametrize("reply", REPLIES.values(), ids=REPLIES)
def test_what_each_delta_holds_is_content_of_its_own(reply: Reply) -> None:
    made, told = decoder(), WIRE.stream(ASK, reply, 1)
    for start in told.start:
        made.feed(start)
    for delta in told.deltas:
        made.progress = False
        assert made.feed(delta) or made.progress


def test_pings_say_nothing_and_a_malformed_frame_is_malformed() -> None:
    first, *rest = frames(REPLIES["text"])
    assert response(streamed(first, WIRE.ping(ASK, 1), *rest)).text == "Hello, you there!"
    made = decoder()
    made.feed(WIRE.ping(ASK, 1))
    assert not made.progress
    assert failure(streamed(first, WIRE.malformed, *rest))[0] == "malformed_response"


@pytest.mark.parametrize(
    ("status", "reason"),
    [(400, "invalid_request"), (401, "authentication"), (404, "not_found"), (429, "rate_limited"), (500, "server_error")],
)
def test_errors_have_the_shape_of_the_provider(status: int, reason: str) -> None:
    given = Failure(status, "Sorry", None, 2)
    error = OpenAIResponses().failure(status, dict(WIRE.headers(7, given)), WIRE.error(given))
    assert (error.reason, error.message, error.retry_after, error.metadata["provider_request_id"]) == (reason, "Sorry", 2, "req_sim_7")
    assert dict(WIRE.headers(7, None)) == {"x-request-id": "req_sim_7"}


def test_an_error_in_a_stream_is_told_twice_and_read_once() -> None:
    events = streamed(WIRE.stream_error(Failure(429, "Pay", "insufficient_quota")))
    assert failure(events) == ("quota_exceeded", "Pay")
    assert len(events) == 1
    assert failure(streamed(WIRE.stream_error(Failure(500, "Sorry")))) == ("server_error", "Sorry")


def test_a_request_is_read() -> None:
    items: list[dict[str, Any]] = [
        {
            "role": "user",
            "content": [{"type": "input_text", "text": "Well"}, {"type": "input_image"}, {"type": "input_text", "text": "now?"}],
        },
        {"type": "function_call", "call_id": "c1", "name": "f", "arguments": "{}"},
        {"type": "function_call_output", "call_id": "c1", "output": "x"},
    ]
    assert WIRE.parse("/v1/responses", {"model": "m", "input": items, "stream": True}) == Ask(
        model="m", stream=True, user_text="Well\nnow?", calls=1
    )
    assert WIRE.parse("/v1/responses", {"model": "m", "input": "Hi"}) == Ask(model="m", user_text="Hi")
    assert WIRE.parse("/v1/responses", {"model": "m", "input": [{"role": "user"}]}) == Ask(model="m")


@pytest.mark.parametrize(
    ("body", "problem"),
    [({"input": "Hi"}, "'model'"), ({"model": "m"}, "'input'"), ({"model": "m", "input": []}, "'input'"), ([], "Invalid request body")],
)
def test_a_request_without_what_it_needs_is_refused(body: Any, problem: str) -> None:
    with pytest.raises(BadRequest, match=problem):
        WIRE.parse("/v1/responses", body)


def test_it_serves_the_address_of_the_provider() -> None:
    assert WIRE.serves("/v1/responses")
    assert not WIRE.serves("/v1/responses/resp_1")


@pytest.fixture
def sim() -> Iterator[Simulator]:
    with Simulator(wires=("responses",)) as simulator:
        yield simulator


def engine(sim: Simulator, **more: Any) -> allm.Engine:
    return allm.Engine("openai.responses:gpt-5", base_url=sim.base_url("responses"), keys={"openai": "sk-a"}, **more)


@pytest.mark.parametrize("wire", ["sse", "json"])
def test_a_call_over_http(sim: Simulator, wire: Any) -> None:
    sim.reply(Reply(reasoning="Hm.", text="Hello!", tool_calls=CALLS))
    answer = allm.generate(engine(sim), "Hi", wire=wire)
    assert (answer.text, answer.reasoning_text, len(answer.tool_calls)) == ("Hello!", "Hm.", 2)
    (seen,) = sim.requests
    assert (seen.path, seen.text, seen.stream, seen.headers["authorization"]) == ("/v1/responses", "Hi", wire == "sse", "***")
    assert answer.metadata["provider_request_id"] == "req_sim_1"


def test_a_conversation_goes_on_with_what_was_thought_and_called(sim: Simulator) -> None:
    sim.reply(Reply(reasoning="Hm.", tool_calls=CALLS[:1]), Reply(text="Rain."))
    first = allm.generate(engine(sim), "Weather?")
    thread = [allm.user("Weather?"), first.message, allm.tool_result(first.tool_calls[0].id, "rain")]
    assert allm.generate(engine(sim), thread).text == "Rain."
    kinds = [item.get("type", item.get("role")) for item in sim.requests[1].body["input"]]
    assert kinds == ["user", "reasoning", "function_call", "function_call_output"]
    assert sim.requests[1].body["input"][1]["encrypted_content"] == "sealed-1"


@pytest.mark.parametrize(
    "fault",
    [
        Fault(status=503),
        Fault(status=429, retry_after=0.01),
        Fault(cut_after=700),
        Fault(end_after=1),
        Fault(malformed_after=1),
        Fault(error_after=1),
        Fault(refuse=True),
    ],
    ids=lambda fault: next(name for name in fault.__struct_fields__ if getattr(fault, name) not in (None, False, 0.0)),
)
@pytest.mark.parametrize("wire", ["sse", "json"])
def test_faults_are_survived(sim: Simulator, fault: Fault, wire: Any) -> None:
    sim.fault(fault)
    sim.reply("Hello, you there!")
    assert allm.generate(engine(sim, retry=FAST), "Hi", wire=wire).text == "Hello, you there!"
    assert [seen.outcome for seen in sim.requests][-1] == "complete"


def test_a_stream_that_stalls_behind_pings_times_out(sim: Simulator) -> None:
    sim.fault(Fault(stall_after=2, pings=True, ping_interval=0.02))
    sim.reply("Hello, you there!")
    impatient = engine(sim, retry=allm.Retry.none(), timeouts=allm.Timeouts(idle=0.2))
    events: list[Event] = list(allm.stream_generate(impatient, "Hi"))
    assert isinstance(events[-1], ErrorOccurred)
    assert events[-1].error.reason == "timeout"
