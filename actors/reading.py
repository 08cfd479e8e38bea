"""A large piece of an answer, read on a thread: the loop stands still for no JSON of megabytes.

A decoder is used by one thread at a time. While a thread has it, the end of its call waits (`Call.fail`, `Call.cancelled`): that is not
long, as what an answer may be is bounded. What the decoder gave by then is handed on before the end.
"""

import asyncio
from collections.abc import Callable
from typing import Any, Final

from allm.actors.crews import Crew
from allm.events import Event
from allm.supervisors.here import call_soon

__all__ = ["LARGE", "SLICE", "Reading", "aside"]

LARGE: Final = 128 << 10
"""Bytes from which on a thread reads: below it takes the loop some milliseconds at most, and a thread costs 0.1 ms."""
SLICE: Final = 2_000
"""Events that are handed on in one go: under 1 ms."""


async def aside(crew: Crew, function: Callable[[], Any]) -> Any:
    """What `function`, which is ours and ends soon, gives on a thread. It goes on if who waits is cancelled. On the loop."""
    reading = Reading(function)
    return await reading.begin(crew)


class Reading:
    """One piece. Made, begun and looked at on the loop; only `_run` is on a thread."""

    __slots__ = ("_error", "_function", "_future", "_then", "_value", "over", "taken")

    def __init__(self, function: Callable[[], Any]) -> None:
        self._function: Callable[[], Any] | None = function
        self._value: Any = None
        self._error: BaseException | None = None
        self._future: asyncio.Future[None] | None = None
        self._then: Callable[[], None] | None = None
        self.over = False
        """Whether the thread has done its work."""
        self.taken = 0
        """How many of its events were handed on."""

    async def begin(self, crew: Crew) -> Any:
        """What came of it, or its exception."""
        loop = asyncio.get_running_loop()
        self._future = loop.create_future()
        errand = crew.start("the reading of an answer", self._run, None)

        def over(_: object) -> None:
            if not call_soon(loop, self._finish):
                self._finish()  # the loop is closed

        errand.reply.add_done_callback(over)
        await self._future
        if self._error is not None:
            raise self._error
        return self._value

    def rest(self) -> list[Event]:
        """The events that were not handed on. Once it is over."""
        events: list[Event] = self._value or []
        return events[self.taken :] if self._error is None else []

    def then(self, end: Callable[[], None]) -> None:
        """Call `end` once it is over. The first one counts."""
        self._then = self._then or end

    def _run(self) -> None:
        function, self._function = self._function, None
        if function is None:
            return
        try:
            self._value = function()
        except Exception as error:
            self._error = error

    def _finish(self) -> None:
        if self.over:
            return
        self._run()  # if no thread could be had
        self.over = True
        if self._future is not None and not self._future.done():
            self._future.set_result(None)
        then, self._then = self._then, None
        if then is not None:
            then()
