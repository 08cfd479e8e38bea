"""The simulator's Gemini, and the whole way of a call to it: replies, faults, tools."""

import http.client
import json
from collections.abc import Iterator
from typing import Any

import pytest

import allm
from allm import Request, TextPart, ToolCallPart, ToolSpec
from allm.testing import Fault, Reply, Simulator
from allm.testing.wires.contract import Ask, BadRequest
from allm.testing.wires.gemini import GeminiWire
from allm.testing.wires.script import Failure
from tests.wire.chat import response
from tests.wire.gemini import decoder

WIRE = GeminiWire()
ASK = Ask(model="gemini-x", stream=True)
FAST = allm.Retry(max_attempts=3, base_delay=0.01, max_delay=0.02)


@pytest.fixture
def sim() -> Iterator[Simulator]:
    with Simulator(wires=("chat", "gemini")) as simulator:
        yield simulator


@pytest.fixture
def runtime() -> Iterator[allm.Runtime]:
    with allm.Runtime() as runtime:
        yield runtime


@pytest.fixture
def engine(sim: Simulator) -> allm.Engine:
    return allm.Engine("gemini:gemini-3-flash", base_url=sim.base_url("gemini"), keys={"gemini": "test-key"}, retry=FAST)


REPLIES = [
    Reply(text="Hello you there."),
    Reply(text="Yes.", reasoning="Let me think."),
    Reply(text="Calling.", tool_calls=(("f", {"a": [1, "é"]}), ("f", {}))),
    Reply(refusal="I will not."),
    Reply(text="cut", finish="MAX_TOKENS"),
    Reply(text="odd", finish="NEW_WORD", output_tokens=0),
]


@pytest.mark.parametrize("reply", REPLIES)
def test_a_stream_and_a_body_say_the_same(reply: Reply) -> None:
    frames = WIRE.stream(ASK, reply, 1)
    told = decoder()
    events = [event for piece in (*frames.start, *frames.deltas, *frames.end) for event in told.feed(piece)]
    streamed = response(events + told.end())
    whole = response(decoder().body(WIRE.body(ASK, reply, 1)))
    assert streamed.message.text == whole.message.text == reply.text
    assert streamed.message.reasoning_text == reply.reasoning
    assert [(call.id, call.name, call.arguments) for call in streamed.tool_calls] == [
        (call.id, call.name, call.arguments) for call in whole.tool_calls
    ]
    assert (streamed.finish_reason, streamed.usage, streamed.refusal) == (whole.finish_reason, whole.usage, reply.refusal)
    assert streamed.usage.output_tokens == (reply.told_tokens() or None)


@pytest.mark.parametrize("wire", ["sse", "json"])
def test_a_call_goes_all_the_way(sim: Simulator, runtime: allm.Runtime, engine: allm.Engine, wire: Any) -> None:
    sim.reply(REPLIES[1])
    answer = allm.generate(engine, "Is it?", wire=wire, runtime=runtime)
    assert (answer.text, answer.reasoning_text, answer.model, answer.finish_reason) == ("Yes.", "Let me think.", "gemini-3-flash", "stop")
    (seen,) = sim.requests
    verb = "streamGenerateContent?alt=sse" if wire == "sse" else "generateContent"
    assert (seen.path, seen.text, seen.model) == (f"/v1beta/models/gemini-3-flash:{verb}", "Is it?", "gemini-3-flash")
    assert seen.headers["x-goog-api-key"] == "***"


def test_tools_go_there_and_back(sim: Simulator, runtime: allm.Runtime, engine: allm.Engine) -> None:
    sim.reply(Reply(tool_calls=(("f", {"n": 1}), ("g", {}))), "Done.", Reply(tool_calls=(("f", {}),)))
    tools = (ToolSpec("f"), ToolSpec("g"))
    first = allm.generate(engine, "Go.", tools=tools, runtime=runtime)
    assert [call.id for call in first.tool_calls] == ["call_1", "call_2"]
    thread = [allm.user("Go."), first.message, allm.tool_result("call_2", "b"), allm.tool_result("call_1", "a")]
    assert allm.generate(engine, Request(tuple(thread), tools=tools), runtime=runtime).text == "Done."
    third = allm.generate(engine, Request((*thread, allm.user("Again.")), tools=tools), runtime=runtime)
    assert [call.id for call in third.tool_calls] == ["call_3"]
    sent = sim.requests[1].body["contents"]
    assert [part["functionCall"] for part in sent[1]["parts"]] == [
        {"name": "f", "args": {"n": 1}, "id": "call_1"},
        {"name": "g", "args": {}, "id": "call_2"},
    ]
    assert "thoughtSignature" in sent[1]["parts"][0]
    assert [part["functionResponse"]["response"] for part in sent[2]["parts"]] == [{"output": "a"}, {"output": "b"}]


def test_a_thread_moves_from_one_wire_to_the_other_and_back(sim: Simulator, runtime: allm.Runtime, engine: allm.Engine) -> None:
    chat = allm.Engine("openai.chat:gpt-x", base_url=sim.base_url("chat"), keys={"openai": "test-key"}, retry=FAST)
    sim.reply(Reply(tool_calls=(("f", {}),)), Reply(text="Well.", reasoning="Hm."), "And so on.")
    thread = [allm.user("Go.")]
    for which, tool in ((chat, True), (engine, False), (chat, False)):
        answer = allm.generate(which, Request(tuple(thread), tools=(ToolSpec("f"),)), runtime=runtime)
        thread += [answer.message, *([allm.tool_result(answer.tool_calls[0].id, "ok")] if tool else []), allm.user("And?")]
    assert [request.outcome for request in sim.requests] == ["complete"] * 3
    assert thread[1].tool_calls == (ToolCallPart("call_1", "f", {}, "{}"),)
    assert TextPart("Well.") in thread[4].parts


@pytest.mark.parametrize(
    ("fault", "reason"),
    [
        (Fault(status=429), "rate_limited"),
        (Fault(status=503), "service_unavailable"),
        (Fault(status=500), "server_error"),
        (Fault(cut_after=40), "connection_closed"),
        (Fault(cut_after=40, reset=True), "connection_closed"),
        (Fault(refuse=True), "connection_closed"),
        (Fault(end_after=2), "truncated"),
        (Fault(malformed_after=1), "malformed_response"),
        (Fault(error_after=1), "server_error"),
        (Fault(stall_after=1), "timeout"),
        (Fault(stall_after=1, pings=True, ping_interval=0.02), "timeout"),
    ],
    ids=str,
)
@pytest.mark.parametrize("streams", [True, False], ids=["sse", "json"])
def test_every_fault_is_told_and_mended(
    sim: Simulator, runtime: allm.Runtime, engine: allm.Engine, fault: Fault, reason: str, streams: bool
) -> None:
    options: dict[str, Any] = {
        "wire": "sse" if streams else "json",
        "runtime": runtime,
        "timeouts": allm.Timeouts(first_event=5, idle=0.2, total=None if streams else 0.4),
    }
    sim.reply("one two three four")
    sim.fault(fault)
    assert allm.generate(engine, "Hi.", **options).text == "one two three four"
    sim.fault(fault, times=2 if fault.refuse else 1)  # the connection is a used one by now: it gets a second try for nothing
    sim.reply("one two three four")
    failed = reason_of(engine, {**options, "retry": allm.Retry.none()})
    assert failed in ((reason,) if streams else (reason, "truncated", "malformed_response", "connection_closed"))


def reason_of(engine: allm.Engine, options: dict[str, Any]) -> str:
    try:
        answer = allm.generate(engine, "Hi.", **options)
    except allm.AdapterError as error:
        return error.reason
    assert answer.error is not None
    return answer.error.reason


def test_the_wait_is_told_in_the_body(sim: Simulator, runtime: allm.Runtime, engine: allm.Engine) -> None:
    sim.fault(Fault(status=429, retry_after=200.5, message="slow down"))
    with pytest.raises(allm.AdapterError, match="slow down") as found:
        allm.generate(engine, "Hi.", runtime=runtime)
    assert found.value.retry_after == 200.5
    sim.fault(Fault(status=429, code="insufficient_quota"))
    with pytest.raises(allm.AdapterError) as found:
        allm.generate(engine, "Hi.", runtime=runtime)
    assert found.value.reason == "quota_exceeded"


def test_an_error_has_the_wires_shape() -> None:
    told = json.loads(WIRE.error(Failure(503, "busy", "CODE", 1.5)))["error"]
    assert (told["code"], told["status"], told["message"]) == (503, "UNAVAILABLE", "busy")
    assert [detail.get("reason") or detail["retryDelay"] for detail in told["details"]] == ["CODE", "1.5s"]
    assert [json.loads(WIRE.error(Failure(status, "m")))["error"]["status"] for status in (500, 418)] == ["INTERNAL", "FAILED_PRECONDITION"]


@pytest.mark.parametrize(
    ("path", "body", "status"),
    [
        ("/v1beta/models/m:generateContent", b"{}", 400),
        ("/v1beta/models/m:generateContent", b'{"contents": 5}', 400),
        ("/v1beta/models/m:streamGenerateContent", b'{"contents": [{"parts": []}]}', 400),
        ("/v1beta/models/m:countTokens", b"{}", 404),
    ],
)
def test_a_bad_request_gets_the_wires_error(sim: Simulator, path: str, body: bytes, status: int) -> None:
    connection = http.client.HTTPConnection(sim.url.removeprefix("http://"), timeout=5)
    try:
        connection.request("POST", path, body)
        answer = connection.getresponse()
        told = json.loads(answer.read())["error"]
    finally:
        connection.close()
    assert answer.status == status
    assert "message" in told


def test_the_last_user_turn_is_heard_and_calls_are_counted() -> None:
    turns: list[dict[str, Any]] = [
        {"parts": [{"text": "first"}]},
        {"role": "model", "parts": [{"functionCall": {"name": "f"}}, {"text": "x"}]},
        {"role": "user", "parts": [{"text": "a"}, {"functionResponse": {}}, {"text": "b"}]},
        {"role": "model"},
    ]
    ask = WIRE.parse("/v1beta/models/gemini%2Fx:streamGenerateContent?alt=sse", {"contents": turns})
    assert (ask.model, ask.stream, ask.user_text, ask.calls) == ("gemini/x", True, "a\nb", 1)
    assert WIRE.parse("/m:generateContent", {"contents": [{"role": "model"}]}).user_text == ""
    with pytest.raises(BadRequest):
        WIRE.parse("/m:generateContent", [])
