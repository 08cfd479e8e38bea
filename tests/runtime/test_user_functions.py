"""Functions of the user that do not come back cost themselves alone: a place for the next, a clock, a count, and their call goes on."""

import asyncio
import threading
from collections.abc import Callable, Iterator
from contextlib import suppress
from typing import Any

import pytest

import allm
from allm.events import Event
from allm.testing import Reply, Simulator
from tests.runtime.conftest import Make
from tests.runtime.support import WAIT, eventually

SOON = allm.Timeouts(callback=0.2)


@pytest.fixture
def stuck() -> Iterator[Callable[..., Any]]:
    """A function that does not come back before the test is over; `inside` counts who is in it."""
    gate = threading.Event()
    inside: list[object] = []

    def stuck(*given: Any) -> Any:
        inside.append(given)
        gate.wait(WAIT)

    stuck.inside = inside  # type: ignore[attr-defined]  # pyright: ignore[reportFunctionMemberAccess]
    yield stuck
    gate.set()


def fill(runtime: allm.Runtime) -> None:
    """One worker for each kind."""
    for crew in runtime.crews.all():
        crew.pool.size = 1


def in_thread(call: Callable[[], object]) -> threading.Thread:
    thread = threading.Thread(target=call, daemon=True)
    thread.start()
    return thread


def failure(call: Callable[[], object]) -> allm.AllmError:
    with pytest.raises(allm.AllmError) as raised:
        call()
    return raised.value


def resolve(provider: str, context: allm.KeyContext) -> str:
    return "key"


@allm.tool
def look() -> str:
    """Look."""
    return "seen"


def two_steps(sim: Simulator) -> None:
    sim.reply(Reply(tool_calls=(("look", {}),)), Reply(text="done"))


# on_event


def test_an_on_event_that_hangs_gives_its_place_back_at_the_end_of_its_call(
    sim: Simulator, fast: Make, runtime: allm.Runtime, stuck: Any
) -> None:
    fill(runtime)
    engine, heard = fast(), list[Event]()
    for _ in range(2):
        allm.generate(engine, "x", on_event=stuck, runtime=runtime)
    allm.generate(engine, "x", on_event=heard.append, runtime=runtime)
    assert isinstance(heard[-1], allm.MessageCompleted)
    assert runtime.stats()["functions"]["on_event"]["late"] == 2


def test_an_on_event_that_is_slow_hears_all_events_though_its_call_has_ended(fast: Make, runtime: allm.Runtime) -> None:
    gate, heard = threading.Event(), list[Event]()

    def slow(event: Event) -> None:
        gate.wait(WAIT)
        heard.append(event)

    allm.generate(fast(), "x", on_event=slow, runtime=runtime)
    assert heard == []
    gate.set()
    eventually(lambda: heard and isinstance(heard[-1], allm.MessageCompleted), "all is heard")


def test_an_on_event_that_holds_an_event_for_too_long_hears_no_more(sim: Simulator, fast: Make, runtime: allm.Runtime) -> None:
    gate, heard = threading.Event(), list[Event]()

    def hangs(event: Event) -> None:
        heard.append(event)
        gate.wait(WAIT)

    sim.reply(Reply(text="Hello"))
    allm.generate(fast(timeouts=SOON), "x", on_event=hangs, runtime=runtime)
    eventually(lambda: runtime.stats()["functions"]["on_event"]["given_up"] == 1, "it is given up")
    gate.set()
    allm.generate(fast(), "x", on_event=lambda _: None, runtime=runtime)
    assert len(heard) == 1


# key resolvers


def test_a_resolver_that_hangs_is_a_timeout_and_the_next_finds_a_place(fast: Make, runtime: allm.Runtime, stuck: Any) -> None:
    fill(runtime)
    error = failure(lambda: allm.generate(fast(keys=stuck, timeouts=SOON, retry=allm.Retry.none()), "x", runtime=runtime))
    assert (error.kind, error.reason) == ("adapter", "timeout")
    assert "the key resolver did not come back within 0.2 s" in error.message
    assert allm.generate(fast(keys=resolve), "x", runtime=runtime).text
    assert runtime.stats()["functions"]["keys"] == {"done": 1, "failed": 0, "late": 1, "given_up": 1, "stuck": 1}


def test_a_resolver_whose_call_has_ended_gives_its_place_back(fast: Make, runtime: allm.Runtime, stuck: Any) -> None:
    fill(runtime)
    hangs = fast(keys=stuck, timeouts=allm.Timeouts(total=0.1), retry=allm.Retry.none())
    assert failure(lambda: allm.generate(hangs, "x", runtime=runtime)).info.metadata["timeout"] == "total"
    stream = allm.stream_generate(fast(keys=stuck), "x", runtime=runtime)
    thread = in_thread(stream.response)
    eventually(lambda: len(stuck.inside) == 2, "it is asked")
    stream.cancel()
    thread.join(WAIT)
    assert allm.generate(fast(keys=resolve), "x", runtime=runtime).text
    assert runtime.stats()["functions"]["keys"]["given_up"] == 2


# halt_when, on_tool_error, instructions, history


def test_a_halt_when_that_hangs_fails_its_chat_and_says_so(sim: Simulator, fast: Make, runtime: allm.Runtime, stuck: Any) -> None:
    two_steps(sim)
    result = allm.chat(fast(tools=(look,), timeouts=SOON), "x", halt_when=stuck, runtime=runtime)
    assert result.error is not None
    assert result.error.reason == "callback_failed"
    assert result.error.message == "halt_when did not come back within 0.2 seconds"


def test_an_asynchronous_halt_when_that_hangs_is_cancelled(sim: Simulator, fast: Make, runtime: allm.Runtime) -> None:
    import asyncio

    cancelled: list[bool] = []

    async def hangs(_: Any) -> bool:
        try:
            await asyncio.sleep(WAIT)
        except asyncio.CancelledError:
            cancelled.append(True)
            raise
        return False

    async def main() -> Any:
        result = await allm.aio.chat(fast(tools=(look,), timeouts=SOON), "x", halt_when=hangs, runtime=runtime)
        await asyncio.sleep(0)
        return result

    two_steps(sim)
    result = asyncio.run(main())
    assert result.error.message == "halt_when did not come back within 0.2 seconds"
    eventually(lambda: cancelled, "it is cancelled")


def test_an_on_tool_error_that_hangs_halts_its_chat(sim: Simulator, fast: Make, runtime: allm.Runtime, stuck: Any) -> None:
    def fails() -> str:
        raise ValueError("no")

    sim.reply(Reply(tool_calls=(("fails", {}),)))
    result = allm.chat(fast(tools=(allm.tool(fails),), timeouts=SOON), "x", on_tool_error=stuck, runtime=runtime)
    assert result.halted_reason == "tool_error"
    assert result.error is not None
    assert "on_tool_error did not come back within 0.2 seconds" in result.error.message


@pytest.mark.parametrize("field", ["instructions", "history"])
def test_a_function_of_the_engine_that_hangs_at_a_later_step_fails_its_chat(
    field: str, sim: Simulator, fast: Make, runtime: allm.Runtime, stuck: Any
) -> None:
    asked: list[object] = []

    def function(given: Any) -> Any:
        asked.append(given)
        if len(asked) > 1:
            stuck()
        return "be brief" if field == "instructions" else given.messages

    two_steps(sim)
    result = allm.chat(fast(tools=(look,), timeouts=SOON, **{field: function}), "x", runtime=runtime)
    assert result.error is not None
    assert result.error.message == "instructions or history did not come back within 0.2 seconds"


@pytest.mark.parametrize("way", ["generate", "chat", "stream", "aio"])
@pytest.mark.parametrize("field", ["instructions", "history"])
def test_a_function_of_the_engine_that_hangs_before_the_first_request_fails_its_call(
    field: str, way: str, fast: Make, runtime: allm.Runtime, stuck: Any
) -> None:
    def function(_: Any) -> Any:
        stuck()

    engine = fast(timeouts=SOON, **{field: function})
    ways: dict[str, Callable[[], object]] = {
        "generate": lambda: allm.generate(engine, "x", runtime=runtime),
        "chat": lambda: allm.chat(engine, "x", runtime=runtime),
        "stream": lambda: list(allm.stream_generate(engine, "x", runtime=runtime)),
        "aio": lambda: asyncio.run(allm.aio.generate(engine, "x", runtime=runtime)),
    }
    assert "instructions or history did not come back within 0.2 seconds" in failure(ways[way]).message
    assert runtime.stats()["functions"][field]["given_up"] == 1


class Unspeakable(Exception):
    def __str__(self) -> str:
        raise ValueError("no words")


@pytest.mark.parametrize("field", ["instructions", "history"])
def test_what_a_function_of_the_engine_raises_before_the_first_request_is_raised_as_it_is(
    field: str, fast: Make, runtime: allm.Runtime
) -> None:
    def function(_: Any) -> Any:
        raise Unspeakable

    for call in (allm.generate, allm.chat):
        with pytest.raises(Unspeakable) as raised:
            call(fast(**{field: function}), "x", runtime=runtime)
        assert raised.traceback[-1].name == "function"
    assert runtime.stats()["functions"][field]["failed"] == 2


def test_a_resolver_whose_error_has_no_words_has_failed(fast: Make, runtime: allm.Runtime) -> None:
    def resolver(provider: str, context: object) -> str:
        raise Unspeakable

    with pytest.raises(allm.EngineError, match=r"Unspeakable: \(its message cannot be read\)") as raised:
        allm.generate(fast(keys=resolver), "x", runtime=runtime)
    assert raised.value.reason == "resolver_failed"


def test_a_chat_with_tools_waits_behind_nobodys_functions(sim: Simulator, fast: Make, runtime: allm.Runtime, stuck: Any) -> None:
    fill(runtime)
    sim.reply(Reply(tool_calls=(("look", {}),)))
    threads = [in_thread(lambda: allm.chat(fast(tools=(look,)), "x", halt_when=stuck, runtime=runtime))]
    eventually(lambda: len(stuck.inside) == 1, "halt_when hangs")
    sim.reply(Reply(text="Hello"))
    threads.append(in_thread(lambda: allm.generate(fast(), "x", on_event=stuck, runtime=runtime)))
    eventually(lambda: len(stuck.inside) == 2, "on_event hangs, too")
    two_steps(sim)
    assert allm.chat(fast(tools=(look,)), "x", runtime=runtime).text == "done"
    assert threads[0].is_alive()
    runtime.stop(0)
    for thread in threads:
        thread.join(WAIT)


@pytest.mark.parametrize("hanging", ["on_event", "keys", "halt_when", "on_tool_error", "instructions", "history"])
def test_a_kind_of_functions_that_hangs_holds_up_no_other_kind(
    hanging: str, sim: Simulator, fast: Make, runtime: allm.Runtime, stuck: Any
) -> None:
    def fails() -> str:
        raise ValueError("no")

    def later(asked: list[object], given: Any, value: Any, hangs: bool) -> Any:
        asked.append(given)
        if hangs and len(asked) == 2:
            stuck()
        return value

    def call(kind: str, hangs: bool) -> Any:
        tool = allm.tool(fails)
        sim.reply(Reply(tool_calls=(("fails", {}),)), Reply(text="done"))
        asked: list[object] = []
        function: Any = stuck if hangs else None

        def go_on(*_: object) -> Any:
            return "continue"

        def brief(given: Any) -> Any:
            return later(asked, given, "brief", hangs)

        def whole(given: Any) -> Any:
            return later(asked, given, given.messages, hangs)

        return {
            "on_event": lambda: allm.chat(fast(tools=(tool,)), "x", on_event=function or str, runtime=runtime),
            "keys": lambda: allm.chat(fast(tools=(tool,), keys=function or resolve), "x", runtime=runtime),
            "halt_when": lambda: allm.chat(fast(tools=(tool,)), "x", halt_when=function or (lambda _: False), runtime=runtime),
            "on_tool_error": lambda: allm.chat(fast(tools=(tool,)), "x", on_tool_error=function or go_on, runtime=runtime),
            "instructions": lambda: allm.chat(fast(tools=(tool,), instructions=brief), "x", runtime=runtime),
            "history": lambda: allm.chat(fast(tools=(tool,), history=whole), "x", runtime=runtime),
        }[kind]

    fill(runtime)
    hung = call(hanging, True)

    def hang() -> None:
        with suppress(allm.AllmError):  # of the runtime that is stopped
            hung()

    thread = in_thread(hang)
    eventually(lambda: stuck.inside, "it hangs")
    for kind in ("on_event", "keys", "halt_when", "on_tool_error", "instructions", "history"):
        if kind != hanging:
            assert call(kind, False)().text == "done", kind
    assert thread.is_alive() or hanging == "on_event"
    runtime.stop(0)
    thread.join(WAIT)


def test_functions_that_come_back_are_counted_and_nothing_is_left(sim: Simulator, fast: Make, runtime: allm.Runtime) -> None:
    two_steps(sim)
    assert allm.chat(fast(tools=(look,)), "x", halt_when=lambda _: False, on_event=str, runtime=runtime).text == "done"
    functions = runtime.stats()["functions"]
    assert functions["halt_when"] == {"done": 1, "failed": 0, "late": 0, "given_up": 0, "stuck": 0}
    assert functions["on_event"]["late"] == 0


@pytest.mark.parametrize("value", [0, -1, True, "30"])
def test_the_time_of_a_callback_is_a_positive_number(value: Any) -> None:
    with pytest.raises(allm.ValidationError, match=r"timeouts\.callback"):
        allm.Timeouts(callback=value)
