"""A call of a function off the calling thread, within a time, told by a callback: a `Shelf` loads and saves by it.

A job is an actor that nobody supervises and that ends with its call. One that takes too long is killed, so that it is
fenced: what it does after that is void if it asks `guard` first.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

from allm.supervisors.actor import Actor, launch
from allm.supervisors.cell import Cell
from allm.supervisors.exits import NORMAL, Exit
from allm.supervisors.lanes import Dispatcher
from allm.supervisors.timers import TimerRef, shared_timers

__all__ = ["Job"]


class _Worker(Actor):
    """The actor of a job."""

    def __init__(self, job: Job) -> None:
        super().__init__()
        self._job = job

    def on_start(self) -> None:
        self._job.run()
        self.exit(NORMAL)


class Job:
    """`done(value, None)` or `done(None, exit)` is called once, on any thread; an exit of kind ``timeout`` after `timeout` seconds."""

    def __init__(self, function: Callable[[], Any], done: Callable[[Any, Exit | None], object]) -> None:
        self._function, self._done = function, [done]  # popped by whoever tells the outcome
        self._value: Any = None
        self._failure: Exit | None = None
        self._timer: TimerRef | None = None
        self._worker: _Worker | None = _Worker(self)
        self.cell = self._worker.actor_inbox
        self.cell.owner = self

    def start(self, on: Dispatcher, timeout: float | None, what: str) -> None:
        """Begin; `what` is said of one that takes longer than `timeout` seconds."""
        worker, self._worker = self._worker, None
        if worker is None or self.cell.exit is not None:
            return
        launch(worker, on, self)
        if timeout is not None:
            late = Exit("timeout", f"{what} took longer than {timeout} seconds")
            self._timer = timer = shared_timers().call_after(timeout, partial(self.end, late))
            if self.cell.exit is not None:  # it may be over already
                timer.cancel()

    def run(self) -> None:
        """Make the call, on the dispatcher."""
        try:
            self._value = self._function()
        except Exception as error:
            self._failure = Exit.from_exception(error)

    def end(self, exit: Exit) -> None:
        """End it at once. Any thread."""
        self.cell.cancel(exit)

    # -- as the owner of its actor

    def child_started(self, cell: Cell) -> None:
        """Ignore the start: only the end matters here."""

    def child_ended(self, cell: Cell, exit: Exit) -> None:
        """Tell the outcome: that of the call, if the actor came to its end by itself."""
        if self._timer is not None:
            self._timer.cancel()
        failure = self._failure if exit.kind == "normal" else exit
        try:
            done = self._done.pop()
        except IndexError:
            return
        done(self._value if failure is None else None, failure)

    # -- as a watcher of the actor it works for

    def started(self, cell: Cell) -> None:
        """Ignore the start: only the end matters here."""

    def ended(self, cell: Cell, exit: Exit) -> None:
        """End the call: the actor that wants its outcome is gone."""
        self.end(exit)
