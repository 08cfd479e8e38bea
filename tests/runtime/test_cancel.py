"""Ending a call early: from anywhere, at any moment; upstream is closed, what came so far is kept, nothing is left behind."""

import asyncio
import gc
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest

import allm
from allm.events import Event
from allm.testing import Fault, Reply, Simulator
from tests.runtime.conftest import Make
from tests.runtime.support import WAIT, eventually, first_delta, kinds, living, node, one_end, size, text_of

LONG = Reply(text="word " * 2_000, delay=0.01)
PROMPT = 0.3 * 2
"""Seconds until upstream is closed; 0.3 on an idle machine."""


@pytest.fixture(autouse=True)
def long(sim: Simulator) -> None:
    sim.respond(lambda request: LONG if request.text == "Hi" else None)


def closed_by_client(sim: Simulator, count: int = 1) -> None:
    """Every request was ended by the client, soon."""
    start = time.monotonic()
    assert sim.wait_idle()
    assert time.monotonic() - start < PROMPT
    assert [request.outcome for request in sim.requests] == ["client closed"] * count


def partial_of(stream: allm.Stream) -> str:
    response = stream.response()
    assert (response.finish_reason, response.error) == ("cancelled", None)
    assert LONG.text.startswith(response.text)
    return response.text


# cancel


def test_cancelling_from_another_thread_ends_a_fold_with_its_partial(sim: Simulator, engine: allm.Engine, runtime: allm.Runtime) -> None:
    began = threading.Event()

    def see(event: Event) -> None:
        if isinstance(event, allm.TextDelta):
            began.set()

    stream = allm.stream_generate(engine, "Hi", runtime=runtime, on_event=see)
    with ThreadPoolExecutor(1) as pool:
        response = pool.submit(stream.response)
        assert began.wait(WAIT)
        stream.cancel()
        assert response.result(WAIT).finish_reason == "cancelled"
    assert partial_of(stream)
    closed_by_client(sim)


@pytest.mark.parametrize("world", ["for", "async for"])
def test_cancelling_a_stream_that_is_iterated_ends_it_with_a_terminal_event(
    world: str, sim: Simulator, engine: allm.Engine, runtime: allm.Runtime
) -> None:
    async def collect() -> None:
        async for event in stream:
            take(event)

    def take(event: Event) -> None:
        events.append(event)
        if len(events) == 10:
            threading.Thread(target=stream.cancel).start()

    events: list[Event] = []
    stream = allm.stream_generate(engine, "Hi", runtime=runtime)
    if world == "for":
        for event in stream:
            take(event)
    else:
        asyncio.run(collect())
    end = one_end(events)
    assert isinstance(end, allm.MessageCompleted)
    assert end.response == stream.response()
    assert partial_of(stream) == text_of(events)
    assert allm.fold(events) == stream.response()
    closed_by_client(sim)


def test_cancelling_before_the_first_byte_gives_an_empty_response_and_does_not_raise(
    sim: Simulator, engine: allm.Engine, runtime: allm.Runtime
) -> None:
    sim.respond(lambda request: Fault(slow_first_byte=30))
    stream = allm.stream_generate(engine, "Hi", runtime=runtime)
    with ThreadPoolExecutor(1) as pool:
        response = pool.submit(stream.response)
        assert sim.wait_requests(1)
        stream.cancel()
        assert (response.result(WAIT).finish_reason, response.result().text) == ("cancelled", "")
    closed_by_client(sim)


def test_cancelling_during_the_wait_before_a_retry_sends_no_retry(sim: Simulator, make: Make, runtime: allm.Runtime) -> None:
    sim.respond(lambda request: Fault(status=503))
    stream = allm.stream_generate(make(retry=allm.Retry(base_delay=30)), "Hi", runtime=runtime)
    events = iter(stream)
    next(event for event in events if isinstance(event, allm.RetryScheduled))
    start = time.monotonic()
    stream.cancel()
    assert stream.response().finish_reason == "cancelled"
    assert time.monotonic() - start < PROMPT
    eventually(lambda: runtime.stats()["calls"] == 0, "the call is over")
    assert len(sim.requests) == 1


@pytest.mark.parametrize("how", ["cancel", "close", "with"])
def test_ended_before_it_began_nothing_is_sent(how: str, sim: Simulator, engine: allm.Engine, runtime: allm.Runtime) -> None:
    stream = allm.stream_generate(engine, "Hi", runtime=runtime, api_key="sk-1")
    if how == "with":
        with stream:
            pass
    else:
        getattr(stream, how)()
    assert stream.response().finish_reason == "cancelled"
    assert not sim.requests
    assert repr(runtime.vault) == "<Vault of 0>"


def test_a_stream_cancelled_before_it_began_can_be_iterated(sim: Simulator, engine: allm.Engine, runtime: allm.Runtime) -> None:
    stream = allm.stream_generate(engine, "Hi", runtime=runtime)
    stream.cancel()
    assert kinds(stream) == ["MessageCompleted"]
    assert not sim.requests


def test_a_call_cancelled_while_it_is_handed_over_is_never_sent(sim: Simulator, engine: allm.Engine, runtime: allm.Runtime) -> None:
    """The loop is held up, so that call and cancel reach the engine together."""
    held, go_on = threading.Event(), threading.Event()

    def hold() -> None:
        held.set()
        go_on.wait(WAIT)

    runtime._loop.call_soon_threadsafe(hold)  # pyright: ignore[reportPrivateUsage]
    assert held.wait(WAIT)
    stream = allm.stream_generate(engine, "Hi", runtime=runtime)
    with ThreadPoolExecutor(1) as pool:
        response = pool.submit(stream.response)
        eventually(lambda: stream._call, "it was handed over")  # pyright: ignore[reportPrivateUsage]
        stream.cancel()
        go_on.set()
        assert response.result(WAIT).finish_reason == "cancelled"
    assert not sim.requests


def test_cancelling_a_finished_stream_changes_nothing(sim: Simulator, engine: allm.Engine, runtime: allm.Runtime) -> None:
    stream = allm.stream_generate(engine, "Bye", runtime=runtime)
    response = stream.response()
    stream.cancel()
    stream.close()
    assert stream.response() is response
    assert response.finish_reason == "stop"


def test_cancelling_twice_and_from_many_threads_is_one_end(sim: Simulator, engine: allm.Engine, runtime: allm.Runtime) -> None:
    stream = allm.stream_generate(engine, "Hi", runtime=runtime)
    events = iter(stream)
    seen = [first_delta(events)]
    with ThreadPoolExecutor(8) as pool:
        for _ in range(32):
            pool.submit(stream.cancel)
    assert isinstance(one_end([*seen, *events]), allm.MessageCompleted)
    closed_by_client(sim)


def test_half_a_tool_call_is_no_tool_call(sim: Simulator, engine: allm.Engine, runtime: allm.Runtime) -> None:
    sim.respond(lambda request: Reply(text="Let me look.", tool_calls=(("f", {"a": 1}), ("g", {"b": 2})), delay=0.05))
    stream = allm.stream_generate(engine, "Hi", runtime=runtime)
    for event in stream:
        if isinstance(event, allm.ToolCallStarted):
            break
    response = stream.response()
    assert (response.finish_reason, response.text, response.tool_calls) == ("cancelled", "Let me look.", ())


# leaving


@pytest.mark.parametrize("held", [True, False], ids=["held", "not held"])
def test_leaving_the_loop_closes_upstream(held: bool, sim: Simulator, engine: allm.Engine, runtime: allm.Runtime) -> None:
    keep = allm.stream_generate(engine, "Hi", runtime=runtime) if held else None
    for event in keep or allm.stream_generate(engine, "Hi", runtime=runtime):
        if isinstance(event, allm.TextDelta):
            break
    closed_by_client(sim)
    if keep is not None:
        assert partial_of(keep)
        with pytest.raises(allm.StreamError, match="consumed"):
            iter(keep)


@pytest.mark.parametrize("held", [True, False], ids=["held", "not held"])
def test_leaving_an_async_loop_closes_upstream(held: bool, sim: Simulator, engine: allm.Engine, runtime: allm.Runtime) -> None:
    async def go() -> None:
        keep = allm.stream_generate(engine, "Hi", runtime=runtime) if held else None
        async for event in keep or allm.stream_generate(engine, "Hi", runtime=runtime):
            if isinstance(event, allm.TextDelta):
                break
        await asyncio.to_thread(closed_by_client, sim)
        if keep is not None:
            assert (await keep).text
            assert (await keep).finish_reason == "cancelled"

    asyncio.run(go())


def test_an_exception_in_the_loop_closes_upstream(sim: Simulator, engine: allm.Engine, runtime: allm.Runtime) -> None:
    def consume() -> None:
        for event in allm.stream_generate(engine, "Hi", runtime=runtime):
            if isinstance(event, allm.TextDelta):
                raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        consume()
    closed_by_client(sim)


@pytest.mark.parametrize("how", ["close", "with", "async with", "aclose"])
def test_a_stream_is_closed_though_its_cursor_is_still_held(how: str, sim: Simulator, engine: allm.Engine, runtime: allm.Runtime) -> None:
    async def go() -> None:
        async with stream:
            cursor = aiter(stream)
            while not isinstance(await anext(cursor), allm.TextDelta):
                pass
            if how == "aclose":
                await cursor.aclose()  # type: ignore[attr-defined]  # pyright: ignore
                await asyncio.to_thread(closed_by_client, sim)
        await asyncio.to_thread(closed_by_client, sim)

    stream = allm.stream_generate(engine, "Hi", runtime=runtime)
    if how in ("async with", "aclose"):
        asyncio.run(go())
        assert partial_of(stream)
        return
    events = iter(stream)
    if how == "with":
        with stream:
            first_delta(events)
    else:
        first_delta(events)
        stream.close()
    closed_by_client(sim)
    assert LONG.text.startswith(partial_of(stream))
    list(events)  # what had come, if anything, and then the end


@pytest.mark.parametrize("begun", ["by a cursor", "by nothing else"])
def test_dropping_the_last_reference_closes_upstream(begun: str, sim: Simulator, engine: allm.Engine, runtime: allm.Runtime) -> None:
    stream = allm.stream_generate(engine, "Hi", runtime=runtime)
    if begun == "by a cursor":
        events = iter(stream)
        del stream
        gc.collect()
        first_delta(events)  # the cursor keeps it alive
        del events
    else:
        stream._start(fold=False)  # pyright: ignore[reportPrivateUsage]
        assert sim.wait_requests(1)
        del stream
    closed_by_client(sim)


def test_a_cursor_of_asyncio_keeps_its_stream_alive_and_ends_it(sim: Simulator, engine: allm.Engine, runtime: allm.Runtime) -> None:
    async def go() -> None:
        cursor = aiter(allm.stream_generate(engine, "Hi", runtime=runtime))
        gc.collect()
        while not isinstance(await anext(cursor), allm.TextDelta):
            pass
        del cursor
        await asyncio.to_thread(closed_by_client, sim)

    asyncio.run(go())


def test_a_finaliser_that_runs_anywhere_disturbs_nothing(sim: Simulator, fast: Make, runtime: allm.Runtime) -> None:
    """Streams that end in garbage cycles, collected on whatever thread, the loop's included."""
    for _ in range(50):
        stream = allm.stream_generate(fast(), "Hi", runtime=runtime)
        events = iter(stream)
        next(events)
        cycle: list[Any] = [events, stream]
        cycle.append(cycle)
        del stream, events, cycle
    runtime._loop.call_soon_threadsafe(gc.collect)  # pyright: ignore[reportPrivateUsage]
    gc.collect()
    assert sim.wait_idle()
    eventually(lambda: runtime.stats()["calls"] == 0, "no call is left")


# tasks of asyncio


async def one_generate(engine: allm.Engine, runtime: allm.Runtime) -> object:
    return await allm.aio.generate(engine, "Hi", runtime=runtime)


async def one_await(engine: allm.Engine, runtime: allm.Runtime) -> object:
    return await allm.stream_generate(engine, "Hi", runtime=runtime)


async def one_loop(engine: allm.Engine, runtime: allm.Runtime) -> object:
    return [event async for event in allm.stream_generate(engine, "Hi", runtime=runtime)]


async def one_text(engine: allm.Engine, runtime: allm.Runtime) -> object:
    return [text async for text in allm.stream_generate(engine, "Hi", runtime=runtime).text_deltas()]


@pytest.mark.parametrize("work", [one_generate, one_await, one_loop, one_text])
@pytest.mark.parametrize("moment", ["waiting", "streaming"])
def test_a_cancelled_task_closes_upstream_and_ends_as_cancelled(
    moment: str, work: Callable[..., Any], sim: Simulator, engine: allm.Engine, runtime: allm.Runtime
) -> None:
    async def go() -> None:
        task = asyncio.ensure_future(work(engine, runtime))
        assert await asyncio.to_thread(sim.wait_requests, 1)
        if moment == "streaming":
            await asyncio.sleep(0.05)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        await asyncio.to_thread(closed_by_client, sim)

    if moment == "waiting":
        sim.respond(lambda request: Fault(slow_first_byte=30))
    asyncio.run(go())


def test_a_timeout_of_the_callers_own_cancels(sim: Simulator, engine: allm.Engine, runtime: allm.Runtime) -> None:
    async def go() -> None:
        with pytest.raises(TimeoutError):
            await asyncio.wait_for(allm.aio.generate(engine, "Hi", runtime=runtime), 0.2)
        await asyncio.to_thread(closed_by_client, sim)

    asyncio.run(go())


def test_a_loop_that_ends_with_a_call_on_it_closes_upstream(sim: Simulator, engine: allm.Engine, runtime: allm.Runtime) -> None:
    async def go() -> None:
        background = asyncio.ensure_future(allm.aio.generate(engine, "Hi", runtime=runtime))
        assert await asyncio.to_thread(sim.wait_requests, 1)
        assert not background.done()

    asyncio.run(go())  # which cancels what is left
    closed_by_client(sim)


# signals


INTERRUPTED = """
import os, signal, sys, threading, time
import allm
engine = allm.Engine(adapter="openai.chat", model="m", base_url=sys.argv[1])
def see(event):
    if isinstance(event, allm.TextDelta) and not seen:
        seen.append(event)
        print("streaming", flush=True)
seen = []
try:
    if sys.argv[2] == "generate":
        allm.generate(engine, "Hi", on_event=see)
    else:
        for event in allm.stream_generate(engine, "Hi", on_event=see):
            pass
except KeyboardInterrupt:
    print("interrupted", flush=True)
    sys.stdin.readline()
    print(allm.generate(engine, "Bye").finish_reason)
"""


@pytest.mark.parametrize("how", ["generate", "for"])
def test_ctrl_c_closes_upstream_and_the_program_can_go_on(how: str, sim: Simulator) -> None:
    process = subprocess.Popen(
        [sys.executable, "-X", "dev", "-W", "error", "-c", INTERRUPTED, sim.base_url("chat"), how],
        stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
    )  # fmt: skip
    assert process.stdin is not None
    assert process.stdout is not None
    with process:
        try:
            assert process.stdout.readline() == "streaming\n"
            os.kill(process.pid, signal.SIGINT)
            assert process.stdout.readline() == "interrupted\n"
            closed_by_client(sim)
            out, err = process.communicate("go on\n", timeout=WAIT)
        finally:
            process.kill()
    assert (out, err) == ("stop\n", "")


# nothing is left


class Baseline:
    """What there is when nothing runs."""

    def __init__(self, runtime: allm.Runtime) -> None:
        self.runtime = runtime
        self.before = self.now()

    def now(self) -> dict[str, Any]:
        return {
            "threads": threading.active_count(),
            "actors of the tree": size(self.runtime.tree()),
            "actors": len(living()),
            "calls": self.runtime.stats()["calls"],
            "keys": repr(self.runtime.vault),
            "descriptors": len(os.listdir("/proc/self/fd")) if os.path.isdir("/proc/self/fd") else 0,
        }

    def reached(self, sim: Simulator) -> None:
        assert sim.wait_idle()
        eventually(lambda: all(now <= before for now, before in zip(self.now().values(), self.before.values(), strict=True)), "at rest")


@pytest.fixture
def baseline(sim: Simulator, fast: Make, runtime: allm.Runtime) -> Baseline:
    """After a first call, which makes the engine's actors, and without the connection that it kept."""
    allm.generate(fast(), "Bye", runtime=runtime)
    eventually(lambda: runtime.stats()["calls"] == 0, "the first call is over")
    return Baseline(runtime)


async def cancelled_in_midst(engine: allm.Engine, runtime: allm.Runtime, number: int) -> None:
    stream = allm.stream_generate(engine, "Hi", runtime=runtime, api_key=f"sk-{number}")
    async for event in stream:
        if isinstance(event, allm.RequestStarted) and number % 4 == 0:
            stream.cancel()
        if isinstance(event, allm.TextDelta):
            stream.cancel()
    assert (await stream).finish_reason == "cancelled"


async def abandoned(engine: allm.Engine, runtime: allm.Runtime, number: int) -> None:
    stream = allm.stream_generate(engine, "Hi", runtime=runtime, api_key=f"sk-{number}")
    if number % 4 == 1:
        return
    async for event in stream:
        if isinstance(event, allm.TextDelta) or number % 4 == 2:
            return


@pytest.mark.parametrize("count", [150, pytest.param(1_000, marks=pytest.mark.slow)])
@pytest.mark.parametrize("way", [cancelled_in_midst, abandoned])
def test_many_ended_calls_leave_nothing_behind(
    way: Callable[..., Any], count: int, sim: Simulator, fast: Make, runtime: allm.Runtime, baseline: Baseline
) -> None:
    async def go() -> None:
        for begin in range(0, count, 50):
            await asyncio.gather(*(way(engine, runtime, number) for number in range(begin, begin + 50)))

    sim.respond(lambda request: Reply(text="word " * 8, delay=0.5))
    engine = fast()
    asyncio.run(go())
    gc.collect()
    baseline.reached(sim)
    assert baseline.now()["keys"] == "<Vault of 0>"
    assert node(runtime.tree(), "engines")["children"]
