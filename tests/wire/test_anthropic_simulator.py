"""The Messages wire of the Simulator: what it says is what the decoder reads, it refuses what the provider refuses, and it fails alike."""

import json
from typing import Any

import pytest

import allm
from allm.blocks import CallContext
from allm.events import ErrorOccurred, Event
from allm.providers.anthropic import Anthropic
from allm.providers.anthropic_decoder import AnthropicDecoder
from allm.responses import Response
from allm.testing.simulator import Fault, Reply, Simulator
from allm.testing.wires.contract import Ask, BadRequest
from allm.testing.wires.messages import MessagesWire
from allm.testing.wires.script import Failure
from tests.wire.anthropic import streamed, whole
from tests.wire.chat import failure, response

WIRE = MessagesWire()
ASK = Ask(model="claude-x", stream=True)
CALLS: tuple[tuple[str, dict[str, Any]], ...] = (("weather", {"city": "Oslo"}), ("now", {}))

REPLIES = {
    "text": Reply(text="Hello, you there!"),
    "nothing": Reply(),
    "calls": Reply(text="Let me see.", tool_calls=CALLS),
    "reasoning": Reply(reasoning="Hm, well.", text="Yes."),
    "refusal": Reply(refusal="I will not."),
    "a word of its own": Reply(text="a", finish="pause_turn", output_tokens=99),
}


def frames(reply: Reply) -> list[bytes]:
    told = WIRE.stream(ASK, reply, 1)
    assert len(told.deltas) == reply.delta_count()
    return [*told.start, *told.deltas, *told.end]


@pytest.mark.parametrize("reply", REPLIES.values(), ids=REPLIES)
def test_a_stream_and_a_body_say_the_same(reply: Reply) -> None:
    told = response(streamed(*frames(reply)))
    assert response(whole(WIRE.body(ASK, reply, 1))) == told
    assert told.text == reply.text
    assert told.reasoning_text == reply.reasoning
    assert told.refusal == reply.refusal
    assert [(call.name, call.arguments) for call in told.tool_calls] == list(reply.tool_calls)
    assert (told.usage.input_tokens, told.usage.output_tokens) == (16, reply.told_tokens())


def test_why_it_ended_is_told_in_the_words_of_the_wire() -> None:
    told = {name: response(streamed(*frames(reply))).raw_finish_reason for name, reply in REPLIES.items()}
    assert [told[name] for name in ("text", "calls", "refusal", "a word of its own")] == ["end_turn", "tool_use", "refusal", "pause_turn"]


def test_pings_say_nothing_and_a_malformed_frame_is_malformed() -> None:
    first, *rest = frames(REPLIES["text"])
    assert response(streamed(first, WIRE.ping(ASK, 1), *rest)).text == "Hello, you there!"
    assert failure(streamed(first, WIRE.malformed, *rest))[0] == "malformed_response"


@pytest.mark.parametrize(
    ("status", "reason"),
    [
        (400, "invalid_request"),
        (401, "authentication"),
        (404, "not_found"),
        (429, "rate_limited"),
        (500, "server_error"),
        (529, "overloaded"),
    ],
)
def test_errors_have_the_shape_of_the_provider(status: int, reason: str) -> None:
    told = Failure(status, "Sorry", None, 2)
    error = Anthropic().failure(status, dict(WIRE.headers(7, told)), WIRE.error(told))
    assert (error.reason, error.message, error.retry_after, error.metadata["provider_request_id"]) == (reason, "Sorry", 2, "req_sim_7")
    assert failure(streamed(WIRE.stream_error(told))) == (reason, "Sorry")


def test_a_code_is_the_type_of_the_error() -> None:
    assert Anthropic().failure(429, {}, WIRE.error(Failure(429, "Pay", "billing_error"))).reason == "quota_exceeded"
    assert dict(WIRE.headers(7, None)) == {"request-id": "req_sim_7"}


def test_a_request_is_read() -> None:
    use: dict[str, Any] = {"type": "tool_use", "id": "c1", "name": "f", "input": {}}
    messages: list[dict[str, Any]] = [
        {"role": "user", "content": [{"type": "text", "text": "Well"}, {"type": "image"}, {"type": "text", "text": "now?"}]},
        {"role": "assistant", "content": [use, use]},
        {"role": "user", "content": [{"type": "tool_result", "tool_use_id": "c1"}]},
    ]
    asked = WIRE.parse("/v1/messages", {"model": "m", "max_tokens": 1, "messages": messages, "stream": True})
    assert asked == Ask(model="m", stream=True, user_text="Well\nnow?", calls=2)
    asked = WIRE.parse("/v1/messages", {"model": "m", "max_tokens": 1, "messages": [{"role": "user", "content": "Hi"}]})
    assert asked == Ask(model="m", user_text="Hi")


@pytest.mark.parametrize("field", ["model", "messages", "max_tokens"])
def test_a_request_without_what_it_needs_is_refused(field: str) -> None:
    body: dict[str, Any] = {"model": "m", "max_tokens": 1, "messages": [{"role": "user", "content": "Hi"}]}
    del body[field]
    with pytest.raises(BadRequest, match=f"{field}: Field required"):
        WIRE.parse("/v1/messages", body)


def test_a_request_that_is_none_is_refused() -> None:
    with pytest.raises(BadRequest, match="Invalid request body"):
        WIRE.parse("/v1/messages", [])


def test_it_serves_the_address_of_the_provider() -> None:
    assert WIRE.serves("/v1/messages")
    assert not WIRE.serves("/v1/messages/count_tokens")


@pytest.fixture
def sim() -> Any:
    with Simulator(wires=("messages",)) as simulator:
        yield simulator


def engine(sim: Simulator, **more: Any) -> allm.Engine:
    return allm.Engine("anthropic:claude-x", base_url=sim.base_url("messages"), keys={"anthropic": "sk-a"}, **more)


FAST = allm.Retry(base_delay=0.01, max_delay=0.02)


@pytest.mark.parametrize("wire", ["sse", "json"])
def test_a_call_over_http(sim: Simulator, wire: Any) -> None:
    sim.reply(Reply(reasoning="Hm.", text="Hello!", tool_calls=CALLS))
    told = allm.generate(engine(sim), "Hi", wire=wire)
    assert (told.text, told.reasoning_text, len(told.tool_calls)) == ("Hello!", "Hm.", 2)
    (seen,) = sim.requests
    assert (seen.path, seen.text, seen.stream, seen.headers["x-api-key"]) == ("/v1/messages", "Hi", wire == "sse", "***")
    assert told.metadata["provider_request_id"] == "req_sim_1"


@pytest.mark.parametrize(
    "fault",
    [
        Fault(status=529),
        Fault(status=429, retry_after=0.01),
        Fault(cut_after=300),
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


def test_block_ids_differ_between_attempts() -> None:
    told = AnthropicDecoder(CallContext(request_id="req", generation=2))
    told.feed(b"".join(frames(REPLIES["text"])[:3]))
    assert told.block_ids() == ("b2.1",)
    _, partial = told.partial("error", None)
    assert isinstance(partial, Response)
    assert json.loads(allm.to_json(partial))["finish_reason"] == "error"
