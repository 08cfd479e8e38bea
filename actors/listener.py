"""A call's `on_event`: called on a pool of threads, in the caller's context, one event after the other; never on the loop."""

import asyncio
import contextvars
from collections.abc import Callable
from functools import partial
from typing import Any, Final, NamedTuple

from pykka import ActorRef

from allm.actors.crews import Crews
from allm.events import Event, ReasoningDelta, TextDelta, ToolCallDelta
from allm.supervisors import Actor, kill, log
from allm.supervisors.clock import clock
from allm.supervisors.here import call_soon

__all__ = ["Listener", "Listening"]

_BACKLOG: Final = 1000
"""Batches that wait for a slow callback; beyond it deltas are left out, whole blocks still come."""
_GRACE: Final = 1.0
"""Seconds that the end of a call waits for its callback to have seen all events."""
_DELTAS = (TextDelta, ReasoningDelta, ToolCallDelta)


class Finish(NamedTuple):
    """All events were told; say so."""

    done: Callable[[], None]


class Listener(Actor):
    """Calls an `on_event` callback with each event of a call, in order. One that raises is logged, and called again."""

    def __init__(self, on_event: Callable[[Event], object], context: contextvars.Context) -> None:
        super().__init__()
        self._on_event = on_event
        self._context = context
        self.since: float | None = None
        """When it was called with the event that it is at."""

    def on_receive(self, message: "list[Event] | Finish") -> None:
        if isinstance(message, Finish):
            message.done()
            self.exit()
        cell, run, on_event = self.actor_inbox, self._context.run, self._on_event
        for event in message:
            self.since = clock.now()
            try:
                run(on_event, event)
            except BaseException as error:  # SystemExit too: this thread is no place to leave from
                run(log.failure, "on_event_failed", error)
            if cell.exit is not None:
                break  # it was given up meanwhile
        self.since = None


class Listening:
    """A call's way to its listener, which starts with the first event: on the loop, where no signal interrupts. `tell` and `finish` never
    block and never raise.

    An `on_event` that holds one event for longer than `limit` seconds is given up, and hears no more. One that has not seen all events
    when the call's end has waited for it gives its worker's place to another, and may go on.
    """

    def __init__(
        self,
        on_event: Callable[[Event], object],
        context: contextvars.Context,
        limit: float | None,
        crews: Crews,
        loop: asyncio.AbstractEventLoop,
        unfinished: set[Callable[[], None]],
    ) -> None:
        self._on_event = on_event
        self._listener: ActorRef[Listener] | None = None
        self._inbox: Any = None
        self._body: Listener
        self._context = context
        self._limit = limit
        self._crews = crews
        self._loop = loop
        self._unfinished = unfinished

    def _start(self) -> None:
        self._listener = Listener.start_on(self._crews.listeners.pool, self._on_event, self._context)
        self._inbox = self._listener.actor_inbox
        self._body = self._inbox.body
        if self._limit is not None:
            self._crews.patience.add(self)

    def tell(self, events: list[Event]) -> None:
        """These happened."""
        if self._listener is None:
            self._start()
        if len(self._inbox.user) > _BACKLOG:
            events = [event for event in events if not isinstance(event, _DELTAS)]
        if events:
            self._inbox.put_message(events)

    def finish(self, done: Callable[[], None]) -> None:
        """Calls `done` once the callback has seen everything, or after a grace; more than once does no harm."""

        def settled() -> None:
            self._unfinished.discard(settled)
            done()

        def seen() -> None:
            self._crews.patience.discard(self)
            settled()

        if self._listener is None or not self._listener.is_alive():
            done()
            return
        self._unfinished.add(settled)
        self._inbox.put_message(Finish(seen))
        if not call_soon(self._loop, self._loop.call_later, _GRACE, partial(self._grace, settled)):
            settled()  # the loop is closed: nobody would look at the clock

    def due(self, now: float) -> float:
        """See `Timed`."""
        if self._limit is None or self._listener is None or not self._listener.is_alive():
            return float("inf")
        return (self._body.since or now) + self._limit

    def give_up(self) -> None:
        """It holds its event for too long."""
        count = self._crews.listeners.count
        count.given_up += 1
        self._context.copy().run(log.warning, "on_event_given_up", seconds=self._limit)
        if self._listener is not None:
            kill(self._listener)

    def _grace(self, settled: Callable[[], None]) -> None:
        """The call's end has waited long enough. On the loop."""
        if settled not in self._unfinished:
            return
        if self._body.since is not None and self._crews.listeners.pool.replace(self._inbox):
            self._crews.listeners.count.late += 1
            self._context.copy().run(log.warning, "on_event_late", seconds=round(clock.now() - self._body.since, 3))
        settled()
