"""Plain calls: every way to make one gives the same response, and options say what goes out and what comes back."""

import asyncio
import json
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any, NamedTuple

import pytest

import allm
from allm.events import Event
from allm.testing import Fake, Fault, Reply, Simulator
from tests.runtime.conftest import Make
from tests.runtime.support import WAIT, eventually, first_delta, kinds, living, one_end, text_of

REPLY = Reply(text="It is fine there.", reasoning="Let me look.", tool_calls=(("weather", {"city": "Oslo"}),))
TOOL = allm.Tool(name="weather", description="The weather", schema={"type": "object", "properties": {"city": {"type": "string"}}})


def folded(engine: allm.Engine, **opts: Any) -> Any:
    return allm.generate(engine, "Hi", **opts)


def drained(engine: allm.Engine, **opts: Any) -> Any:
    return allm.stream_generate(engine, "Hi", **opts).response()


def iterated(engine: allm.Engine, **opts: Any) -> Any:
    return allm.fold(allm.stream_generate(engine, "Hi", **opts))


def answered_after_iterating(engine: allm.Engine, **opts: Any) -> Any:
    stream = allm.stream_generate(engine, "Hi", **opts)
    list(stream)
    return stream.result()


def awaited_call(engine: allm.Engine, **opts: Any) -> Any:
    return asyncio.run(allm.aio.generate(engine, "Hi", **opts))


def awaited_stream(engine: allm.Engine, **opts: Any) -> Any:
    async def go() -> Any:
        return await allm.stream_generate(engine, "Hi", **opts)

    return asyncio.run(go())


def iterated_async(engine: allm.Engine, **opts: Any) -> Any:
    async def go() -> Any:
        return allm.fold([event async for event in allm.stream_generate(engine, "Hi", **opts)])

    return asyncio.run(go())


WAYS: tuple[Callable[..., Any], ...] = (
    folded, drained, iterated, answered_after_iterating, awaited_call, awaited_stream, iterated_async,
)  # fmt: skip


@pytest.mark.parametrize("wire", ["sse", "json"])
@pytest.mark.parametrize("way", WAYS, ids=lambda way: way.__name__)
def test_every_way_to_make_a_call_gives_the_same_response(
    way: Callable[..., Any], wire: str, sim: Simulator, engine: allm.Engine, runtime: allm.Runtime
) -> None:
    sim.reply(REPLY)
    response = way(engine, runtime=runtime, wire=wire, request_id="req-1")
    assert response.text == "It is fine there."
    assert response.reasoning_text == "Let me look."
    assert [(call.id, call.name, call.arguments) for call in response.tool_calls] == [("call_1", "weather", {"city": "Oslo"})]
    assert (response.id, response.request_id, response.model) == ("chatcmpl-sim-1", "req-1", "m")
    assert (response.finish_reason, response.raw_finish_reason, response.error) == ("tool_calls", "tool_calls", None)
    assert (response.usage.input_tokens, response.usage.output_tokens) == (16, REPLY.delta_count())
    assert response.raise_for_error() is response
    (request,) = sim.requests
    assert (request.stream, request.outcome) == (wire == "sse", "complete")


def test_the_text_of_a_stream_comes_piece_by_piece_in_both_worlds(sim: Simulator, engine: allm.Engine, runtime: allm.Runtime) -> None:
    async def go() -> list[str]:
        return [text async for text in allm.stream_generate(engine, "Hi", runtime=runtime).text_deltas()]

    sim.reply(REPLY, REPLY)
    pieces = list(REPLY.text_pieces())
    assert list(allm.stream_generate(engine, "Hi", runtime=runtime).text_deltas()) == pieces
    assert asyncio.run(go()) == pieces


def test_leaving_the_text_closes_the_stream_in_both_worlds(sim: Simulator, engine: allm.Engine, runtime: allm.Runtime) -> None:
    async def go() -> None:
        async for _ in allm.stream_generate(engine, "Hi", runtime=runtime).text_deltas():
            break
        assert await asyncio.to_thread(sim.wait_idle)

    sim.reply(*[Reply(text="word " * 400, delay=0.02)] * 2)
    for _ in allm.stream_generate(engine, "Hi", runtime=runtime).text_deltas():
        break
    assert sim.wait_idle()
    asyncio.run(go())
    assert [request.outcome for request in sim.requests] == ["client closed"] * 2


def test_an_event_stream_is_understood_though_one_body_was_asked_for_and_the_other_way_round(
    raw: Callable[..., Any], runtime: allm.Runtime
) -> None:
    from tests.runtime.support import answers, chat_body, chat_stream, http

    _, engine = raw(
        answers(http(chat_stream("a", "b")), http(chat_body("ab"), "application/json"), http(chat_stream("a", "b"), "text/plain"))
    )
    for wire in ("json", "sse", "sse"):
        assert allm.generate(engine, "Hi", runtime=runtime, wire=wire).text == "ab"


# what goes out


class Case(NamedTuple):
    params: dict[str, Any]
    fields: dict[str, Any]
    opts: dict[str, Any]
    sent: Any


@pytest.mark.parametrize(
    "case",
    [
        Case({"temperature": 0.1}, {}, {}, 0.1),
        Case({"temperature": 0.1}, {"temperature": 0.2}, {}, 0.2),
        Case({"temperature": 0.1}, {"temperature": 0.2}, {"temperature": 0.0}, 0.0),
        Case({}, {}, {}, None),
    ],
)
def test_options_win_over_the_request_and_this_over_the_engine(case: Case, sim: Simulator, fast: Make, runtime: allm.Runtime) -> None:
    request = allm.request([allm.user("Hi")], **case.fields)
    allm.generate(fast(params=case.params), request, runtime=runtime, **case.opts)
    assert sim.requests[0].body.get("temperature") == case.sent


def test_the_model_comes_from_the_option_the_request_or_the_engine(sim: Simulator, fast: Make, runtime: allm.Runtime) -> None:
    request = allm.request([allm.user("Hi")], model="of-request")
    allm.generate(fast(), "Hi", runtime=runtime)
    allm.generate(fast(), request, runtime=runtime)
    allm.generate(fast(), request, runtime=runtime, model="of-call")
    assert [each.model for each in sim.requests] == ["m", "of-request", "of-call"]


def test_what_only_the_provider_knows_goes_into_its_body_unchanged(sim: Simulator, fast: Make, runtime: allm.Runtime) -> None:
    engine = fast(params={"options": {"a": 1, "b": 1, "c": 1}})
    request = allm.request([allm.user("Hi")], options={"b": 2, "c": 2})
    allm.generate(engine, request, runtime=runtime, options={"c": {"deep": [3]}})
    body = sim.requests[0].body
    assert (body["a"], body["b"], body["c"]) == (1, 2, {"deep": [3]})


@pytest.mark.parametrize("call", [allm.generate, allm.stream_generate])
def test_an_unknown_option_is_a_type_error_that_names_options(call: Callable[..., Any], sim: Simulator, fast: Make) -> None:
    with pytest.raises(TypeError, match=r"temprature.*options="):
        call(fast(), "Hi", temprature=1)
    assert not sim.requests


@pytest.mark.parametrize(
    ("opts", "path"),
    [
        ({"wire": "xml"}, "wire"),
        ({"retry": 3}, "retry"),
        ({"timeouts": 3}, "timeouts"),
        ({"temperature": 9}, "temperature"),
        ({"tool_choice": "hammer"}, "tool_choice"),
        ({"metadata": {"x": float("nan")}}, "metadata.x"),
        ({"request_id": 3}, "request_id"),
        ({"on_event": 3}, "on_event"),
        ({"tools": "weather"}, "tools"),
        ({"tools": [3]}, "tools[0]"),
        ({"tools": [TOOL, TOOL]}, "tools[1].name"),
    ],
)
def test_a_bad_option_is_refused_with_its_path_before_anything_is_sent(
    opts: dict[str, Any], path: str, sim: Simulator, fast: Make, runtime: allm.Runtime
) -> None:
    with pytest.raises(allm.ValidationError) as raised:
        allm.generate(fast(), "Hi", runtime=runtime, api_key="sk-1", **opts)
    assert raised.value.metadata["path"] == path
    assert not sim.requests
    assert repr(runtime.vault) == "<Vault of 0>"


@pytest.mark.parametrize(
    ("request_", "messages"),
    [
        ("Hi", [("user", "Hi")]),
        (allm.user("Hi"), [("user", "Hi")]),
        ([allm.system("Be brief."), allm.user("Hi")], [("system", "Be brief."), ("user", "Hi")]),
        ((allm.user("Hi"),), [("user", "Hi")]),
        (allm.Thread().add_user("Hi").add_assistant("Yes?").add_user("No"), [("user", "Hi"), ("assistant", "Yes?"), ("user", "No")]),
        (allm.request([allm.user("Hi")]), [("user", "Hi")]),
    ],
    ids=["text", "message", "list", "tuple", "thread", "request"],
)
def test_a_request_may_be_given_as(request_: Any, messages: list[Any], sim: Simulator, fast: Make, runtime: allm.Runtime) -> None:
    allm.generate(fast(), request_, runtime=runtime)
    assert [(each["role"], each["content"]) for each in sim.requests[0].body["messages"]] == messages


@pytest.mark.parametrize(("engine", "request_"), [(None, 3), (None, {"role": "user"}), ("openai.chat:m", "Hi")])
def test_anything_else_is_refused(engine: Any, request_: Any, fast: Make) -> None:
    with pytest.raises(allm.ValidationError):
        allm.generate(engine or fast(), request_)


def brief(turn: allm.TurnContext) -> str:
    return f"Be {turn.context['how']}, {turn.metadata['to']}."


def wordless(turn: allm.TurnContext) -> int:
    return 3


@pytest.mark.parametrize("given", ["Be brief, Ann.", brief, allm.importable(f"{__name__}:brief")], ids=["text", "function", "importable"])
def test_the_engines_instructions_come_first(given: Any, sim: Simulator, fast: Make, runtime: allm.Runtime) -> None:
    engine = fast(instructions=given, context={"how": "brief"})
    allm.generate(engine, allm.request([allm.user("Hi")], metadata={"to": "Ann"}), runtime=runtime)
    assert sim.requests[0].body["messages"][0] == {"role": "system", "content": "Be brief, Ann."}


def test_instructions_that_are_no_text_are_refused(fast: Make) -> None:
    with pytest.raises(allm.ValidationError, match="instructions"):
        allm.generate(fast(instructions=wordless), "Hi")


def test_tools_of_engine_request_and_call_reach_the_body_one_of_a_name(sim: Simulator, fast: Make, runtime: allm.Runtime) -> None:
    engine = fast(tools=[TOOL, allm.Tool(name="clock")])
    request = allm.request([allm.user("Hi")], tools=(allm.ToolSpec("map"),))
    allm.generate(engine, request, runtime=runtime, tools=[allm.Tool(name="clock", description="of the call")], tool_choice="weather")
    body = sim.requests[0].body
    sent = {tool["function"]["name"]: tool["function"] for tool in body["tools"]}
    assert list(sent) == ["weather", "clock", "map"]
    assert sent["weather"]["parameters"] == json.loads(json.dumps(TOOL.schema))
    assert sent["clock"]["description"] == "of the call"
    assert body["tool_choice"] == {"type": "function", "function": {"name": "weather"}}


def test_a_call_id_that_the_thread_has_is_not_given_twice(sim: Simulator, fast: Make, runtime: allm.Runtime) -> None:
    thread = allm.Thread((
        allm.user("Hi"),
        allm.Message("assistant", (allm.ToolCallPart("call_2", "weather", {}),)),
        allm.tool_result("call_2", "rain"),
    ))  # fmt: skip
    sim.reply(REPLY)  # the simulator counts on: call_2
    (call,) = allm.generate(fast(), thread, runtime=runtime).tool_calls
    assert call.id != "call_2"


# what comes back


@pytest.mark.parametrize("wire", ["sse", "json"])
def test_on_event_sees_every_event_in_order_on_folds_too(wire: Any, sim: Simulator, fast: Make, runtime: allm.Runtime) -> None:
    sim.reply(REPLY, REPLY)
    watched: list[Event] = []
    ended = threading.Event()

    def see(event: Event) -> None:
        watched.append(event)
        if isinstance(event, allm.MessageCompleted):
            ended.set()

    streamed = list(allm.stream_generate(fast(), "Hi", runtime=runtime, wire=wire))
    response = allm.generate(fast(), "Hi", runtime=runtime, wire=wire, on_event=see)
    assert ended.wait(WAIT)
    assert kinds(watched) == kinds(streamed)
    assert watched[-1] == allm.MessageCompleted(response)


def test_on_event_sees_what_the_consumer_asked_not_to_see(sim: Simulator, fast: Make, runtime: allm.Runtime) -> None:
    sim.reply(REPLY)
    watched: list[Event] = []
    stream = allm.stream_generate(fast(), "Hi", runtime=runtime, emit_text_deltas=False, emit_tool_deltas=False, on_event=watched.append)
    events = list(stream)
    eventually(lambda: watched and isinstance(watched[-1], allm.MessageCompleted), "the end is told")
    assert {"TextDelta", "ToolCallDelta"} <= set(kinds(watched))
    assert not {"TextDelta", "ToolCallDelta"} & set(kinds(events))
    assert "ReasoningDelta" in kinds(events)


def test_on_event_gets_the_error_of_a_call_that_raises(sim: Simulator, fast: Make, runtime: allm.Runtime) -> None:
    sim.fault(Fault(status=400))
    watched: list[Event] = []
    with pytest.raises(allm.AdapterError):
        allm.generate(fast(), "Hi", runtime=runtime, on_event=watched.append)
    eventually(lambda: watched and isinstance(watched[-1], allm.ErrorOccurred), "the error is told")
    assert kinds(watched) == ["RequestStarted", "ErrorOccurred"]


@pytest.mark.parametrize("raised", [ValueError, SystemExit, KeyboardInterrupt])
def test_an_on_event_that_raises_changes_nothing_and_is_called_again(
    raised: type[BaseException], sim: Simulator, fast: Make, runtime: allm.Runtime
) -> None:
    seen: list[Event] = []

    def bad(event: Event) -> None:
        seen.append(event)
        raise raised("no")

    stream = allm.stream_generate(fast(), "Hi", runtime=runtime, on_event=bad)
    events = list(stream)
    assert stream.response().finish_reason == "stop"
    eventually(lambda: len(seen) == len(events), "it is called with every event")


def test_a_slow_on_event_holds_nobody_up(sim: Simulator, fast: Make, runtime: allm.Runtime) -> None:
    go_on = threading.Event()
    seen: list[Event] = []

    def slow(event: Event) -> None:
        go_on.wait(WAIT)
        seen.append(event)

    stream = allm.stream_generate(fast(), "Hi", runtime=runtime, on_event=slow)
    events = list(stream)
    assert stream.response().finish_reason == "stop"
    assert not seen
    go_on.set()
    eventually(lambda: seen == events, "it sees them all in the end")
    eventually(lambda: not [name for name in living() if name.startswith("Listener")], "its actor is gone")


def test_an_on_event_that_falls_far_behind_is_spared_the_deltas_and_gets_whole_blocks(runtime: allm.Runtime) -> None:
    go_on = threading.Event()
    watched: list[Event] = []

    def slow(event: Event) -> None:
        go_on.wait(WAIT)
        watched.append(event)

    words = [f"{number} " for number in range(2_500)]
    fake = Fake([*[("text", word) for word in words], ("finish", "stop")])
    response = allm.generate(fake.engine, "Hi", runtime=runtime, on_event=slow)
    assert response.text == "".join(words)
    go_on.set()
    eventually(lambda: watched and isinstance(watched[-1], allm.MessageCompleted), "it is told the end")
    assert len(text_of(watched).split()) < len(words)
    assert [event.text for event in watched if isinstance(event, allm.TextCompleted)] == [response.text]


@pytest.mark.parametrize("url", ["http://127.0.0.1/v1?key=sk-1", "http://user:pw@127.0.0.1/v1", "http://127.0.0.1/v1#here"])
def test_an_address_with_more_than_a_path_is_refused_without_being_shown(url: str, fast: Make, runtime: allm.Runtime) -> None:
    with pytest.raises(allm.ValidationError) as raised:
        allm.generate(fast(base_url=url), "Hi", runtime=runtime)
    assert raised.value.metadata["path"] == "engine.base_url"
    assert "sk-1" not in str(raised.value)
    assert "pw" not in str(raised.value)


def test_folds_are_right_with_deltas_off(sim: Simulator, fast: Make, runtime: allm.Runtime) -> None:
    sim.reply(REPLY, REPLY)
    whole = allm.generate(fast(), "Hi", runtime=runtime)
    events = list(allm.stream_generate(fast(), "Hi", runtime=runtime, emit_text_deltas=False, emit_tool_deltas=False))
    folded = allm.fold(events)
    assert isinstance(folded, allm.Response)
    assert folded.message == whole.message
    assert isinstance(one_end(events), allm.MessageCompleted)
    assert [event.text for event in events if isinstance(event, allm.TextCompleted)] == [REPLY.text]


def test_raw_chunks_come_when_they_are_asked_for(sim: Simulator, fast: Make, runtime: allm.Runtime) -> None:
    plain = list(allm.stream_generate(fast(), "Hi", runtime=runtime))
    raw = list(allm.stream_generate(fast(), "Hi", runtime=runtime, include_raw_chunks=True))
    assert "RawChunk" not in kinds(plain)
    chunks = [event.chunk for event in raw if isinstance(event, allm.RawChunk)]
    assert chunks[0]["object"] == "chat.completion.chunk"
    assert text_of(raw) == text_of(plain)


def test_metadata_and_the_request_id_are_told(sim: Simulator, fast: Make, runtime: allm.Runtime) -> None:
    response = allm.generate(fast(), "Hi", runtime=runtime)
    assert response.request_id is not None
    assert response.request_id.startswith("req-")
    assert response.metadata["provider_request_id"] == "req_sim_1"


# streams


def test_nothing_is_sent_before_the_first_event_is_asked_for(sim: Simulator, fast: Make, runtime: allm.Runtime) -> None:
    stream = allm.stream_generate(fast(), "Hi", runtime=runtime)
    events = iter(stream)
    assert "not started" in repr(stream)
    assert not sim.wait_requests(1, 0.1)
    assert isinstance(next(events), allm.RequestStarted)
    assert sim.wait_requests(1)
    assert "running" in repr(stream) or "done" in repr(stream)
    assert text_of(events)
    assert "done" in repr(stream)


def test_a_finished_stream_is_not_iterated_again_but_still_answers(sim: Simulator, fast: Make, runtime: allm.Runtime) -> None:
    async def again(stream: allm.Stream) -> None:
        with pytest.raises(allm.StreamError) as raised:
            async for _ in stream:
                pass
        assert raised.value.reason == "consumed"
        assert (await stream).text == REPLY.text

    sim.reply(REPLY)
    stream = allm.stream_generate(fast(), "Hi", runtime=runtime, request_id="req-1")
    list(stream)
    for events in (stream, stream.text_deltas()):
        with pytest.raises(allm.StreamError) as raised:
            list[object](events)
        assert (raised.value.reason, raised.value.request_id) == ("consumed", "req-1")
    asyncio.run(again(stream))
    assert stream.response().text == stream.result().text == REPLY.text
    assert len(sim.requests) == 1


def test_a_stream_whose_response_was_asked_for_is_consumed(fast: Make, runtime: allm.Runtime) -> None:
    stream = allm.stream_generate(fast(), "Hi", runtime=runtime)
    stream.response()
    with pytest.raises(allm.StreamError, match="consumed"):
        iter(stream)


def test_a_failed_stream_raises_the_same_each_time(sim: Simulator, fast: Make, runtime: allm.Runtime) -> None:
    sim.fault(Fault(status=400))
    stream = allm.stream_generate(fast(), "Hi", runtime=runtime)
    with pytest.raises(allm.AdapterError) as first:
        list(stream)
    for _ in range(2):
        with pytest.raises(allm.AdapterError) as again:
            stream.response()
        assert again.value.info == first.value.info


def test_the_response_in_the_midst_of_the_loop_drains_the_rest(sim: Simulator, fast: Make, runtime: allm.Runtime) -> None:
    sim.reply(Reply(text="one two three four", delay=0.02))
    stream = allm.stream_generate(fast(), "Hi", runtime=runtime)
    seen: list[Event] = []
    for event in stream:
        seen.append(event)
        if isinstance(event, allm.TextDelta):
            assert stream.response().text == "one two three four"
    assert text_of(seen) == "one"
    assert sim.requests[0].outcome == "complete"


def test_asking_for_the_response_elsewhere_ends_the_loop_and_not_the_call(sim: Simulator, fast: Make, runtime: allm.Runtime) -> None:
    sim.reply(Reply(text="word " * 100, delay=0.01))
    stream = allm.stream_generate(fast(), "Hi", runtime=runtime)
    responses: list[allm.Response] = []
    thread = threading.Thread(target=lambda: responses.append(stream.response()))
    for event in stream:
        if isinstance(event, allm.TextDelta) and thread.ident is None:
            thread.start()
            eventually(lambda: stream._consumed, "it is being drained")  # pyright: ignore[reportPrivateUsage]
    thread.join(WAIT)
    assert [response.finish_reason for response in responses] == ["stop"]


def test_asking_for_the_response_in_another_task_ends_the_loop_and_not_the_call(sim: Simulator, fast: Make, runtime: allm.Runtime) -> None:
    async def go() -> allm.Response:
        stream = allm.stream_generate(fast(), "Hi", runtime=runtime)
        task = None
        async for event in stream:
            if isinstance(event, allm.TextDelta) and task is None:
                task = asyncio.ensure_future(stream)
                await asyncio.sleep(0)
        assert task is not None
        return await task

    sim.reply(Reply(text="word " * 100, delay=0.01))
    assert asyncio.run(go()).finish_reason == "stop"


def test_several_threads_that_iterate_one_stream_make_one_call_and_share_its_events(
    sim: Simulator, fast: Make, runtime: allm.Runtime
) -> None:
    text = "".join(f"{n} " for n in range(300))
    for _ in range(20):
        sim.reset()
        sim.reply(Reply(text=text))
        stream = allm.stream_generate(fast(), "Hi", runtime=runtime)
        ready = threading.Barrier(4)

        def consume(stream: allm.Stream = stream, ready: threading.Barrier = ready) -> list[str]:
            ready.wait(WAIT)
            try:
                return [event.delta for event in stream if isinstance(event, allm.TextDelta)]
            except allm.StreamError:  # the others were done before it began
                return []

        with ThreadPoolExecutor(4) as pool:
            shares = [future.result(WAIT) for future in [pool.submit(consume) for _ in range(4)]]
        assert len(sim.requests) == 1
        assert sorted(" ".join(map("".join, shares)).split()) == sorted(text.split())
        assert stream.response().text == text


def test_a_stream_begun_in_one_thread_is_read_in_another(sim: Simulator, fast: Make, runtime: allm.Runtime) -> None:
    sim.reply(REPLY)
    events = iter(allm.stream_generate(fast(), "Hi", runtime=runtime))
    begun = first_delta(events)
    with ThreadPoolExecutor(1) as pool:
        rest = pool.submit(list, events).result(WAIT)
    assert begun.delta + text_of(rest) == REPLY.text


def test_two_calls_with_one_request_id_are_two_calls(sim: Simulator, fast: Make, runtime: allm.Runtime) -> None:
    sim.respond(lambda request: Reply(text=request.text, delay=0.05, pieces=3))
    streams = [allm.stream_generate(fast(), text, runtime=runtime, request_id="same") for text in ("first", "second")]
    iterators = [iter(stream) for stream in streams]
    for events in iterators:
        next(events)
    assert sim.wait_requests(2)
    assert [text_of(events) for events in iterators] == ["first", "second"]
    assert {stream.response().request_id for stream in streams} == {"same"}
    eventually(lambda: runtime.stats()["calls"] == 0, "every call is over")


# many at once


def test_fifty_streams_run_at_the_same_time(sim: Simulator, engine: allm.Engine, runtime: allm.Runtime) -> None:
    sim.respond(lambda request: Reply(text=f"{request.text} and more words", delay=0.02))

    async def one(number: int) -> str:
        stream = allm.stream_generate(engine, f"call {number}", runtime=runtime)
        return "".join([event.delta async for event in stream if isinstance(event, allm.TextDelta)])

    async def go() -> list[str]:
        return await asyncio.gather(*map(one, range(50)))

    assert asyncio.run(go()) == [f"call {number} and more words" for number in range(50)]
    eventually(lambda: runtime.stats()["calls"] == 0, "every call is over")


def test_eight_threads_each_with_loops_of_their_own(sim: Simulator, engine: allm.Engine, runtime: allm.Runtime) -> None:
    sim.respond(lambda request: request.text)

    async def both(text: str) -> None:
        response = await allm.aio.generate(engine, text, runtime=runtime)
        streamed = [part async for part in allm.stream_generate(engine, text, runtime=runtime).text_deltas()]
        assert response.text == "".join(streamed) == text

    def worker(number: int) -> None:
        for run in range(3):
            asyncio.run(both(f"thread {number} run {run}"))
            assert allm.generate(engine, f"{number}", runtime=runtime).text == f"{number}"

    with ThreadPoolExecutor(8) as pool:
        for future in [pool.submit(worker, number) for number in range(8)]:
            future.result(WAIT * 2)
    assert len(sim.requests) == 8 * 3 * 3


def test_a_waiting_call_does_not_block_the_callers_loop(sim: Simulator, engine: allm.Engine, runtime: allm.Runtime) -> None:
    async def go() -> None:
        ticks = 0
        call = asyncio.ensure_future(allm.aio.generate(engine, "Hi", runtime=runtime))
        while not call.done():
            await asyncio.sleep(0.01)
            ticks += 1
        assert (await call).finish_reason == "stop"
        assert ticks > 5

    sim.fault(Fault(slow_first_byte=0.3))
    asyncio.run(go())


def long_pieces(count: int) -> tuple[str, ...]:
    """30 MB: what the sockets hold by themselves is only a part of it."""
    return tuple(f"{number}:".ljust(30_000_000 // count, ".") for number in range(count))


def test_a_slow_consumer_slows_the_reader_and_loses_nothing(sim: Simulator, make: Make, runtime: allm.Runtime) -> None:
    pieces = long_pieces(5_000)
    sim.reply(Reply(pieces=pieces))
    engine = make(timeouts=allm.Timeouts(idle=0.3))
    stream = allm.stream_generate(engine, "Hi", runtime=runtime)
    events = iter(stream)
    got = [first_delta(events).delta]
    assert not sim.wait_idle(0.5)  # the consumer does nothing, and the provider cannot write on
    for event in events:
        assert not isinstance(event, allm.ErrorOccurred), event
        if isinstance(event, allm.TextDelta):
            got.append(event.delta)
    assert len(got) == len(pieces)
    assert "".join(got) == "".join(pieces)
    assert stream.response().finish_reason == "stop"


def test_a_paused_reader_goes_on_when_only_the_fold_is_wanted(sim: Simulator, make: Make, runtime: allm.Runtime) -> None:
    pieces = long_pieces(2_500)
    sim.reply(Reply(pieces=pieces))
    stream = allm.stream_generate(make(), "Hi", runtime=runtime)
    events = iter(stream)
    first_delta(events)
    assert not sim.wait_idle(0.2)
    assert stream.response().text == "".join(pieces)


def test_a_paused_reader_is_cut_off_when_the_stream_is_left(sim: Simulator, make: Make, runtime: allm.Runtime) -> None:
    sim.reply(Reply(pieces=long_pieces(2_500)))
    events = iter(allm.stream_generate(make(), "Hi", runtime=runtime))
    first_delta(events)
    assert not sim.wait_idle(0.2)
    del events
    assert sim.wait_idle()
    assert sim.requests[0].outcome == "client closed"


# fakes go the same way


def test_a_fake_plays_its_script_with_its_delays(runtime: allm.Runtime) -> None:
    fake = Fake(
        [("text", "Hello, "), ("delay", 0.05), ("text", "ALLM!"), ("usage", {"input_tokens": 3}), ("finish", "stop"), ("delay", 0.01)]
    )
    response = allm.generate(fake.engine, "Hi", runtime=runtime)
    assert (response.text, response.usage.input_tokens, fake.calls) == ("Hello, ALLM!", 3, 1)


def test_a_fake_that_ends_without_its_end_marker_is_truncated(runtime: allm.Runtime) -> None:
    fake = Fake([("text", "Hel")], retry=allm.Retry.none())
    response = allm.generate(fake.engine, "Hi", runtime=runtime)
    assert response.text == "Hel"
    assert response.error is not None
    assert response.error.reason == "truncated"


def test_a_fakes_slow_consumer_slows_it_too(runtime: allm.Runtime) -> None:
    fake = Fake([*[("text", f"{number} ") for number in range(3_000)], ("finish", "stop")])
    stream = allm.stream_generate(fake.engine, "Hi", runtime=runtime)
    events = iter(stream)
    first = first_delta(events)
    assert runtime.stats()["calls"] == 1
    assert (first.delta + text_of(events)).split() == [str(number) for number in range(3_000)]


def test_no_test_here_starts_the_default_runtime_but_this_one(sim: Simulator, fast: Make) -> None:
    assert allm.generate(fast(), "Hi").finish_reason == "stop"
    assert allm.default_runtime() is allm.default_runtime()
    allm.default_runtime().stop()
    assert allm.generate(fast(), "Hi").finish_reason == "stop"
    allm.default_runtime().stop()
