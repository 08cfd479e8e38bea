"""Where user code runs: on a pool of threads, one actor at a time, never on the loop."""

import asyncio
from collections.abc import Callable
from typing import Any, Final, NamedTuple

from pykka import ActorRef

from allm.events import Event, ReasoningDelta, TextDelta, ToolCallDelta
from allm.supervisors import Actor, log

__all__ = ["Errand", "Listener", "Listening"]

_BACKLOG: Final = 1000
"""Batches that wait for a slow callback; beyond it deltas are left out, whole blocks still come."""
_GRACE: Final = 1.0
"""Seconds that the end of a call waits for its callback to have seen all events."""
_DELTAS = (TextDelta, ReasoningDelta, ToolCallDelta)


class Finish(NamedTuple):
    """All events were told; say so."""

    done: Callable[[], None]


class Listener(Actor):
    """Calls an `on_event` callback with each event of a call, in order. One that raises is reported, and called again."""

    def __init__(self, on_event: Callable[[Event], object]) -> None:
        super().__init__()
        self._on_event = on_event

    def on_receive(self, message: "list[Event] | Finish") -> None:
        if isinstance(message, Finish):
            message.done()
            self.exit()
        for event in message:
            try:
                self._on_event(event)
            except BaseException as error:  # SystemExit too: this thread is no place to leave from
                log.error("on_event_failed", error=type(error).__name__)


class Listening:
    """A call's way to its listener. `tell` and `finish` never block and never raise."""

    def __init__(self, listener: ActorRef[Any], loop: asyncio.AbstractEventLoop, unfinished: set[Callable[[], None]]) -> None:
        self._inbox: Any = listener.actor_inbox
        self._alive = listener.is_alive
        self._loop = loop
        self._unfinished = unfinished

    def tell(self, events: list[Event]) -> None:
        """These happened."""
        if len(self._inbox.user) > _BACKLOG:
            events = [event for event in events if not isinstance(event, _DELTAS)]
        if events:
            self._inbox.put_message(events)

    def finish(self, done: Callable[[], None]) -> None:
        """Calls `done` once the callback has seen everything, or after a grace; more than once does no harm."""

        def settled() -> None:
            self._unfinished.discard(settled)
            done()

        if not self._alive():
            done()
            return
        self._unfinished.add(settled)
        self._inbox.put_message(Finish(settled))
        try:
            self._loop.call_soon_threadsafe(self._loop.call_later, _GRACE, settled)
        except RuntimeError:
            settled()  # the loop is closed: nobody would look at the clock


class Errand(Actor):
    """Calls one function: (True, its value) or (False, what it raised, as text)."""

    def on_receive(self, message: tuple[Callable[..., Any], tuple[Any, ...]]) -> None:
        function, args = message
        try:
            outcome: tuple[bool, Any] = (True, function(*args))
        except BaseException as error:
            outcome = (False, f"{type(error).__name__}: {error}")
        self.reply(outcome)
        self.exit()
