"""Tools in a conversation: whatever becomes of a handler, the loop goes on and the model is told."""

import asyncio
import json
import os
import threading
import time
from collections.abc import Callable, Sequence
from typing import Any

import pytest

import allm
from allm.tools import Tool
from tests.runtime.process_tools import sleep, spin
from tests.runtime.support import WAIT, eventually
from tests.runtime.tooling import pulse, until

pytestmark = pytest.mark.alone

psutil = pytest.importorskip("psutil")

# pyright: reportUnknownLambdaType=false, reportUnknownArgumentType=false

Call = tuple[str, dict[str, Any]]


def scripted(calls: Sequence[Call], tools: Sequence[Any], **more: Any) -> allm.Engine:
    """A model that makes these calls in one message, and then says that it is done."""
    first = [*(("tool_call", name, arguments, f"call-{n}") for n, (name, arguments) in enumerate(calls)), ("finish", "tool_calls")]
    return allm.Engine("fake:any", adapter_opts={"scripts": [first, [("text", "done"), ("finish", "stop")]]}, tools=tools, **more)


def told(result: allm.ChatResult) -> list[str]:
    """What the model read of each call, in order."""
    return [message.text for message in result.thread.messages if message.role == "tool"]


def error_told(result: allm.ChatResult) -> list[str]:
    return [json.loads(text)["error"] for text in told(result)]


@pytest.mark.parametrize("isolation", ["thread", "process"])
def test_a_tool_is_run_and_its_result_goes_to_the_model(isolation: Any, runtime: allm.Runtime) -> None:
    here = os.getpid()
    tool = Tool(name="add", handler=lambda a, b: {"sum": a + b, "here": os.getpid() == here}, isolation=isolation)
    result = allm.chat(scripted([("add", {"a": 1, "b": 2})], [tool]), "Add.", runtime=runtime)
    assert (result.text, result.halted_reason) == ("done", "completed")
    assert [json.loads(text) for text in told(result)] == [{"sum": 3, "here": isolation == "thread"}]


@pytest.mark.parametrize("isolation", ["thread", "process"])
def test_two_hundred_calls_of_one_message_give_their_results_in_call_order(isolation: Any, runtime: allm.Runtime) -> None:
    tool = Tool(name="twice", handler=lambda n: n * 2, isolation=isolation)
    with pulse(runtime):
        result = allm.chat(scripted([("twice", {"n": n}) for n in range(200)], [tool]), "Go.", runtime=runtime)
    assert told(result) == [str(n * 2) for n in range(200)]
    assert result.text == "done"


def test_a_handler_may_block_its_loop_for_a_conversation_whose_tools_are_asynchronous_too(runtime: allm.Runtime) -> None:
    def nested(depth: int) -> str:
        async def lower() -> str:
            await asyncio.sleep(0)
            return nested(depth - 1) if depth else "the bottom"

        result = allm.chat(
            scripted([("lower", {}), ("lower", {})], [lower]), "Go down.", runtime=runtime, timeouts=allm.Timeouts(tool=None)
        )
        first, second = told(result)
        assert first == second
        return first

    assert nested(3) == "the bottom"
    assert len([thread for thread in runtime.workshop.threads() if thread.is_alive()]) == 4  # a loop for each level


def leaves() -> None:
    raise SystemExit(3)


BROKEN: dict[str, tuple[Tool, str]] = {
    "it raises": (Tool(name="t", handler=lambda: 1 / 0), "ZeroDivisionError"),
    "it exits": (Tool(name="t", handler=leaves), "SystemExit: 3"),
    "its result is no JSON": (Tool(name="t", handler=lambda: {"a": object()}), "result.a: object is not JSON"),
    "its result is too large": (Tool(name="t", handler=lambda: "x" * 10_000_000), "10000000 characters"),
    "it takes too long": (Tool(name="t", handler=lambda: time.sleep(0.5), timeout=0.1), "within 0.1 seconds"),
    "its process takes too long": (Tool(name="t", handler=sleep, timeout=0.1, isolation="process"), "within 0.1 seconds"),
    "its process crashes": (Tool(name="t", handler=lambda: os.abort(), isolation="process"), "SIGABRT"),
    "it cannot travel": (Tool(name="t", handler=threading.Lock().locked, isolation="process"), "cannot be sent"),
}


@pytest.mark.parametrize("name", BROKEN)
def test_a_failure_is_told_to_the_model_and_its_siblings_are_undisturbed(name: str, runtime: allm.Runtime) -> None:
    tool, said = BROKEN[name]
    good = Tool(name="good", handler=lambda: "fine")
    result = allm.chat(scripted([("good", {}), ("t", {}), ("good", {})], [tool, good]), "Go.", runtime=runtime)
    first, second, third = told(result)
    assert (first, third) == ("fine", "fine")
    assert said in json.loads(second)["error"]
    assert (result.text, result.halted_reason) == ("done", "completed")
    eventually(lambda: runtime.stats()["tools"]["stuck"] == 0, "what was abandoned has come back")


def test_a_hundred_endless_loops_end_at_their_timeout_and_the_conversation_goes_on(runtime: allm.Runtime) -> None:
    tool = Tool(name="spin", handler=spin, timeout=0.2, isolation="process")
    result = allm.chat(scripted([("spin", {})] * 100, [tool]), "Go.", runtime=runtime)
    assert error_told(result) == ["spin did not end within 0.2 seconds"] * 100
    assert result.text == "done"
    assert until(lambda: len(psutil.Process().children(recursive=True)) == 1, WAIT) < 1  # the nursery


def test_a_blocking_conversation_on_the_loop_of_the_runtime_does_not_wait_for_itself() -> None:
    async def handler() -> str:
        await asyncio.sleep(0)
        return "async"

    async def main() -> allm.ChatResult:
        with allm.Runtime(loop=asyncio.get_running_loop()) as runtime:
            return allm.chat(scripted([("t", {})], [Tool(name="t", handler=handler)]), "Go.", runtime=runtime)

    assert told(asyncio.run(main())) == ["async"]


def test_an_asynchronous_tool_runs_on_the_loop_that_awaits_the_conversation(runtime: allm.Runtime) -> None:
    found: list[asyncio.AbstractEventLoop] = []

    async def handler() -> str:
        await asyncio.sleep(0)
        found.append(asyncio.get_running_loop())
        return "async"

    engine = scripted([("t", {})], [Tool(name="t", handler=handler)])

    async def main() -> allm.ChatResult:
        result = await allm.aio.chat(engine, "Go.", runtime=runtime)
        assert found == [asyncio.get_running_loop()]
        return result

    assert told(asyncio.run(main())) == ["async"]


def test_an_asynchronous_tool_of_a_plain_call_does_not_need_the_callers_loop(runtime: allm.Runtime) -> None:
    async def handler() -> str:
        await asyncio.sleep(0)
        return "async"

    engine = scripted([("t", {})], [Tool(name="t", handler=handler)])

    async def main() -> allm.ChatResult:
        return allm.chat(engine, "Go.", runtime=runtime)  # it blocks the loop it is called on

    assert told(asyncio.run(main())) == ["async"]


def test_a_tool_may_hold_a_conversation_of_its_own(runtime: allm.Runtime) -> None:
    def ask(depth: int) -> str:
        inner = scripted([("ask", {"depth": depth - 1})] if depth else [("good", {})], tools)
        return allm.chat(inner, "Go.", runtime=runtime).text + str(depth)

    tools = [Tool(name="ask", handler=ask), Tool(name="good", handler=lambda: "fine")]
    assert told(allm.chat(scripted([("ask", {"depth": 3})] * 5, tools), "Go.", runtime=runtime)) == ["done3"] * 5


def cancelled(runtime: allm.Runtime, engine: allm.Engine, begun: Callable[[], object]) -> allm.ChatResult:
    """The result of a conversation that is cancelled once it has `begun`."""
    stream = allm.stream(engine, "Go.", runtime=runtime)
    results: list[Any] = []
    reader = threading.Thread(target=lambda: results.append(stream.result()))
    reader.start()
    eventually(begun, "its tools run")
    stream.cancel()
    reader.join(WAIT)
    assert results
    return results[0]  # type: ignore[no-any-return]


def test_to_cancel_a_conversation_kills_its_processes(runtime: allm.Runtime) -> None:
    def processes() -> int:
        return len(psutil.Process().children(recursive=True)) - 1

    engine = scripted([("spin", {})] * 3, [Tool(name="spin", handler=spin, isolation="process")])
    result = cancelled(runtime, engine, lambda: processes() == 3)
    assert result.halted_reason == "cancelled"
    assert until(lambda: processes() == 0, WAIT) < 1


def test_to_cancel_a_conversation_tells_its_tools(runtime: allm.Runtime) -> None:
    begun, seen = threading.Event(), threading.Event()

    def handler(context: allm.ToolContext) -> None:
        begun.set()
        if context.cancelled.wait(WAIT):
            seen.set()

    assert cancelled(runtime, scripted([("t", {})], [Tool(name="t", handler=handler)]), begun.is_set).halted_reason == "cancelled"
    assert seen.wait(WAIT)
