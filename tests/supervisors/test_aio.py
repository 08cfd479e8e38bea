"""Administration and tasks for who awaits: nothing blocks the loop, wherever the actors run."""

from __future__ import annotations

import asyncio
import contextlib
import threading
import time
from collections.abc import AsyncIterator, Callable, Coroutine, Iterator
from types import SimpleNamespace
from typing import Any, TypeVar

import pytest

import allm.supervisors
from allm.supervisors import (
    Actor,
    ActorExited,
    AskCycle,
    CallTimeout,
    ChildSpec,
    Crash,
    DynamicSupervisor,
    Exit,
    Flags,
    LoopDispatcher,
    Ok,
    PartitionSupervisor,
    PoolDispatcher,
    StartError,
    Supervisor,
    SupervisorError,
    TaskSupervisor,
    ThreadDispatcher,
    aio,
    aio_tasks,
    child,
    kill,
)
from allm.supervisors.cell import alive
from allm.supervisors.dispatch import Dispatcher
from tests.supervisors.support import WAIT, Journal, Loop, Probe, make_dispatcher, spec

T = TypeVar("T")
Live = Callable[[], Dispatcher]


@pytest.fixture(params=["this loop", "another loop", "pool", "thread"])
def where(request: pytest.FixtureRequest, loop: Loop) -> Live:
    """Where the actors run; the test itself awaits on a loop that runs actors, where a blocking wait is refused."""
    if request.param == "this loop":
        return aio.this_loop
    kind = str(request.param).removeprefix("another ")
    return lambda: make_dispatcher(kind, loop)


def awaited(main: Callable[[], Coroutine[Any, Any, T]]) -> T:
    """Run it on a loop that runs actors, within the time of a test."""

    async def timed() -> T:
        serving = LoopDispatcher(asyncio.get_running_loop())
        async with asyncio.timeout(WAIT):
            result = await main()
        assert serving.loop.is_running()
        return result

    return asyncio.run(timed())


class Echo(Actor):
    def on_receive(self, message: Any) -> Any:
        if isinstance(message, float):
            time.sleep(message)
        return message


class AsyncEcho(Actor):
    async def on_receive(self, message: Any) -> Any:
        await asyncio.sleep(0)
        return message


def test_ASYNC_03_a_tree_is_started_asked_and_stopped_by_who_awaits(where: Live, journal: Journal) -> None:
    async def main() -> None:
        root = await aio.start_and_wait(Supervisor, [spec(journal, "a"), spec(journal, "b")], on=where(), timeout=WAIT)
        a = child(root, "a")
        assert a is not None
        assert await aio.call(a, "hello") == "hello"
        assert await asyncio.gather(*(aio.call(a, number) for number in range(10))) == list(range(10))
        assert await aio.stop(root, Exit("done")) == Exit("done")
        assert journal.of("stop") == [("b", "shutdown"), ("a", "shutdown")]
        assert (await aio.stop(root)).kind == "noproc"
        with pytest.raises(ActorExited):
            await aio.call(a, "hello")

    awaited(main)


def test_ASYNC_03b_all_of_administration_has_a_twin(where: Live, journal: Journal) -> None:
    async def main() -> None:
        root = await aio.start_and_wait(Supervisor, on=where())
        first = await aio.start_child(root, spec(journal, "a"))
        assert [info.ref for info in await aio.which_children(root)] == [first]
        await aio.terminate_child(root, "a")
        assert (await aio.which_child(root, "a")).ref is None
        second = await aio.restart_child(root, "a")
        with pytest.raises(SupervisorError) as error:
            await aio.delete_child(root, "a")
        assert error.value.reason == "running"
        assert (await aio.count_children(root)).active == 1
        assert (await aio.get_spec(root, "a")).id == "a"
        await aio.change_specs(root, [spec(journal, "a"), spec(journal, "b")], Flags(max_restarts=9))
        assert await aio.call(second, "x") == "x"
        await aio.terminate_child(root, "a")
        await aio.delete_child(root, "a")
        with pytest.raises(SupervisorError) as error:
            await aio.start_child(root, spec(journal, "c", ["fail"]))
        assert error.value.reason == "start_error"
        await aio.stop(root)

    awaited(main)


def test_ASYNC_03c_dynamic_and_partitioned_supervisors_too(where: Live) -> None:
    async def main() -> None:
        root = await aio.start_and_wait(DynamicSupervisor, template=ChildSpec("echo", (Echo, ())), on=where())
        refs = [await aio.start_child(root, []) for _ in range(3)]
        assert [await aio.call(ref, 1) for ref in refs] == [1, 1, 1]
        await aio.terminate_child(root, refs[0])
        assert (await aio.count_children(root)).active == 2
        await aio.stop(root)
        shares = await aio.start_and_wait(PartitionSupervisor, ChildSpec("echo", (Echo, ())), partitions=2, on=where())
        assert await aio.resize_partitions(shares, 1) == 2
        with pytest.raises(ValueError, match="between 0 and"):
            await aio.resize_partitions(shares, 3)
        await aio.stop(shares)

    awaited(main)


def test_ASYNC_03d_failures_of_starts_and_calls_are_those_of_the_blocking_ones(where: Live, journal: Journal) -> None:
    async def main() -> None:
        with pytest.raises(StartError):
            await aio.start_and_wait(Probe, journal, "a", ["fail"], on=where())
        ref = await aio.start_and_wait(Probe, journal, on=where())
        with pytest.raises(RuntimeError):
            await aio.call(ref, Crash("boom"))
        assert not ref.is_alive()

    awaited(main)


def test_ASYNC_03e_a_time_that_runs_out_names_server_request_and_time_and_ends_what_was_started(journal: Journal) -> None:
    gate = threading.Event()

    class Late(Actor):
        def on_start(self) -> None:
            gate.wait(WAIT)

    async def main() -> None:
        pool = PoolDispatcher(4, idle=0.05)
        ref = await aio.start_and_wait(Probe, journal, on=pool)

        def hang(_: Probe) -> bool:
            return gate.wait(WAIT)

        hanging = asyncio.create_task(aio.call(ref, hang, timeout=None))
        await asyncio.sleep(0)
        with pytest.raises(CallTimeout, match=r"Probe#\d+ did not answer str within 0.01 seconds"):
            await aio.call(ref, "x", timeout=0.01)
        before = set(alive)
        with pytest.raises(CallTimeout):
            await aio.start_and_wait(Late, on=pool, timeout=0.01)
        starting = asyncio.create_task(aio.start_and_wait(Late, on=pool))
        await asyncio.sleep(0.01)
        starting.cancel()
        with pytest.raises(asyncio.CancelledError):
            await starting
        assert set(alive) == before
        gate.set()
        assert await hanging is True
        await aio.stop(ref)

    awaited(main)


def test_ASYNC_03f_futures_of_pykkas_making_can_be_awaited(where: Live) -> None:
    async def main() -> None:
        ref = await aio.start_and_wait(Echo, on=where())
        called: list[int] = []

        def double(number: int) -> int:
            called.append(number)
            return 2 * number

        one, two, many = (ref.ask(message, block=False) for message in (1, 2, (1, 2, 3)))
        assert await one.map(double).map(double) == 4
        assert called == [1, 2]
        assert await one.join(two) == [1, 2]
        assert await many.filter(lambda number: number > 1) == [2, 3]
        assert await many.reduce(lambda first, second: first + second) == 6
        slow = ref.ask(0.01, block=False).map(lambda _: double(3))
        assert await slow == await slow == 6
        assert called.count(3) == 1
        with pytest.raises(ZeroDivisionError):
            await ref.ask(0, block=False).map(lambda number: 1 // number)
        assert await ref.stop(block=False) is True
        assert await ref.stop(block=False) is False

    awaited(main)


def test_ASYNC_03g_a_function_given_to_map_may_not_block_the_loop_either(threads: Dispatcher) -> None:
    async def main() -> None:
        ref = await aio.start_and_wait(Echo, on=threads)
        asked = 0

        def block(message: Any) -> Any:
            nonlocal asked
            asked += 1
            return ref.ask(0.01)

        with pytest.raises(allm.supervisors.WouldBlock):
            await ref.ask("x", block=False).map(block)
        assert asked == 1
        await aio.stop(ref)

    awaited(main)


def test_ASYNC_03h_a_wait_that_is_given_up_leaves_nothing_at_the_future() -> None:
    async def main() -> None:
        ref = await aio.start_and_wait(Echo, on=PoolDispatcher(1, idle=0.05))
        slow: Any = ref.ask(0.05, block=False)
        for _ in range(10):
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(0):
                    await slow
        assert len(slow._callbacks) <= 1
        assert await slow == 0.05
        await aio.stop(ref)

    awaited(main)


def test_ASYNC_03i_where_nothing_is_said_an_actor_that_awaits_runs_on_this_loop() -> None:
    async def main() -> None:
        ref = await aio.start_and_wait(AsyncEcho)
        assert await aio.call(ref, "x") == "x"
        assert ref.actor_inbox.dispatcher is aio.this_loop()  # type: ignore[attr-defined]  # pyright: ignore
        root = await aio.start_and_wait(Supervisor, [AsyncEcho], on=aio.this_loop())
        echo = child(root, "AsyncEcho", kind=AsyncEcho)
        assert echo is not None
        assert await aio.call(echo, "y") == "y"
        await aio.stop(root)
        await aio.stop(ref)

    awaited(main)


def test_ASYNC_03j_rings_are_refused_and_a_spawned_task_may_call_its_own_actor() -> None:
    class Self(Actor):
        async def on_receive(self, message: Any) -> Any:
            if message == "now":
                with pytest.raises(AskCycle, match="calling_self"):
                    await aio.call(self.actor_ref, "x")
                with pytest.raises(AskCycle, match="calling_self"):
                    await aio.stop(self.actor_ref)
                self.spawn(self.later_on(self.later()))
            return message

        async def later_on(self, reply: Any) -> None:
            reply.set(await aio.call(self.actor_ref, "from beside"))

    async def main() -> None:
        ref = await aio.start_and_wait(Self)
        assert await aio.call(ref, "now") == "from beside"
        await aio.stop(ref)

    awaited(main)


# -- tasks


def square(number: int) -> int:
    return number * number


async def async_square(number: int) -> int:
    await asyncio.sleep(0)
    return number * number


def test_ASYNC_03k_tasks_are_awaited(where: Live) -> None:
    async def main() -> None:
        tasks = await aio.start_and_wait(TaskSupervisor, on=where())
        task = await aio.async_(tasks, square, 3)
        assert await task == await task.result() == 9
        assert await task.poll() == Ok(9)
        failing = await aio.async_nolink(tasks, int, "x")
        outcome = await failing.poll(WAIT)
        assert isinstance(outcome, Exit)
        assert outcome.detail["type"] == "builtins.ValueError"
        with pytest.raises(ValueError):
            await failing.result()
        assert await aio.await_many([await aio.async_(tasks, square, number) for number in range(4)]) == [0, 1, 4, 9]
        assert await aio.await_many([]) == []
        with pytest.raises(ValueError):
            await aio.await_many([await aio.async_(tasks, square, 1), await aio.async_(tasks, int, "x")])
        await aio.stop(tasks)

    awaited(main)


def test_ASYNC_03l_a_task_that_takes_too_long_can_be_left_looked_at_and_stopped(threads: Dispatcher) -> None:
    gate = threading.Event()

    async def main() -> None:
        tasks = await aio.start_and_wait(TaskSupervisor, on=threads)
        task = await aio.async_(tasks, gate.wait, WAIT)
        assert await task.poll() is None
        assert await task.poll(0.01) is None
        with pytest.raises(CallTimeout):
            await task.result(0.01)
        with pytest.raises(CallTimeout):
            await aio.await_many([task], 0.01)
        assert await task.shutdown(0.01) is None
        assert task.ref is not None
        assert not task.ref.is_alive()
        other = await aio.async_nolink(tasks, square, 2)
        assert await other.result() == 4
        assert await other.shutdown() == Ok(4)
        gate.set()
        await aio.stop(tasks)

    awaited(main)


def test_ASYNC_03m_coroutine_functions_are_tasks_on_a_loop_and_refused_elsewhere(threads: Dispatcher) -> None:
    ended: list[bool] = []

    async def hang() -> None:
        try:
            await asyncio.Event().wait()
        finally:
            ended.append(True)

    async def main() -> None:
        tasks = await aio.start_and_wait(TaskSupervisor, on=aio.this_loop())
        assert await aio.await_many([await aio.async_(tasks, async_square, number) for number in range(4)]) == [0, 1, 4, 9]
        task = await aio.async_(tasks, hang)
        await asyncio.sleep(0)
        assert await task.shutdown() is None
        assert ended == [True]
        await aio.stop(tasks)
        tasks = await aio.start_and_wait(TaskSupervisor, on=threads)
        with pytest.raises(SupervisorError, match="needs a LoopDispatcher"):
            await aio.async_(tasks, async_square, 1)
        await aio.stop(tasks)

    awaited(main)


def test_ASYNC_03n_a_linked_task_and_its_actor_share_their_end(where: Live) -> None:
    class Asker(Actor):
        def __init__(self, tasks: Any) -> None:
            super().__init__()
            self.tasks = tasks

        async def on_receive(self, message: Any) -> Any:
            return await (await aio.async_(self.tasks, square if message else int, message or "x"))

    async def main() -> None:
        tasks = await aio.start_and_wait(TaskSupervisor, on=where())
        asker = await aio.start_and_wait(Asker, tasks)
        assert await aio.call(asker, 3) == 9
        with pytest.raises((ValueError, ActorExited)):
            await aio.call(asker, 0)
        await aio.stop(tasks)

    awaited(main)


def test_ASYNC_03o_a_stream_of_tasks_is_bounded_ordered_and_leaves_none_behind(where: Live) -> None:
    taken: list[int] = []

    async def numbers() -> AsyncIterator[int]:
        for number in range(6):
            await asyncio.sleep(0)
            taken.append(number)
            yield number

    async def main() -> None:
        tasks = await aio.start_and_wait(TaskSupervisor, on=where())
        squares = [Ok(number * number) for number in range(6)]
        assert [one async for one in aio.async_stream(tasks, square, range(6), max_concurrency=2)] == squares
        received: list[Any] = []
        async for one in aio.async_stream(tasks, square, numbers(), max_concurrency=2):
            assert len(taken) - len(received) <= 2
            received.append(one)
        assert received == squares
        unordered = [one async for one in aio.async_stream(tasks, square, range(6), max_concurrency=2, ordered=False)]
        assert sorted(one.value for one in unordered if isinstance(one, Ok)) == [0, 1, 4, 9, 16, 25]
        first, second = [one async for one in aio.async_stream(tasks, int, ["1", "x"], max_concurrency=1)]
        assert first == Ok(1)
        assert isinstance(second, Exit)
        async with contextlib.aclosing(aio.async_stream(tasks, square, range(100), max_concurrency=2)) as stream:
            async for one in stream:
                assert one == Ok(0)
                break
        assert (await aio.count_children(tasks)).specs == 0
        await aio.stop(tasks)

    awaited(main)


def test_ASYNC_03p_a_task_of_a_stream_has_its_time(threads: Dispatcher) -> None:
    gate = threading.Event()

    async def main() -> None:
        tasks = await aio.start_and_wait(TaskSupervisor, on=threads)

        def work(number: int) -> int:
            return number if number else int(gate.wait(WAIT))

        kept = [one async for one in aio.async_stream(tasks, work, [1, 0, 2], max_concurrency=1, timeout=0.05, on_timeout="kill")]
        assert kept == [Ok(1), Exit("timeout"), Ok(2)]
        with pytest.raises(CallTimeout):
            await anext(aio.async_stream(tasks, work, [0], timeout=0.05))
        gate.set()
        await aio.stop(tasks)
        for wrong in ({"max_concurrency": 0}, {"max_concurrency": 1.5}, {"on_timeout": "wait"}, {"timeout": -1.0}):
            with pytest.raises(ValueError):
                aio.async_stream(tasks, work, [], **wrong)  # pyright: ignore

    awaited(main)


def test_ASYNC_03p_a_task_done_in_time_is_not_late_because_its_result_is_read_late(where: Live, monkeypatch: pytest.MonkeyPatch) -> None:
    now = [0.0]
    monkeypatch.setattr(aio_tasks, "clock", SimpleNamespace(now=lambda: now[0]))

    async def main() -> None:
        tasks = await aio.start_and_wait(TaskSupervisor, on=where())
        received: list[Any] = []
        async for one in aio.async_stream(tasks, square, range(4), max_concurrency=4, timeout=WAIT):
            received.append(one)
            while (await aio.count_children(tasks)).specs:  # until the others are done, and have told so
                await asyncio.sleep(0.001)
            now[0] = 10 * WAIT
        assert received == [Ok(0), Ok(1), Ok(4), Ok(9)]
        await aio.stop(tasks)

    awaited(main)


def test_ASYNC_03p_a_stream_that_is_left_early_closes_what_its_items_come_from() -> None:
    closed: list[str] = []

    async def awaited_numbers() -> AsyncIterator[int]:
        try:
            for number in range(9):
                yield number
        finally:
            closed.append("async")

    def numbers() -> Iterator[int]:
        try:
            yield from range(9)
        finally:
            closed.append("plain")

    async def main() -> None:
        tasks = await aio.start_and_wait(TaskSupervisor)
        held: list[Any] = [awaited_numbers(), numbers()]
        for items in held:
            async with contextlib.aclosing(aio.async_stream(tasks, square, items, max_concurrency=2)) as stream:
                assert await anext(stream) == Ok(0)
        assert closed == ["async", "plain"]
        await aio.stop(tasks)

    awaited(main)


def test_ASYNC_03q_only_who_started_a_task_may_await_it() -> None:
    class Thief(Actor):
        async def on_receive(self, message: Any) -> Any:
            with pytest.raises(RuntimeError, match="may wait for task"):
                await message.result()
            return True

    async def main() -> None:
        tasks = await aio.start_and_wait(TaskSupervisor, on=ThreadDispatcher())
        thief = await aio.start_and_wait(Thief)
        assert await aio.call(thief, await aio.async_(tasks, square, 1))
        await aio.stop(thief)
        await aio.stop(tasks)

    awaited(main)


def test_ASYNC_03r_a_start_that_nobody_waits_for_any_more_ends_its_task() -> None:
    gate, running, work = threading.Event(), threading.Event(), threading.Event()

    class Held(TaskSupervisor):
        def on_receive(self, message: Any) -> Any:
            running.set()
            gate.wait(WAIT)
            return super().on_receive(message)

    async def main() -> None:
        tasks = await aio.start_and_wait(Held, on=ThreadDispatcher())
        starting = asyncio.create_task(aio.async_nolink(tasks, work.wait, WAIT, shutdown="brutal_kill"))
        while not running.is_set():
            await asyncio.sleep(0.001)
        starting.cancel()
        with pytest.raises(asyncio.CancelledError):
            await starting
        gate.set()
        while (await aio.count_children(tasks)).specs:
            await asyncio.sleep(0.001)
        work.set()
        kill(tasks)

    awaited(main)


def test_ASYNC_03s_every_function_that_waits_has_a_twin_of_the_same_name() -> None:
    for name in aio.__all__:
        if name not in ("this_loop",):
            assert hasattr(allm.supervisors, name)
