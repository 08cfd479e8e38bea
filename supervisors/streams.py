"""Many tasks over an iterable, a bounded number at a time."""

from __future__ import annotations

import os
import queue
from collections.abc import Callable, Generator, Iterable, Iterator
from typing import Any, Generic, Literal, TypeVar

from allm.supervisors.clock import clock
from allm.supervisors.exits import CallTimeout, Exit
from allm.supervisors.here import waiting
from allm.supervisors.names import Address
from allm.supervisors.pulse import get
from allm.supervisors.tasks import Ok, Task, async_nolink

__all__ = ["async_stream", "limit_of"]

T = TypeVar("T")


def async_stream(
    supervisor: Address,
    function: Callable[..., T],
    items: Iterable[Any],
    *,
    max_concurrency: int | None = None,
    ordered: bool = True,
    timeout: float | None = 5.0,
    on_timeout: Literal["raise", "kill"] = "raise",
) -> Generator[Ok[T] | Exit]:
    """Yield ``Ok(function(item))`` or the `Exit` of its task for each item, in order unless told otherwise.

    At most `max_concurrency` tasks run (default: the number of CPUs). A task has `timeout` seconds: over that the
    stream raises `CallTimeout`, or kills the task and yields a ``timeout`` exit. However the stream ends, closed
    early too, its tasks are stopped, and `items` is closed if it is a generator. Begun in one thread, it may be read on
    in another. ValueError: an option that has no such value.
    """
    limit = limit_of(max_concurrency, timeout, on_timeout)
    source = iter(items)
    run = _Run[T](supervisor, function, source, timeout, on_timeout)
    return _results(run, source, limit, ordered)


def limit_of(max_concurrency: int | None, timeout: float | None, on_timeout: str) -> int:
    """The number of tasks a stream may run at a time; ValueError for an option that has no such value."""
    limit = (os.cpu_count() or 1) if max_concurrency is None else max_concurrency
    if type(limit) is not int or limit < 1:
        raise ValueError(f"max_concurrency must be a whole number of at least 1, not {max_concurrency!r}")
    if on_timeout not in ("raise", "kill"):
        raise ValueError(f'on_timeout must be "raise" or "kill", not {on_timeout!r}')
    if timeout is not None and (isinstance(timeout, bool) or not timeout >= 0):
        raise ValueError(f"timeout must be seconds, or None, not {timeout!r}")
    return limit


def _results(run: _Run[T], source: Iterator[Any], limit: int, ordered: bool) -> Generator[Ok[T] | Exit]:
    try:
        yield from run.results(limit, ordered)
    finally:
        run.stop()
        if isinstance(source, Generator):
            source.close()


class _Run(Generic[T]):
    """One stream: the tasks that run, by the place of their item, and the outcomes that were not yielded yet."""

    def __init__(
        self,
        supervisor: Address,
        function: Callable[..., T],
        items: Iterator[Any],
        timeout: float | None,
        on_timeout: str,
    ) -> None:
        self._start: Callable[[Any], Task[T]] = lambda item: async_nolink(supervisor, function, item, shutdown="brutal_kill")
        self._items = items
        self._timeout, self._on_timeout = timeout, on_timeout
        self._running: dict[int, tuple[Task[T], float]] = {}
        self._ready: queue.SimpleQueue[int] = queue.SimpleQueue()
        self._done: dict[int, Ok[T] | Exit] = {}
        self._started = self._yielded = 0

    def results(self, limit: int, ordered: bool) -> Iterator[Ok[T] | Exit]:
        more = True
        while more or self._running or self._done:
            while more and len(self._running) + (len(self._done) if ordered else 0) < limit:
                more = self._next()
            if not self._running and not self._done:
                return
            index = self._yielded if ordered else next(iter(self._done), -1)
            if index in self._done:
                self._yielded += 1
                yield self._done.pop(index)
            else:
                self._wait()

    def _next(self) -> bool:
        try:
            item = next(self._items)
        except StopIteration:
            return False
        index, self._started = self._started, self._started + 1
        task = self._start(item)
        self._running[index] = (task, clock.now())
        task.reply.add_done_callback(lambda _: self._ready.put(index))
        return True

    def _wait(self) -> None:
        """Wait until a task is done, or has had its time."""
        oldest = next(iter(self._running))
        left = None if self._timeout is None else self._running[oldest][1] + self._timeout - clock.now()
        try:
            with waiting(None, "waiting for a stream of tasks"):
                index = get(self._ready, left)
        except queue.Empty:
            if self._on_timeout == "raise":
                raise CallTimeout(f"item {oldest} took longer than {self._timeout} seconds") from None
            task, _ = self._running.pop(oldest)
            task.give_up()
            self._done[oldest] = Exit("timeout")
            return
        if index in self._running:
            outcome = self._running.pop(index)[0].outcome()
            assert outcome is not None
            self._done[index] = outcome

    def stop(self) -> None:
        """Leave no task behind. It never blocks: a stream that nobody closed is stopped wherever it is collected."""
        for task, _ in self._running.values():
            task.give_up()
        self._running.clear()
