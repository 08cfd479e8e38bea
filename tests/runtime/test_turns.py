"""Steps and loops, as their callers see them: tools, halts, streams, errors, cancellation, structured output, history."""

import asyncio
import contextvars
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any

import pytest
from msgspec.structs import replace

import allm
from allm.order import LOOP, OrderChecker
from allm.testing import Fault, Reply, Simulator, crash
from tests.runtime.support import FAST, eventually, kinds, living

CUT = Fault(cut_after=700)
OVERFLOW = Fault(status=400, code="context_length_exceeded", message="too long")
SCHEMA = allm.json_schema("answer", {"type": "object", "properties": {"n": {"type": "integer"}}, "required": ["n"]})


@allm.tool
def add(a: int, b: int = 1) -> int:
    """Adds."""
    return a + b


@allm.tool
def fail(a: int) -> int:
    """Fails."""
    raise ValueError(f"no {a} here")


@pytest.fixture
def sim() -> Iterator[Simulator]:
    with Simulator() as sim:
        yield sim


@pytest.fixture
def engine(sim: Simulator) -> allm.Engine:
    base = sim.base_url("chat")
    return allm.Engine("openai.chat:m", base_url=base, keys={"openai": "sk-test"}, tools=[add, fail], retry=allm.Retry(**FAST))


def called(*calls: tuple[str, dict[str, Any]], **fields: Any) -> Reply:
    return Reply(tool_calls=calls, **fields)


def script(sim: Simulator, *items: Reply | Fault) -> None:
    """Replies and faults in this order."""
    waiting = list(items)
    sim.respond(lambda request: waiting.pop(0) if waiting else None)


def texts(result: allm.ChatResult) -> list[str]:
    return [message.text for message in result.thread.messages]


def test_a_loop_calls_tools_and_ends_with_an_answer(sim: Simulator, engine: allm.Engine) -> None:
    sim.reply(called(("add", {"a": 1, "b": 2}), ("add", {"a": 5})), Reply(text="3 and 6"))
    result = allm.chat(engine, "Add.")
    assert (result.text, result.halted_reason, texts(result)) == ("3 and 6", "completed", ["Add.", "", "3", "6", "3 and 6"])
    assert [one.result for one in result.steps[0].tool_results] == [3, 6]
    assert [step.done for step in result.steps] == [False, True]
    assert result.usage.input_tokens == 32
    assert allm.from_json(allm.to_json(result)) == result


def test_the_stream_of_a_loop_is_legal_and_folds_to_its_result(sim: Simulator, engine: allm.Engine) -> None:
    sim.reply(called(("add", {"a": 1}), ("fail", {"a": 2})), Reply(text="done"))
    stream = allm.stream(engine, "Add.")
    checker = OrderChecker(LOOP)
    events = list(stream)
    for event in events:
        checker.check(event)
    assert checker.state == "ended"
    assert allm.fold(events) == stream.result()
    assert kinds(events)[-1] == "ChatCompleted"
    assert allm.text(events) == "done"
    with pytest.raises(allm.StreamError, match="consumed"):
        list(stream)


def test_a_step_is_one_round_trip_and_its_tools(sim: Simulator, engine: allm.Engine) -> None:
    sim.reply(called(("add", {"a": 1})), called(("add", {"a": 1})))
    step = allm.step(engine, "Add.")
    assert (step.done, [one.result for one in step.tool_results], len(step.messages)) == (False, [2], 2)
    stream = allm.stream_step(engine, "Add.")
    assert kinds(stream)[-1] == "StepCompleted"
    assert stream.result().tool_results == step.tool_results
    assert len(sim.requests) == 2


def test_request_parameters_reach_every_step(sim: Simulator, engine: allm.Engine) -> None:
    sim.reply(called(("add", {"a": 1})), Reply(text="2"))
    allm.chat(engine, "Add.", temperature=0.25, max_tokens=77, options={"user": "u"})
    for request in sim.requests:
        body = request.body
        assert (body["temperature"], body["user"]) == (0.25, "u")
        assert 77 in (body.get("max_tokens"), body.get("max_completion_tokens"))
        assert [tool["function"]["name"] for tool in body["tools"]] == ["add", "fail"]


def test_a_tool_that_fails_is_told_to_the_model_and_harms_no_sibling(sim: Simulator, engine: allm.Engine) -> None:
    sim.reply(called(("fail", {"a": 7}), ("add", {"a": 1}), ("nothing", {}), ("add", {"a": "x"})), Reply(text="sorry"))
    result = allm.chat(engine, "Go.")
    failed, added, unknown, wrong = result.steps[0].tool_results
    assert failed.error is not None
    assert "no 7 here" in failed.content
    assert (added.result, added.error) == (2, None)
    assert unknown.error is not None
    assert unknown.error.reason == "unknown_tool"
    assert wrong.error is not None
    assert wrong.error.reason == "invalid_arguments"
    assert "a: expected integer" in wrong.content
    assert result.halted_reason == "completed"


def say_halt(call: allm.ToolCall, error: allm.AllmError) -> str:
    assert "no 7 here" in error.message
    return "halt"


def say_continue(call: allm.ToolCall, error: allm.AllmError) -> str:
    return "continue"


def say_instead(call: allm.ToolCall, error: allm.AllmError) -> dict[str, str]:
    return {"instead": call.name}


def say_nothing_sane(call: allm.ToolCall, error: allm.AllmError) -> float:
    return 1 / 0


@pytest.mark.parametrize(
    ("policy", "halted", "content"),
    [
        ("halt", "tool_error", "no 7 here"),
        ("continue", "completed", "no 7 here"),
        (say_halt, "tool_error", "no 7 here"),
        (say_continue, "completed", "no 7 here"),
        (say_instead, "completed", "instead"),
        (say_nothing_sane, "tool_error", "no 7 here"),  # and the error tells of the function's own
    ],
)
def test_what_follows_the_error_of_a_tool(sim: Simulator, engine: allm.Engine, policy: Any, halted: str, content: str) -> None:
    sim.reply(called(("fail", {"a": 7})), Reply(text="sorry"))
    result = allm.chat(engine, "Go.", on_tool_error=policy)
    assert result.halted_reason == halted
    assert content in texts(result)[2]
    assert (result.error is not None) == (halted == "tool_error")


def test_a_tool_may_ask_the_user_or_halt(sim: Simulator, engine: allm.Engine) -> None:
    def which() -> Any:
        return allm.ask_user("Which city?", cities=["Rome", "Oslo"])

    def enough() -> Any:
        return allm.halt("handed_over", {"to": "a person"})

    sim.reply(called(("which", {})), called(("enough", {})))
    stream = allm.stream(engine, "Go.", tools=[which])
    asked = [event for event in stream if isinstance(event, allm.AskUserRequested)]
    assert asked[0].options == {"cities": ["Rome", "Oslo"]}
    result = stream.result()
    assert (result.halted_reason, result.pending_question) == ("ask_user", "Which city?")
    assert texts(result)[2:] == ["<awaiting user response>", "Which city?"]
    result = allm.chat(engine, "Go.", tools=[enough])
    assert (result.halted_reason, texts(result)[-1]) == ("handed_over", '{"to":"a person"}')


def test_manual_mode_gives_every_call_and_manual_tools_theirs(sim: Simulator, engine: allm.Engine) -> None:
    sign = allm.Tool(name="sign", schema={"type": "object"})
    sim.reply(called(("add", {"a": 1}), ("sign", {})), called(("add", {"a": 1})))
    result = allm.chat(engine, "Go.", tools=[sign])
    assert result.halted_reason == "manual_tool_calls"
    assert [one.name for one in result.steps[0].tool_results] == ["add"]
    result = allm.chat(engine, "Go.", mode="manual")
    assert (result.halted_reason, result.steps[0].tool_results) == ("manual_tool_calls", ())
    assert [call.name for call in result.steps[0].response.tool_calls] == ["add"]
    # The caller's answer, and on it goes.
    sim.reply(Reply(text="42 it is"))
    (call,) = result.steps[0].response.tool_calls
    assert allm.chat(engine, result.thread.add_message(allm.tool_result(call.id, "42"))).text == "42 it is"


def test_a_loop_without_end_is_ended_by_max_turns(sim: Simulator, engine: allm.Engine) -> None:
    sim.reply(*[called(("fail", {"a": n})) for n in range(9)])
    result = allm.chat(engine, "Go.")
    assert (result.halted_reason, len(result.steps), len(sim.requests)) == ("max_turns", 8, 8)


def test_halt_when_sees_each_step(sim: Simulator, engine: allm.Engine) -> None:
    sim.reply(*[called(("add", {"a": n})) for n in range(9)])

    def is_three(step: allm.StepResult) -> bool:
        return bool(step.tool_results[0].result == 3)

    def breaks(step: allm.StepResult) -> bool:
        raise LookupError("nothing there")

    result = allm.chat(engine, "Go.", halt_when=is_three)
    assert (result.halted_reason, len(result.steps)) == ("halt_when", 3)
    sim.reply(called(("add", {"a": 1})))
    broken = allm.chat(engine, "Go.", halt_when=breaks)
    assert broken.halted_reason == "error"
    assert broken.error is not None
    assert broken.error.reason == "callback_failed"


@dataclass
class Answer:
    """An answer."""

    n: int


def test_structured_output_is_asked_for_again_and_typed(sim: Simulator, engine: allm.Engine) -> None:
    sim.reply(Reply(text='{"n": "three"}'), Reply(text='{"n": 3}'))
    result = allm.chat(engine, "How many?", response_format=Answer)
    assert result.parsed == Answer(3)
    assert result.metadata == {"reasks": 1}
    assert "n" in sim.requests[1].body["messages"][-1]["content"]
    assert texts(result) == ["How many?", '{"n": 3}']
    sim.reply(Reply(text="no"), Reply(text="never"))
    hopeless = allm.chat(engine, "How many?", response_format=Answer)
    assert hopeless.halted_reason == "completed"
    with pytest.raises(allm.ValidationError):
        _ = hopeless.parsed
    sim.reply(Reply(text='{"n": 4}'))
    assert allm.generate(engine, "How many?", response_format=Answer).parsed == Answer(4)


def test_structured_finalisation_is_one_more_call_without_tools(sim: Simulator, engine: allm.Engine) -> None:
    sim.reply(called(("add", {"a": 1})), Reply(text="It is 2."), Reply(text='{"n": 2}'))
    result = allm.chat(engine, "Add.", response_format=SCHEMA, structured_finalize=True, structured_finalize_nudge="As JSON!")
    assert result.parsed == {"n": 2}
    assert result.metadata == {"structured_finalize": "completed"}
    assert texts(result)[-3:] == ["It is 2.", "As JSON!", '{"n": 2}']
    bodies = [request.body for request in sim.requests]
    assert ["response_format" in body for body in bodies] == [False, False, True]
    assert ["tools" in body for body in bodies] == [True, True, False]
    assert len(result.steps) == 3


def test_errors_before_and_after_the_first_step(sim: Simulator, engine: allm.Engine) -> None:
    script(sim, Fault(status=401))
    with pytest.raises(allm.AdapterError) as raised:
        allm.chat(engine, "Go.")
    assert raised.value.reason == "authentication"
    script(sim, called(("add", {"a": 1})), Fault(status=401))
    result = allm.chat(engine, "Go.")
    assert (result.halted_reason, len(result.steps), len(result.thread.messages)) == ("error", 1, 3)
    assert result.error is not None
    assert result.error.reason == "authentication"
    with pytest.raises(allm.AdapterError):
        result.raise_for_error()


def test_a_cut_in_mid_answer_restarts_a_fold_and_ends_a_stream(sim: Simulator, engine: allm.Engine) -> None:
    script(sim, called(("add", {"a": 1})), CUT, Reply(text="a b c"))
    assert allm.chat(engine, "Go.").text == "a b c"
    script(sim, called(("add", {"a": 1})), CUT)
    stream = allm.stream(engine, "Go.")
    events = list(stream)
    result = stream.result()
    assert (result.halted_reason, len(result.steps)) == ("error", 1)
    assert result.text
    assert kinds(events)[-1] == "ChatCompleted"
    script(sim, CUT)
    stream = allm.stream(engine, "Go.")
    assert kinds(stream)[-1] == "ErrorOccurred"
    assert (stream.result().halted_reason, stream.result().steps) == ("error", ())


def test_cancelling_in_each_phase_keeps_what_was_there(sim: Simulator, engine: allm.Engine) -> None:
    entered = threading.Event()

    def wait(context: allm.ToolContext) -> str:
        entered.set()
        eventually(context.cancelled.is_set, "the tool is told")
        return "late"

    sim.reply(called(("add", {"a": 1}), ("wait", {})))
    stream = allm.stream(engine, "Go.", tools=[wait])
    for event in stream:
        if isinstance(event, allm.ToolExecutionCompleted) and event.name == "add":
            entered.wait(10)
            stream.cancel()
            break
    result = stream.result()
    assert result.halted_reason == "cancelled"
    assert [message.tool_call_id for message in result.thread.messages[2:]] == ["call_1", "call_2"]
    sim.reply(called(("add", {"a": 1})), Reply(text="one two three", delay=0.2, pieces=3))
    stream = allm.stream(engine, "Go.")
    for event in stream:
        if isinstance(event, allm.TextDelta):
            stream.cancel()
            break
    result = stream.result()
    assert (result.halted_reason, len(result.steps)) == ("cancelled", 2)
    assert result.thread.messages[-1].metadata == {"cancelled": True}
    stream = allm.stream(engine, "Go.")
    stream.cancel()
    assert stream.result().halted_reason == "cancelled"


def test_leaving_the_stream_of_a_loop_leaves_nothing(sim: Simulator, engine: allm.Engine) -> None:
    sim.reply(Reply(text="x"))
    allm.generate(engine, "warm")
    before = living()
    for _ in range(50):
        sim.reply(called(("add", {"a": 1})), Reply(text="one two three", delay=0.05))
        for event in allm.stream(engine, "Go."):
            if isinstance(event, allm.TextDelta):
                break
    runtime = allm.default_runtime()
    eventually(lambda: not runtime.stats()["calls"] and living() <= before, "every actor is gone")


def buffered_once_full(runtime: allm.Runtime, request_id: str) -> int:
    """How many events wait once the reader has paused."""
    pipe = runtime._directory.turns[request_id].pipe  # pyright: ignore[reportPrivateUsage]
    eventually(lambda: pipe.full, "the buffer is full")
    return sum(len(batch) for batch in list(pipe._batches))  # pyright: ignore[reportPrivateUsage]


def test_a_slow_consumer_slows_the_loop_not_memory(sim: Simulator, engine: allm.Engine) -> None:
    sim.reply(called(("add", {"a": 1})), Reply(text="x " * 5000))
    runtime, seen = allm.default_runtime(), 0
    for number, event in enumerate(allm.stream(engine, "Go.", request_id="slow")):
        seen += isinstance(event, allm.TextDelta)
        if seen == 1 and number < 100:
            assert buffered_once_full(runtime, "slow") < 3000
    assert seen > 4990


def test_asynchronous_handlers_run_on_the_callers_loop(sim: Simulator, engine: allm.Engine) -> None:
    asyncio.run(handlers_on_the_callers_loop(sim, engine))


async def handlers_on_the_callers_loop(sim: Simulator, engine: allm.Engine) -> None:
    ran: list[Any] = []

    async def here() -> str:
        ran.append(asyncio.get_running_loop())
        await asyncio.sleep(0)
        return "here"

    sim.reply(called(("here", {})), Reply(text="ok"), called(("here", {})), Reply(text="ok"))
    assert (await allm.aio.chat(engine, "Go.", tools=[here])).text == "ok"
    async for _ in allm.aio.stream(engine, "Go.", tools=[here]):
        pass
    assert ran == [asyncio.get_running_loop()] * 2
    sim.reply(called(("here", {})))
    assert (await allm.aio.step(engine, "Go.", tools=[here])).tool_results[0].result == "here"


def test_handlers_see_the_callers_context(sim: Simulator, engine: allm.Engine) -> None:
    tenant: contextvars.ContextVar[str] = contextvars.ContextVar("tenant")
    tenant.set("acme")

    def who(context: allm.ToolContext) -> dict[str, Any]:
        return {"tenant": tenant.get(), "user": context.context["user"], "db": context.resources["db"], "call": context.tool_call.name}

    with allm.Runtime(resources={"db": "live"}) as runtime:
        sim.reply(called(("who", {})), Reply(text="ok"))
        result = allm.chat(engine.put_context("user", "engine"), "Go.", tools=[who], context={"user": "call"}, runtime=runtime)
    assert result.steps[0].tool_results[0].result == {"tenant": "acme", "user": "call", "db": "live", "call": "who"}


def test_instructions_are_sent_first_at_every_step_and_not_stored(sim: Simulator, engine: allm.Engine) -> None:
    sim.reply(called(("add", {"a": 1})), Reply(text="ok"))
    result = allm.chat(replace(engine, instructions="Be brief."), "Go.")
    assert [request.body["messages"][0]["content"] for request in sim.requests] == ["Be brief."] * 2
    assert texts(result)[0] == "Go."


def test_only_the_end_of_a_long_thread_is_sent_and_less_when_it_overflows(sim: Simulator, engine: allm.Engine) -> None:
    engine = replace(engine, history=allm.keep_last(4))
    thread = allm.Thread()
    for n in range(6):
        thread = thread.add_user(f"q{n}").add_assistant(f"a{n}")
    script(sim, Reply(text="ok"), OVERFLOW, Reply(text="ok"), OVERFLOW, OVERFLOW)
    result = allm.chat(engine, thread.add_user("last"))
    assert len(result.thread.messages) == 14
    assert allm.generate(engine, thread.add_user("last")).text == "ok"
    lengths = [len(request.body["messages"]) for request in sim.requests]
    assert lengths[0] == lengths[1] <= 4
    assert 1 <= lengths[2] < lengths[1]
    with pytest.raises(allm.AdapterError) as raised:
        allm.generate(engine, thread.add_user("last"))
    assert raised.value.reason == "context_length_exceeded"


def test_an_unanswered_call_is_mended_when_sending_and_not_in_the_thread(sim: Simulator, engine: allm.Engine) -> None:
    broken = [allm.user("Go."), allm.Message("assistant", (allm.ToolCallPart("c1", "add", {"a": 1}),)), allm.user("Well?")]
    sim.reply(Reply(text="ok"), Reply(text="ok"))
    result = allm.chat(engine, broken)
    roles = [message["role"] for message in sim.requests[0].body["messages"]]
    assert roles == ["user", "assistant", "tool", "user"]
    assert [message.role for message in result.thread.messages] == ["user", "assistant", "user", "assistant"]
    assert allm.generate(engine, broken).text == "ok"


def test_a_key_of_the_call_serves_every_step_and_is_forgotten(sim: Simulator) -> None:
    engine = allm.Engine("openai.chat:m", base_url=sim.base_url("chat"), tools=[add])
    sim.reply(called(("add", {"a": 1})), Reply(text="ok"))
    allm.chat(engine, "Go.", api_key="sk-secret")
    assert ["authorization" in request.headers for request in sim.requests] == [True, True]
    assert repr(allm.default_runtime().vault) == "<Vault of 0>"


def test_on_event_sees_the_whole_loop_before_filters(sim: Simulator, engine: allm.Engine) -> None:
    seen: list[allm.Event] = []
    sim.reply(called(("add", {"a": 1})), Reply(text="a b"))
    allm.chat(engine, "Go.", on_event=seen.append, emit_text_deltas=False)
    assert {"ToolExecutionStarted", "TextDelta", "ToolCallDelta", "StepCompleted"} <= set(kinds(seen))
    assert kinds(seen)[-1] == "ChatCompleted"


def test_many_parallel_calls_in_one_message(sim: Simulator, engine: allm.Engine) -> None:
    together = threading.Barrier(100, timeout=20)

    def meet(n: int) -> int:
        together.wait()
        return n

    sim.reply(called(*[("meet", {"n": n}) for n in range(200)]), Reply(text="all"))
    result = allm.chat(engine, "Go.", tools=[meet])
    assert [one.result for one in result.steps[0].tool_results] == list(range(200))


def test_bad_options_are_refused_before_anything_is_sent(sim: Simulator, engine: allm.Engine) -> None:
    wrong: list[dict[str, Any]] = [
        {"max_turns": 0}, {"mode": "x"}, {"halt_when": 3}, {"on_tool_error": 3}, {"max_reasks": -1}, {"structured_finalize": True},
    ]  # fmt: skip
    for bad in wrong:
        with pytest.raises(allm.ValidationError):
            allm.chat(engine, "Go.", **bad)
    with pytest.raises(TypeError, match="options="):
        allm.chat(engine, "Go.", max_turn=3)  # type: ignore[call-arg]  # pyright: ignore[reportCallIssue]
    with pytest.raises(TypeError):
        allm.generate(engine, "Go.", max_turns=3)  # type: ignore[call-arg]  # pyright: ignore[reportCallIssue]
    assert not sim.requests


@pytest.mark.parametrize("path", [("turns", "r1"), ("turns",), ("tools",)])
def test_a_turn_that_is_broken_off_keeps_its_steps(sim: Simulator, engine: allm.Engine, path: tuple[str, ...]) -> None:
    entered, release = threading.Event(), threading.Event()

    def wait() -> str:
        entered.set()
        release.wait(10)
        return "ok"

    sim.reply(called(("add", {"a": 1})), called(("wait", {})))
    with allm.Runtime() as runtime, ThreadPoolExecutor(1) as pool:
        running = pool.submit(allm.chat, engine, "Go.", tools=[wait], runtime=runtime, request_id="r1")
        assert entered.wait(10)
        crash(*path, runtime=runtime)
        result = running.result(10)
        release.set()
        assert result.halted_reason == "error"
        assert texts(result)[:3] == ["Go.", "", "2"]  # of a tool that is lost with `tools` the thread may tell, too
        assert result.error is not None
        sim.reply(Reply(text="fine"))
        eventually(lambda: allm.chat(engine, "Go.", runtime=runtime).text == "fine", "the next call works")


def test_stopping_the_runtime_keeps_what_a_loop_had(sim: Simulator, engine: allm.Engine) -> None:
    sim.reply(called(("add", {"a": 1})), Reply(text="a b c d", delay=0.5))
    runtime = allm.Runtime()
    events: list[allm.Event] = []
    stream = allm.stream(engine, "Go.", runtime=runtime)
    for event in stream:
        events.append(event)
        if isinstance(event, allm.TextDelta):
            threading.Thread(target=runtime.stop, args=(0.1,)).start()
    result = stream.result()
    assert (result.halted_reason, len(result.steps)) == ("error", 1)
    assert result.text.startswith("a")
    assert kinds(events)[-1] == "ChatCompleted"
    assert allm.fold(events) == result
    eventually(lambda: runtime.stopped and not runtime.stats()["calls"], "it is stopped")


def test_a_broken_first_step_folds_to_the_same_as_its_stream(sim: Simulator, engine: allm.Engine) -> None:
    for call in (allm.stream, allm.stream_step):
        script(sim, CUT)
        stream: Any = call(engine, "Go.")
        events = list(stream)
        assert kinds(events)[-1] == "ErrorOccurred"
        assert allm.fold(events) == stream.result()


def test_a_loop_that_is_left_folds_to_what_it_had(sim: Simulator, engine: allm.Engine) -> None:
    sim.reply(called(("add", {"a": 1})), Reply(text="one two three", delay=0.05))
    events: list[allm.Event] = []
    for event in allm.stream(engine, "Go."):
        events.append(event)
        if isinstance(event, allm.TextDelta):
            break
    left = allm.fold(events)
    assert isinstance(left, allm.ChatResult)
    assert (left.halted_reason, len(left.steps), left.text) == ("error", 1, events[-1].delta)  # type: ignore[union-attr]  # pyright: ignore


def test_a_cancel_between_two_steps_adds_none(sim: Simulator, engine: allm.Engine) -> None:
    sim.respond(lambda request: called(("add", {"a": 1})))
    for _ in range(20):
        streams: list[Any] = []

        def halt(step: allm.StepResult, streams: list[Any] = streams) -> bool:
            streams[0].cancel()
            return False

        stream = allm.stream(engine, "Go.", halt_when=halt)
        streams.append(stream)
        checker = OrderChecker(LOOP)
        events = list(stream)
        for event in events:
            checker.check(event)
        result = stream.result()
        assert result.halted_reason == "cancelled"
        assert all(step.messages for step in result.steps)
        assert allm.fold(events) == result


def test_coroutine_functions_may_decide(sim: Simulator, engine: allm.Engine) -> None:
    async def never(step: allm.StepResult) -> bool:
        await asyncio.sleep(0)
        return False

    async def go_on(call: allm.ToolCall, error: allm.AllmError) -> str:
        await asyncio.sleep(0)
        return "continue"

    async def main() -> allm.ChatResult:
        return await allm.aio.chat(engine, "Go.", halt_when=never, on_tool_error=go_on)

    sim.reply(*[called(("fail", {"a": 1})), Reply(text="done")] * 2)
    assert allm.chat(engine, "Go.", halt_when=never, on_tool_error=go_on).halted_reason == "completed"
    assert asyncio.run(main()).halted_reason == "completed"


def test_functions_of_the_caller_may_make_calls_of_their_own(sim: Simulator, engine: allm.Engine) -> None:
    """More of them at once than their pool has workers."""

    def answer(request: Any) -> Reply:
        return Reply(text="no") if any(message["role"] == "tool" for message in request.body["messages"]) else called(("add", {"a": 1}))

    def ask_another(step: allm.StepResult) -> bool:
        return allm.chat(engine, "Is that enough?").text == "yes"

    sim.respond(answer)
    with ThreadPoolExecutor(80) as pool:
        running = [pool.submit(allm.chat, engine, "Go.", halt_when=ask_another) for _ in range(80)]
        assert {one.result(40).halted_reason for one in running} == {"completed"}


def test_map_gives_results_as_they_finish(sim: Simulator, engine: allm.Engine) -> None:
    sim.reply(*[Reply(text="ok") for _ in range(20)])
    requests = [f"q{n}" for n in range(20)]
    requests.insert(5, [])  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
    found = dict(allm.map(engine, requests, concurrency=4, api_key="sk-mapped"))
    assert len(found) == 21
    assert isinstance(found.pop(5), allm.ValidationError)
    assert {type(one) for one in found.values()} == {allm.Response}
    assert repr(allm.default_runtime().vault) == "<Vault of 0>"
    sim.reply(*[Reply(text="a b c", delay=0.5) for _ in range(4)], Reply(text="ok"))
    for _ in allm.map(engine, ["x"] * 10, concurrency=4):
        break
    eventually(lambda: not allm.default_runtime().stats()["calls"], "the rest is cancelled")


def test_map_for_asyncio(sim: Simulator, engine: allm.Engine) -> None:
    async def indices() -> list[int]:
        return sorted([index async for index, _ in allm.aio.map(engine, ["q"] * 7, concurrency=3)])

    sim.reply(*[Reply(text="ok") for _ in range(7)])
    assert asyncio.run(indices()) == list(range(7))
