"""Calls that belong together: so many at a time, each on the way of every call, and the first that fails ends the others.

One flow, driven by a thread that blocks (`run`) or by a task (`run_async`). Nothing is kept of a call that ended well.
"""

import asyncio
from collections import deque
from collections.abc import Iterable
from functools import partial
from queue import SimpleQueue
from typing import Final

from allm.actors.bridge import bridge_of
from allm.actors.call import Call, Plan
from allm.actors.runtime import Runtime
from allm.errors import EngineError, StreamError
from allm.supervisors.here import waiting
from allm.supervisors.pulse import get

__all__ = ["WIDTH", "Fleet"]

WIDTH: Final = 4
"""Calls under way at a time: enough to hide the round trips, few enough for a rate limit."""


class Fleet:
    """The calls of these plans (all of them folds), in their order. Runs once."""

    def __init__(self, plans: Iterable[Plan], runtime: Runtime, width: int = WIDTH) -> None:
        self._waiting = deque(plans)
        self._runtime = runtime
        self._width = width
        self._running: set[Call] = set()

    def run(self) -> None:
        """Until all are done. Raises what the first that failed raises, after withdrawing the others."""
        if self._runtime.on_loop():
            self._abandon()
            raise EngineError("would_block", "a blocking call on the runtime's own loop would wait for itself")
        ended: SimpleQueue[Call] = SimpleQueue()
        try:
            while self._waiting or self._running:
                while (call := self._next()) is not None:
                    call.pipe.when_done(partial(ended.put, call))
                with waiting(None, "waiting for calls"):
                    call = get(ended)
                self._settle(call)
        finally:
            self._abandon()

    async def run_async(self) -> None:
        """The same for a task of the running loop; cancelling the task withdraws the calls."""
        loop = asyncio.get_running_loop()
        calls: dict[asyncio.Future[None], Call] = {}
        try:
            while self._waiting or self._running:
                while (call := self._next()) is not None:
                    future: asyncio.Future[None] = loop.create_future()
                    calls[future] = call
                    call.pipe.when_done(partial(bridge_of(loop).settle, future))
                done, _ = await asyncio.wait(calls, return_when=asyncio.FIRST_COMPLETED)
                for future in done:
                    self._settle(calls.pop(future))
        finally:
            self._abandon()

    def _next(self) -> Call | None:
        """The next call, on its way; None if there is none now."""
        if not self._waiting or len(self._running) >= self._width:
            return None
        call = self._runtime.prepare(self._waiting.popleft())
        self._runtime.submit(call)
        self._running.add(call)
        return call

    def _settle(self, call: Call) -> None:
        """One has ended. Raises its error."""
        self._running.discard(call)
        call.pipe.check()
        response = call.pipe.response
        if response is None or response.finish_reason == "cancelled":
            raise StreamError("cancelled", "the call was cancelled", request_id=call.id)

    def _abandon(self) -> None:
        """Whatever still runs or waits is not wanted any more."""
        for call in self._running:
            self._runtime.withdraw(call)
        for plan in self._waiting:
            self._runtime.forget(plan)
        self._running.clear()
        self._waiting.clear()
