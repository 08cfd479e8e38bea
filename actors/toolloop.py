"""Asynchronous handlers: on the caller's event loop, or on one of the runtime's own, which is never the one of the connections."""

import asyncio
import contextvars
import threading
from collections.abc import Callable
from functools import partial
from typing import Any, Final

from allm.actors.loops import cancel_all, new_loop
from allm.actors.toolwork import finished
from allm.supervisors import log
from allm.supervisors.here import call_soon

__all__ = ["INSIDE", "AsyncRun", "ToolLoop"]

INSIDE: Final[contextvars.ContextVar[tuple[asyncio.AbstractEventLoop, ...]]] = contextvars.ContextVar("allm_tool_loops", default=())
"""The loops of the handlers that this code was called by: each of them may be blocked until it is done."""


class AsyncRun:
    """One asynchronous handler on a loop. `ended(value, error)` is called there once, unless the loop is closed before."""

    def __init__(
        self,
        loop: asyncio.AbstractEventLoop,
        call: Callable[[], Any],
        context: contextvars.Context,
        ended: Callable[[Any, BaseException | None], object],
    ) -> None:
        self.loop = loop
        self.cancel_seen = False
        """Whether the loop has come round to a cancellation: one that has not is blocked."""
        self._call = call
        self._context = context
        self._ended = ended
        self._task: asyncio.Task[None] | None = None
        self._told = False

    def start(self) -> bool:
        """Any thread. False if the loop is closed."""
        return call_soon(self.loop, self._begin)

    def cancel(self) -> None:
        """Any thread; returns at once."""
        if not call_soon(self.loop, self._cancel):
            self.cancel_seen = True  # it is closed, and runs nothing any more

    def lost(self) -> None:
        """Its loop is closed. On the thread that closed it."""
        self._tell(None, asyncio.CancelledError())

    def _begin(self) -> None:
        if not self.cancel_seen:
            self._task = self.loop.create_task(self._run(), context=self._context)
            self._task.add_done_callback(self._done)

    def _cancel(self) -> None:
        self.cancel_seen = True
        if self._task is not None:
            self._task.cancel()
        else:
            self._tell(None, asyncio.CancelledError())

    async def _run(self) -> None:
        value, failure = None, None
        INSIDE.set((*INSIDE.get(), self.loop))
        try:
            value = await finished(self._call)
        except BaseException as error:  # SystemExit too: it would end the loop
            failure = error
        self._tell(value, failure)

    def _done(self, _: object) -> None:
        self._tell(None, asyncio.CancelledError())  # a task that is cancelled before its first step runs nothing of its own

    def _tell(self, value: Any, failure: BaseException | None) -> None:
        if not self._told:
            self._told = True
            self._ended(value, failure)


class ToolLoop:
    """An event loop on a thread of its own, for handlers of callers that have none. It runs until `end` or `retire`, whatever handlers
    do to it; `gone(loop)` is called when it is closed."""

    def __init__(self, gone: Callable[[asyncio.AbstractEventLoop], object]) -> None:
        self.loop = new_loop()
        self._gone = gone
        self._ending = False
        self._drain: asyncio.Task[None] | None = None
        self.thread = threading.Thread(target=self._run, name="allm-tools-loop", daemon=True)
        self.thread.start()

    @property
    def alive(self) -> bool:
        """Whether it runs what it is given."""
        return self.thread.is_alive() and not self._ending

    def end(self) -> None:
        """Cancels what runs and lets the thread come to its end. Any thread, does not wait; one that is blocked stays as it is."""
        self._ending = True
        call_soon(self.loop, self.loop.stop)  # unless it has ended

    def retire(self) -> None:
        """Lets the thread come to its end when what it runs has ended. Any thread, does not wait."""
        call_soon(self.loop, self._begin_last)  # unless it has ended

    def _begin_last(self) -> None:
        self._drain = self.loop.create_task(self._last())

    async def _last(self) -> None:
        while left := asyncio.all_tasks() - {asyncio.current_task()}:
            await asyncio.wait(left)
        self._ending = True
        self.loop.stop()

    def _run(self) -> None:
        sound = True
        while sound and not self._ending:
            sound = self._survive(self.loop.run_forever)  # a handler may have stopped it
        self._ending = True
        try:
            for last in (cancel_all, self.loop.shutdown_asyncgens) if sound else ():
                self._survive(partial(self.loop.run_until_complete, last()))
            self._survive(self.loop.close)  # and waits for no thread of `asyncio.to_thread`
        finally:
            self._gone(self.loop)

    def _survive(self, run: Callable[[], object]) -> bool:
        """Whether the loop can go on: a task that a handler made, or a callback, may raise SystemExit, which ends this run of the loop
        and only it; any other error is the loop's own."""
        try:
            run()
        except BaseException as error:
            log.error("tool_loop_interrupted", error=repr(error))
            return not isinstance(error, Exception)
        return True
