"""Tasks for who awaits: see `tasks` and `streams`, whose functions these are the twins of."""

from __future__ import annotations

import asyncio
import itertools
import os
from collections.abc import AsyncGenerator, AsyncIterable, Awaitable, Callable, Iterable
from functools import partial
from typing import Any, Generic, Literal, TypeVar

from pykka import ActorRef, Timeout

from allm.supervisors import tasks
from allm.supervisors.actor import kill
from allm.supervisors.aio_calls import accepted, stop
from allm.supervisors.cell import Cell, is_ref
from allm.supervisors.clock import clock
from allm.supervisors.exits import CallTimeout, Exit
from allm.supervisors.futures import Reply
from allm.supervisors.here import here, on_loop
from allm.supervisors.names import Address, ask
from allm.supervisors.requests import StartChild
from allm.supervisors.spec import Shutdown
from allm.supervisors.tasks import Ok

__all__ = ["Task", "async_", "async_nolink", "async_stream", "await_many"]

T = TypeVar("T")

# What is private to a task is this module's, too.
# pyright: reportPrivateUsage=false


class Task(Generic[T]):
    """A handle on a task. Only who started it may wait for it; ``await task`` waits without a limit."""

    def __init__(self, task: tasks.Task[T]) -> None:
        self._task = task

    @property
    def id(self) -> int:
        """Its number."""
        return self._task.id

    @property
    def ref(self) -> ActorRef[Any] | None:
        """The actor that runs it."""
        return self._task.ref

    @property
    def exit(self) -> Exit | None:
        """The exit of that actor, once it has ended."""
        return self._task.exit

    def __await__(self) -> Any:
        return self.result(None).__await__()

    async def result(self, timeout: float | None = 5.0) -> T:
        """Wait for the result; see `tasks.Task.result`."""
        self._task.check_owner()
        if await self._task.reply.arrives(timeout):
            return self._task.result()
        self._give_up()
        raise CallTimeout(f"task {self.id} took longer than {timeout} seconds")

    async def poll(self, timeout: float = 0.0) -> Ok[T] | Exit | None:
        """Wait at most `timeout` seconds; None: not done, ask again."""
        self._task.check_owner()
        return self._task.poll() if await self._task.reply.arrives(timeout) else None

    async def shutdown(self, timeout: float | None = 5.0) -> Ok[T] | Exit | None:
        """Stop it, by force after `timeout` seconds; what it had to say by then. None: nothing."""
        done, ref = await self.poll(), self.ref
        if done is not None or ref is None:
            return done
        self._task._unlink()
        self._task._flush()
        try:
            await stop(ref, timeout=timeout)
        except Timeout:
            self._task._kill()
        last = await self.poll()
        return last if isinstance(last, Ok) else None

    def _give_up(self) -> None:
        """A linked task is killed: the one it worked for has given up."""
        if self._task.linked:
            self._task._kill()
        self._task._flush()


async def async_(supervisor: Address, function: Callable[..., Any], *args: Any, shutdown: Shutdown = 5.0) -> Task[Any]:
    """Run `function(*args)` as a task, linked to the actor whose handler this is; on a loop a coroutine function is awaited."""
    return await _start(supervisor, function, args, shutdown, linked=isinstance(here.cell, Cell))


async def async_nolink(supervisor: Address, function: Callable[..., Any], *args: Any, shutdown: Shutdown = 5.0) -> Task[Any]:
    """Run it without a link: its failure reaches the actor whose handler this is as a `Down` message."""
    return await _start(supervisor, function, args, shutdown, linked=False)


async def _start(
    supervisor: Address, function: Callable[..., Any], args: tuple[Any, ...], shutdown: Shutdown, *, linked: bool
) -> Task[Any]:
    task, spec = tasks.prepare(function, args, shutdown, linked=linked)
    started = ask(supervisor, StartChild(spec), here.awaiter)
    try:
        task.ref = accepted(await started.within(5.0))
    except (asyncio.CancelledError, CallTimeout):
        started.add_done_callback(_unwanted)
        raise
    return Task(task)


def _unwanted(started: Reply[Any]) -> None:
    """Nobody has the handle on this task: end it."""
    if started.error is None and is_ref(ref := started.get()):
        kill(ref)


async def await_many(many: Iterable[Task[Any]], timeout: float | None = 5.0) -> list[Any]:
    """The results in order; the first failure is raised at once. After `timeout` seconds linked tasks are killed."""
    waiting = list(many)
    together: Reply[None] = Reply()
    missing = itertools.count(len(waiting) - 1, -1)

    def one_done(reply: Reply[Any]) -> None:
        if reply.error is not None:
            together.fail(reply.error)
        elif next(missing) == 0:
            together.answer(None)

    for task in waiting:
        task._task.check_owner()
        task._task.reply.add_done_callback(one_done)
    if waiting and not await together.arrives(timeout):
        for task in waiting:
            task._give_up()
        raise CallTimeout(f"{len(waiting)} tasks took longer than {timeout} seconds")
    if waiting:
        together.get()
    return [await task.result() for task in waiting]


def async_stream(
    supervisor: Address,
    function: Callable[..., Any],
    items: Iterable[Any] | AsyncIterable[Any],
    *,
    max_concurrency: int | None = None,
    ordered: bool = True,
    timeout: float | None = 5.0,
    on_timeout: Literal["raise", "kill"] = "raise",
) -> AsyncGenerator[Ok[Any] | Exit]:
    """Yield ``Ok(function(item))`` or the `Exit` of its task for each item; see `streams.async_stream`.

    Use ``async with contextlib.aclosing(...)`` where the loop may be left early: its tasks are stopped when it is closed.
    """
    limit = max_concurrency if max_concurrency is not None else os.cpu_count() or 1
    if limit < 1:
        raise ValueError(f"max_concurrency must be at least 1, not {limit}")
    if on_timeout not in ("raise", "kill"):
        raise ValueError(f"on_timeout must be raise or kill, not {on_timeout!r}")
    start = partial(async_nolink, supervisor, function, shutdown="brutal_kill")
    return _Run(start, _each(items), timeout, on_timeout).results(limit, ordered)


async def _each(items: Iterable[Any] | AsyncIterable[Any]) -> AsyncGenerator[Any]:
    if isinstance(items, AsyncIterable):
        async for item in items:
            yield item
    else:
        for item in items:
            yield item


class _Run:
    """One stream: the tasks that run, by the place of their item, and what is done and was not yielded yet."""

    def __init__(
        self, start: Callable[[Any], Awaitable[Task[Any]]], items: AsyncGenerator[Any], timeout: float | None, on_timeout: str
    ) -> None:
        self._start, self._items, self._timeout, self._on_timeout = start, items, timeout, on_timeout
        self._running: dict[int, tuple[Task[Any], float]] = {}
        self._done: dict[int, Ok[Any] | Exit] = {}
        self._ready: asyncio.Queue[int] = asyncio.Queue()
        self._started = self._yielded = 0

    async def results(self, limit: int, ordered: bool) -> AsyncGenerator[Ok[Any] | Exit]:
        more = True
        try:
            while more or self._running or self._done:
                while more and len(self._running) + (len(self._done) if ordered else 0) < limit:
                    more = await self._next()
                index = self._yielded if ordered else next(iter(self._done), -1)
                if index in self._done:
                    self._yielded += 1
                    yield self._done.pop(index)
                elif self._running:
                    await self._wait()
        finally:
            await self._items.aclose()
            await self._stop()

    async def _next(self) -> bool:
        async for item in self._items:
            index, self._started = self._started, self._started + 1
            task = await self._start(item)
            self._running[index] = (task, clock.now())
            task._task.reply.add_done_callback(partial(self._told, asyncio.get_running_loop(), index))
            return True
        return False

    def _told(self, loop: asyncio.AbstractEventLoop, index: int, _: Reply[Any]) -> None:
        """Note that a task is done. Any thread."""
        on_loop(loop, partial(self._ready.put_nowait, index))

    async def _wait(self) -> None:
        """Wait until a task is done, or has had its time."""
        oldest = min(self._running, key=lambda index: self._running[index][1])
        left = None if self._timeout is None else max(0.0, self._running[oldest][1] + self._timeout - clock.now())
        try:
            index = await asyncio.wait_for(self._ready.get(), left)
        except TimeoutError:
            if self._on_timeout == "raise":
                raise CallTimeout(f"item {oldest} took longer than {self._timeout} seconds") from None
            task, _ = self._running.pop(oldest)
            await task.shutdown(0)
            self._done[oldest] = Exit("timeout")
            return
        if index in self._running:
            outcome = await self._running.pop(index)[0].poll()
            assert outcome is not None
            self._done[index] = outcome

    async def _stop(self) -> None:
        """Leave no task behind."""
        for task, _ in self._running.values():
            if task.ref is not None:
                task._task._flush()
                kill(task.ref)
        self._running.clear()
