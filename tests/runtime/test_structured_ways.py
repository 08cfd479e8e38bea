"""How an answer by a schema is asked for: the engine's word, and what `auto` finds out where a host refuses the wire's own way."""

import json
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import pytest

import allm
from allm.actors.asking import KnownWays
from tests.runtime.support import FAST, RawServer, Visit, chat_event, http

Serve = Callable[[Callable[[Visit], object]], RawServer]
SCHEMA, JSON, TOOL = WAYS = "schema", "json", "tool"
LLAMA = "1 validation error: response_format.type: Input should be 'text' or 'json_object'"


@dataclass
class Count:
    n: int


def way_of(body: dict[str, Any]) -> str:
    if any(tool["function"]["name"] == "allm_answer" for tool in body.get("tools", ())):
        return TOOL
    return {"json_schema": SCHEMA, "json_object": JSON}[body["response_format"]["type"]]


def refusal(message: str, status: int = 400) -> bytes:
    body = json.dumps({"error": {"message": message, "type": "invalid_request_error"}}).encode()
    return http(body, "application/json", f"{status} Refused")


def call_delta(name: str | None, arguments: str, index: int = 0) -> dict[str, Any]:
    call = {"index": index, "function": {"arguments": arguments}}
    if name is not None:
        call |= {"id": f"c{index}", "type": "function", "function": {"name": name, "arguments": arguments}}
    return {"tool_calls": [call]}


def chunk(delta: dict[str, Any], finish: str | None = None) -> bytes:
    return b"data: " + json.dumps({"id": "c", "choices": [{"index": 0, "delta": delta, "finish_reason": finish}]}).encode() + b"\n\n"


def answer(body: dict[str, Any], text: str = '{"n": 7}') -> bytes:
    """The answer in the way in which it was asked for, as a stream or in one body."""
    by_tool = way_of(body) == TOOL
    if not body.get("stream"):
        call = {"id": "c0", "type": "function", "function": {"name": "allm_answer", "arguments": text}}
        message = {"role": "assistant", "content": None, "tool_calls": [call]} if by_tool else {"role": "assistant", "content": text}
        whole = {"id": "c", "choices": [{"index": 0, "message": message, "finish_reason": "tool_calls" if by_tool else "stop"}]}
        return http(json.dumps(whole).encode(), "application/json")
    half = len(text) // 2
    if by_tool:
        told = chunk(call_delta("allm_answer", text[:half])) + chunk(call_delta(None, text[half:])) + chunk({}, "tool_calls")
    else:
        told = chat_event(text[:half]) + chat_event(text[half:]) + chat_event(finish="stop")
    return http(told + b"data: [DONE]\n\n")


def host(serve: Serve, refused: dict[str, bytes], answered: Callable[[dict[str, Any]], bytes] = answer) -> RawServer:
    """A host that refuses these ways."""

    def respond(visit: Visit) -> None:
        while visit.read() is not None:
            body = json.loads(server.bodies[-1])
            visit.send(refused.get(way_of(body)) or answered(body))

    server = serve(respond)
    return server


def ways(server: RawServer) -> list[str]:
    return [way_of(json.loads(body)) for body in server.bodies]


def engine_at(server: RawServer, adapter: str = "openai.chat:m", **more: Any) -> allm.Engine:
    fields: dict[str, Any] = {"base_url": server.url, "keys": {"openai": "k"}, "retry": allm.Retry(**FAST), **more}
    return allm.Engine(adapter, **fields)


@pytest.mark.parametrize("wire", ["sse", "json"])
@pytest.mark.parametrize("way", WAYS)
def test_the_engine_names_the_way_and_the_answer_is_read_alike(serve: Serve, runtime: allm.Runtime, way: Any, wire: Any) -> None:
    server = host(serve, {})
    response = allm.generate(engine_at(server, structured=way), "How many?", response_format=Count, wire=wire, runtime=runtime)
    assert response.parsed == Count(7)
    assert (response.text, response.tool_calls, response.finish_reason) == ('{"n": 7}', (), "stop")
    assert ways(server) == [way]


@pytest.mark.parametrize("wire", ["sse", "json"])
@pytest.mark.parametrize("status", [400, 404, 415, 422, 500, 501])
def test_auto_finds_out_once_what_a_host_takes(serve: Serve, runtime: allm.Runtime, status: int, wire: Any) -> None:
    server = host(serve, {SCHEMA: refusal(LLAMA, status)})
    engine = engine_at(server)
    for _ in range(2):
        assert allm.generate(engine, "How many?", response_format=Count, wire=wire, runtime=runtime).parsed == Count(7)
    assert ways(server) == [SCHEMA, JSON, JSON]
    assert allm.generate(engine, "How many?", response_format=Count, model="other", runtime=runtime).parsed == Count(7)
    assert ways(server)[3:] == [SCHEMA, JSON]


def test_another_runtime_finds_out_for_itself(serve: Serve, runtime: allm.Runtime) -> None:
    server = host(serve, {SCHEMA: refusal(LLAMA)})
    allm.generate(engine_at(server), "How many?", response_format=Count, runtime=runtime)
    with allm.Runtime() as another:
        allm.generate(engine_at(server), "How many?", response_format=Count, runtime=another)
    assert ways(server) == [SCHEMA, JSON] * 2


def test_asking_in_another_way_is_told_and_is_no_attempt(serve: Serve, runtime: allm.Runtime) -> None:
    server = host(serve, {SCHEMA: refusal(LLAMA), JSON: refusal("json_object is not supported")})
    engine = engine_at(server, retry=allm.Retry.none())
    with allm.stream(engine, "How many?", response_format=Count, runtime=runtime) as stream:
        events = list(stream)
    assert [(event.attempt, event.delay) for event in events if isinstance(event, allm.RetryScheduled)] == [(1, 0.0)] * 2
    assert {event.attempt for event in events if isinstance(event, allm.RequestStarted)} == {1}
    assert "".join(event.delta for event in events if isinstance(event, allm.TextDelta)) == '{"n": 7}'
    assert not [event for event in events if isinstance(event, allm.ToolCallStarted | allm.ToolCallCompleted)]
    assert stream.response().parsed == Count(7)
    assert ways(server) == [SCHEMA, JSON, TOOL]


@pytest.mark.parametrize("status", [400, 500])
def test_where_all_ways_are_refused_the_first_refusal_is_told(serve: Serve, runtime: allm.Runtime, status: int) -> None:
    server = host(serve, {SCHEMA: refusal(LLAMA, status), JSON: refusal("no JSON mode: response_format is not supported", status),
                          TOOL: refusal("tool_choice is not supported", status)})  # fmt: skip
    for _ in range(2):
        with pytest.raises(allm.AdapterError) as raised:
            allm.generate(engine_at(server), "How many?", response_format=Count, runtime=runtime)
        assert (raised.value.message, raised.value.status) == (LLAMA, status)
    assert ways(server) == [SCHEMA, JSON, TOOL] * 2


def test_an_error_about_something_else_is_told_as_it_is(serve: Serve, runtime: allm.Runtime) -> None:
    server = host(serve, {SCHEMA: refusal(LLAMA), JSON: refusal("this model does not take images")})
    with pytest.raises(allm.AdapterError, match="does not take images"):
        allm.generate(engine_at(server), "How many?", response_format=Count, runtime=runtime)
    assert ways(server) == [SCHEMA, JSON]


@pytest.mark.parametrize(
    ("status", "message"),
    [
        (400, "Unknown field 'seed'"),
        (400, "Invalid schema for response_format 'Count': 'additionalProperties' is required to be supplied and to be false."),
        (422, '[{"type":"missing","loc":["body","model"],"msg":"Field required","input":{"response_format":{"type":"json_schema"}}}]'),
        (401, "response_format is not supported without a key"),
        (403, "structured outputs are not enabled for this project"),
    ],
)
def test_what_is_no_refusal_of_the_way_is_not_asked_again(serve: Serve, runtime: allm.Runtime, status: int, message: str) -> None:
    server = host(serve, {SCHEMA: refusal(message, status)})
    with pytest.raises(allm.AdapterError):
        allm.generate(engine_at(server), "How many?", response_format=Count, runtime=runtime)
    assert ways(server) == [SCHEMA]


def test_a_way_that_the_engine_names_is_the_only_one(serve: Serve, runtime: allm.Runtime) -> None:
    server = host(serve, {SCHEMA: refusal(LLAMA)})
    with pytest.raises(allm.AdapterError, match="validation error"):
        allm.generate(engine_at(server, structured="schema"), "How many?", response_format=Count, runtime=runtime)
    assert ways(server) == [SCHEMA]


def test_a_way_that_worked_and_is_refused_later_is_left(serve: Serve, runtime: allm.Runtime) -> None:
    refused = {SCHEMA: refusal(LLAMA)}
    server = host(serve, refused)
    engine = engine_at(server)
    allm.generate(engine, "How many?", response_format=Count, runtime=runtime)
    refused.clear()
    refused[JSON] = refusal("'response_format.type' must be 'json_schema' or 'text'")  # another server at this address
    for _ in range(2):
        assert allm.generate(engine, "How many?", response_format=Count, runtime=runtime).parsed == Count(7)
    assert ways(server) == [SCHEMA, JSON, JSON, SCHEMA, SCHEMA]


def test_a_refusal_inside_an_answer_that_began_well_counts_too(serve: Serve, runtime: allm.Runtime) -> None:
    event = {"error": {"code": 400, "message": "Provider returned error", "metadata": {"raw": "This response_format is unavailable now"}}}
    server = host(serve, {SCHEMA: http(b"data: " + json.dumps(event).encode() + b"\n\n")})
    assert allm.generate(engine_at(server), "How many?", response_format=Count, runtime=runtime).parsed == Count(7)
    assert ways(server) == [SCHEMA, JSON]


def test_a_loop_has_its_tools_and_its_answer_in_each_way(serve: Serve, runtime: allm.Runtime) -> None:
    """The tool runs, the answer's tool does not, and what is stored has no call of it."""
    runs: list[int] = []

    def look(at: int) -> int:
        """Look."""
        runs.append(at)
        return at

    def answered(body: dict[str, Any]) -> bytes:
        if any(message["role"] == "tool" for message in body["messages"]):
            return answer(body)
        return http(chunk(call_delta("look", '{"at": 3}')) + chunk({}, "tool_calls") + b"data: [DONE]\n\n")

    server = host(serve, {SCHEMA: refusal(LLAMA), JSON: refusal("json mode cannot be combined with tool/function calling")}, answered)
    result = allm.chat(engine_at(server, tools=[look]), "How many?", response_format=Count, runtime=runtime)
    assert (result.parsed, result.halted_reason, runs) == (Count(7), "completed", [3])
    assert [call.name for message in result.thread.messages if message.role == "assistant" for call in message.tool_calls] == ["look"]
    assert ways(server) == [SCHEMA, JSON, TOOL, TOOL]
    assert {json.loads(body)["tool_choice"] for body in server.bodies[2:]} == {"required"}


def test_a_loop_that_ends_with_a_structured_answer_asks_for_it_in_the_way_that_works(serve: Serve, runtime: allm.Runtime) -> None:
    def answered(body: dict[str, Any]) -> bytes:
        return answer(body) if "response_format" in body else http(chat_event("Seven.") + chat_event(finish="stop"))

    def respond(visit: Visit) -> None:
        while visit.read() is not None:
            body = json.loads(server.bodies[-1])
            visit.send(refusal(LLAMA) if body.get("response_format", {}).get("type") == "json_schema" else answered(body))

    server = serve(respond)
    result = allm.chat(engine_at(server), "How many?", response_format=Count, structured_finalize=True, runtime=runtime)
    assert result.parsed == Count(7)
    assert [json.loads(body).get("response_format", {}).get("type") for body in server.bodies] == [None, "json_schema", "json_object"]


def test_a_call_whose_tools_take_the_name_is_not_asked_by_the_tool(serve: Serve, runtime: allm.Runtime) -> None:
    tool = allm.ToolSpec("allm_answer", "Mine.", {"type": "object", "properties": {}})
    server = serve(lambda visit: [visit.send(refusal(LLAMA)) for _ in iter(visit.read, None)])
    with pytest.raises(allm.AdapterError, match="validation error"):
        allm.generate(engine_at(server), "How many?", tools=[tool], response_format=Count, runtime=runtime)
    assert len(server.bodies) == 2
    with pytest.raises(allm.ValidationError, match=r"tools\[0\].name"):
        allm.generate(engine_at(server, structured="tool"), "How many?", tools=[tool], response_format=Count, runtime=runtime)


def test_the_end_of_a_stream_in_the_midst_of_the_answers_tool_keeps_what_came(serve: Serve, runtime: allm.Runtime) -> None:
    told = chunk(call_delta("allm_answer", '{"n": ')) + chunk(call_delta(None, "7"))
    server = serve(lambda visit: visit.read() and visit.send(http(told)))
    with allm.stream(engine_at(server, structured="tool"), "How many?", response_format=Count, runtime=runtime) as stream:
        events = list(stream)
    response = stream.response().final_response
    assert response is not None
    assert (response.text, response.tool_calls, response.finish_reason) == ('{"n": 7', (), "error")
    assert [event.text for event in events if isinstance(event, allm.TextCompleted)] == ['{"n": 7']


def test_on_responses_the_ways_are_the_same(serve: Serve, runtime: allm.Runtime) -> None:
    def respond(visit: Visit) -> None:
        while visit.read() is not None:
            body = json.loads(server.bodies[-1])
            if body.get("tools"):
                call = {"type": "function_call", "id": "f", "call_id": "c", "name": "allm_answer", "arguments": '{"n": 7}'}
                whole = {"id": "r", "object": "response", "status": "completed", "output": [{**call, "status": "completed"}]}
                visit.send(http(json.dumps(whole).encode(), "application/json"))
            else:
                visit.send(refusal(f"text.format: {body['text']['format']['type']} is not supported"))

    server = serve(respond)
    engine = engine_at(server, "openai.responses:m")
    for _ in range(2):
        response = allm.generate(engine, "How many?", response_format=Count, runtime=runtime)
        assert (response.parsed, response.tool_calls, response.finish_reason) == (Count(7), (), "stop")
    told = [json.loads(body).get("text", {}).get("format", {}).get("type", TOOL) for body in server.bodies]
    assert told == ["json_schema", "json_object", TOOL, TOOL]


def test_what_is_remembered_is_bounded_and_the_newest_stays() -> None:
    known = KnownWays(most=2)
    hosts = [("openai.chat", "http://h", model) for model in "abc"]
    known.note(hosts[0], JSON)
    known.note(hosts[1], JSON)
    known.note(hosts[0], JSON)
    known.note(hosts[2], TOOL)
    assert [known.of(host) for host in hosts] == [JSON, None, TOOL]
    known.note(hosts[2], None)
    assert (known.of(hosts[2]), len(known)) == (None, 1)
